//! A hostile claude that will not end, floods or crashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::spawn::{ExitCause, Signal};
use tests::harness::spawnd::{Settings, folder, install, until};
use tests::harness::{have_root, processes};
use tests::hostile_claude::Attempt;

use super::stage::Stage;

/// Processes of a user whose program is the hostile claude of this daemon.
fn of_session(session: &str) -> Vec<u32> {
    processes::with_argument(Path::new(session), "--mcp-config")
}

#[test]
fn ignoring_sigterm_and_sighup_gains_a_few_seconds_at_most() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (attacker, report) = stage.attack(&[Attempt::IgnoreSignals]);
    report.all_succeeded();
    let begin = Instant::now();
    stage.client.signal(attacker.session(), Signal::Int);
    stage.client.signal(attacker.session(), Signal::Term);
    assert_eq!(stage.client.exit_of(attacker.session()), ExitCause::Signal { signal: 9 });
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(of_session(attacker.session().as_str()), Vec::<u32>::new());
}

#[test]
fn a_daemonised_grandchild_does_not_outlive_its_session() {
    if !have_root() {
        return;
    }
    // However the session ends: killed, told to end, or by itself.
    for end in [Some(Signal::Kill), Some(Signal::Term), None] {
        let mut stage = Stage::new(Settings::default());
        let mut attempts = vec![Attempt::Daemonise("marker".into()), Attempt::KeepTerminal];
        if end.is_none() {
            attempts.push(Attempt::Exit(3));
        }
        let nobody = stage.daemon.users[0].clone();
        let attacker = stage.begin(&nobody, &attempts);
        let marker = attacker.workspace.join("marker");
        if let Some(signal) = end {
            attacker.report().all_succeeded();
            let pid: u32 =
                until("the grandchild's mark", || fs::read_to_string(&marker).ok()?.parse().ok());
            assert!(processes::lives(pid));
            stage.client.signal(attacker.session(), signal);
            stage.client.exit_of(attacker.session());
            assert!(!processes::lives(pid), "the grandchild outlived its session");
        } else {
            let cause = stage.client.exit_of(attacker.session());
            assert_eq!(cause, ExitCause::Code { code: 3 });
        }
        assert_eq!(of_session(attacker.session().as_str()), Vec::<u32>::new());
    }
}

#[test]
fn a_terminal_that_is_flooded_costs_spawnd_nothing() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let before = stage.daemon.resident();
    // One whose terminal nobody reads, and one that is read.
    let stuck = stage.begin(&nobody, &[Attempt::Flood { mebibytes: 100 }]);
    let flood = stage.begin(&nobody, &[Attempt::Flood { mebibytes: 100 }]);
    let done = flood.workspace.join("done");
    let (mut read, mut buffer) = (0_usize, vec![0; 1 << 16]);
    let mut slowest = Duration::ZERO;
    while !done.exists() {
        if tests::harness::seqpacket::readable(&flood.started.leader, Duration::from_millis(20)) {
            read += nix::unistd::read(&flood.started.leader, &mut buffer).unwrap_or(0);
        }
        if read % 64 == 0 {
            let begin = Instant::now();
            stage.client.list();
            slowest = slowest.max(begin.elapsed());
        }
    }
    assert!(read > 90 << 20, "{read} bytes");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(stage.daemon.resident() < before + 4096);
    for attacker in [&stuck, &flood] {
        stage.client.signal(attacker.session(), Signal::Kill);
    }
    stage.client.exit_of(flood.session());
    until("nothing is left", || of_session(stuck.session().as_str()).is_empty().then_some(()));
}

#[test]
fn children_by_the_hundred_are_killed_whole() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let mut attempts = vec![Attempt::IgnoreSignals];
    attempts.extend((0..300).map(|_| Attempt::KeepTerminal));
    let (attacker, report) = stage.attack(&attempts);
    report.all_succeeded();
    assert!(of_session(attacker.session().as_str()).len() > 300);
    stage.client.end(attacker.session());
    assert_eq!(of_session(attacker.session().as_str()), Vec::<u32>::new());
}

#[test]
fn exits_that_nobody_read_are_told_to_the_next_frontd() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let ended: Vec<_> = (0..3)
        .map(|code| stage.begin(&nobody, &[Attempt::Exit(code)]).started.session.clone())
        .collect();
    stage.client = {
        let Stage { client, daemon, .. } = &mut stage;
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&client.socket),
            nix::sys::socket::Shutdown::Both,
        )
        .unwrap();
        daemon.client()
    };
    until("every exit is listed", || {
        let listed = stage.client.list();
        let is_over = |session: &proto::ids::SessionId| {
            listed.iter().any(|one| {
                one.session == *session
                    && matches!(one.state, proto::spawn::ListedState::Exited { .. })
            })
        };
        ended.iter().all(is_over).then_some(())
    });
}

/// Sets the machine's core pattern back.
struct CorePattern(String);

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

impl CorePattern {
    fn set(pattern: &str) -> Option<Self> {
        let before = fs::read_to_string(CORE_PATTERN).ok()?;
        fs::write(CORE_PATTERN, pattern).ok()?;
        Some(Self(before))
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        let _ = fs::write(CORE_PATTERN, &self.0);
    }
}

#[test]
fn a_crash_under_a_piped_core_pattern_starts_no_program_as_root() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    // Root's program, run by the kernel outside of every sandbox; the marks it leaves are named by
    // the crashed program.
    let marks = PathBuf::from(format!("/var/lib/synh-cores-{}", std::process::id()));
    folder(&marks, 0, 0o755);
    let program = marks.join("look");
    install("hostile-claude", &program);
    let pattern = format!("|{} --look {}/%e", program.display(), marks.display());
    let Some(guard) = CorePattern::set(&pattern) else {
        tests::harness::skip("core_pattern cannot be written");
        return;
    };
    // The pattern works: a crash outside of any session is seen.
    let mut crash = std::process::Command::new("sh");
    crash.args(["-c", "ulimit -c unlimited; kill -SEGV $$"]).current_dir("/");
    crash.status().unwrap();
    until("the pattern's program ran", || marks.join("sh").exists().then_some(()));

    let nobody = stage.daemon.users[0].clone();
    for signal in [11, 6] {
        let attacker = stage.begin(&nobody, &[Attempt::Crash(signal)]);
        let cause = stage.client.exit_of(attacker.session());
        assert_eq!(cause, ExitCause::Signal { signal });
        assert!(attacker.workspace.join("crashing").exists());
    }
    drop(guard);
    let seen: Vec<_> = fs::read_dir(&marks).unwrap().map(|e| e.unwrap().file_name()).collect();
    fs::remove_dir_all(&marks).unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
}
