//! A hostile claude and others: the daemons, its user's other session, sockets, readiness.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::spawn::{ListedState, Signal};
use tests::harness::have_root;
use tests::harness::spawnd::{NOBODY, Settings, folder, listener};
use tests::hostile_claude::{Attempt, Outcome};

use super::stage::{Stage, write_attempts};

/// Everything that can be tried on a process.
fn harass(pid: u32) -> Vec<Attempt> {
    let pid = i32::try_from(pid).unwrap();
    let mut attempts = vec![Attempt::Trace(pid), Attempt::Starve(pid)];
    attempts.extend([0, 9, 15, 18, 19].map(|signal| Attempt::Kill { pid, signal }));
    attempts.extend(
        ["environ", "mem", "maps", "fd", "cwd/", "root/etc", "cmdline", "status", "auxv", "stack"]
            .map(|name| Attempt::Proc { pid, file: name.to_owned() }),
    );
    attempts
}

#[test]
fn the_daemons_can_neither_be_traced_killed_nor_read() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    // This process plays frontd.
    let mut attempts = harass(stage.daemon.pid());
    attempts.extend(harass(std::process::id()));
    attempts.push(Attempt::Proc { pid: 1, file: "environ".to_owned() });
    stage.attack(&attempts).1.all_denied();
    assert_eq!(stage.client.list().len(), 1);
}

#[test]
fn another_session_of_the_same_user_can_neither_be_traced_killed_nor_read() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let victim = stage.begin(&nobody, &[]);
    victim.report();
    stage.attack(&harass(victim.started.pid)).1.all_denied();
    let lives = stage
        .client
        .list()
        .into_iter()
        .filter(|listed| matches!(listed.state, ListedState::Running { .. }));
    assert_eq!(lives.count(), 2);
}

#[test]
fn sockets_that_start_things_elsewhere_are_out_of_reach() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let own = std::process::id();
    let mut scraps = Vec::new();
    let mut decoys = Vec::new();
    let mut decoy = |path: String| {
        let path = PathBuf::from(path);
        let top = path.parent().unwrap().to_owned();
        if !top.exists() {
            folder(&top, NOBODY, 0o777);
            scraps.push(top);
        }
        let _ = std::fs::remove_file(&path);
        decoys.push((listener(&path), path.clone()));
        Attempt::Connect(path)
    };
    let mut attempts = vec![
        decoy(format!("/run/synh-docker-{own}.sock")),
        decoy(format!("/run/synh-{own}-frontd/http.sock")),
        decoy(format!("/run/user/synh-{own}/bus")),
        decoy(format!("/tmp/synh-tmux-{own}/default")),
        decoy(format!("/var/tmp/synh-agent-{own}/agent.1")),
        decoy(format!("/dev/shm/synh-{own}.sock")),
        decoy(format!("/home/synh-{own}/agent.sock")),
        decoy(format!("/root/synh-{own}/agent.sock")),
    ];
    for usual in [
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/docker.sock",
        "/run/systemd/notify",
        "/run/systemd/journal/socket",
        "/var/run/docker.sock",
    ] {
        attempts.push(Attempt::Connect(usual.into()));
    }
    // As if spawnd's own socket had been opened to everybody.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(stage.daemon.place.socket(), open).unwrap();
    attempts.push(Attempt::Connect(stage.daemon.place.socket()));
    let name = format!("synh-abstract-{own}");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    attempts.push(Attempt::ConnectAbstract(name));

    let (_, report) = stage.attack(&attempts);
    for (_, path) in &decoys {
        let _ = std::fs::remove_file(path);
    }
    for folder in scraps {
        let _ = std::fs::remove_dir(folder);
    }
    report.all_denied();
}

#[test]
fn the_bridge_is_within_reach() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let bridge = stage.daemon.place.run.join("bridge/bridge.sock");
    let line = stage.attempt(Attempt::Connect(bridge));
    assert_eq!(line.outcome, Outcome::Succeeded, "{line:?}");
}

fn ready(path: Option<PathBuf>, text: &str, fds: usize, times: u32) -> Attempt {
    Attempt::Notify { path, text: text.to_owned(), fds, times }
}

#[test]
fn readiness_cannot_be_said_for_another_session() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let victim = stage.begin(&nobody, &[Attempt::OwnFiles]);
    let own = victim.report().0.remove(0).detail;
    let path = PathBuf::from(own["folder"].as_str().unwrap()).join("notify");
    let host = stage.daemon.place.run.join("sessions").join(victim.session().as_str());
    let (attacker, _) = stage.attack(&[
        ready(Some(path), "READY=1", 0, 3),
        ready(Some(host.join("notify")), "READY=1", 0, 3),
        ready(None, "READY=1", 0, 1),
    ]);
    // Its own counts, and comes later than what it said before.
    assert!(stage.saw_ready(attacker.session(), Duration::from_secs(10)));
    for listed in stage.client.list() {
        if listed.session == *victim.session() {
            let silent = matches!(listed.state, ListedState::Running { ready: None, .. });
            assert!(silent, "{listed:?}");
        }
    }
}

#[test]
fn readiness_with_descriptors_or_odd_words_does_not_count_and_leaks_nothing() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let idle = stage.begin(&nobody, &[]);
    idle.report();
    let before = stage.daemon.descriptors();
    stage.client.end(idle.session());
    let (attacker, _) = stage.attack(&[
        ready(None, "READY=1", 200, 3),
        ready(None, "READY=1\n", 1, 3),
        ready(None, "READY=10", 0, 1),
        ready(None, "STATUS=READY=1", 0, 1),
        ready(None, "\0READY=1", 0, 1),
        ready(None, "READY=1\0", 0, 1),
        ready(None, "FDSTORE=1\nFDNAME=x", 2, 1),
        ready(None, "MAINPID=1\nWATCHDOG=trigger\nSTATUS=\x1b]0;owned\x07", 0, 1),
        ready(None, &format!("READY=1\n{}", "x".repeat(4000)), 0, 1),
    ]);
    assert!(!stage.saw_ready(attacker.session(), Duration::from_millis(800)));
    // Where the kernel lets them come, a child closes them, and spawnd holds one end to it.
    assert!(stage.daemon.descriptors() <= before + 1);
}

#[test]
fn a_hundred_thousand_notifications_keep_nobody_waiting() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let before = stage.daemon.resident();
    let flood = [ready(None, "STATUS=x", 0, 50_000), ready(None, "READY=0", 4, 50_000)];
    let attacker = stage.begin(&nobody, &flood);
    let (mut slowest, mut lists) = (Duration::ZERO, 0);
    while !attacker.workspace.join("done").exists() {
        let begin = Instant::now();
        stage.client.list();
        slowest = slowest.max(begin.elapsed());
        lists += 1;
    }
    assert!(lists > 0 && slowest < Duration::from_secs(1), "{lists} lists, slowest {slowest:?}");
    assert!(stage.daemon.resident() < before + 4096);
    // Its one word afterwards counts, in this session or the next.
    let workspace = stage.workspace(&nobody);
    write_attempts(&workspace, &nobody, &[ready(None, "READY=1", 0, 1)]);
    let next = stage.client.spawn(&stage.daemon.request(&workspace)).unwrap();
    assert!(stage.saw_ready(&next.session, Duration::from_secs(10)));
    stage.client.signal(attacker.session(), Signal::Kill);
}
