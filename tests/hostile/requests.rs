//! A hostile frontd with the right uid: requests for what policy does not give.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::ids::{Instructions, SessionId, UnixUser};
use proto::spawn::{Call, FromFrontd, RefusalCode, Signal, Spawn};
use tests::harness::have_root;
use tests::harness::spawnd::{Daemon, NOBODY, OTHER, Settings, User, file, folder};
use tests::hostile_claude::Attempt;

use super::stage::{Stage, write_attempts};

fn stage() -> Stage {
    Stage::new(Settings::default())
}

#[test]
fn root_system_and_unknown_users_are_refused() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let nobody = stage.daemon.users[0].clone();
    let workspace = stage.workspace(&nobody);
    for name in ["root", "daemon", "bin", "www-data", "synthesis", "systemd-network", "nosuch"] {
        let mut request = stage.daemon.request(&workspace);
        request.user = UnixUser::new(name).unwrap();
        let refused = stage.client.spawn(&request).unwrap_err();
        assert_eq!(refused.0, RefusalCode::UserNotAllowed, "{name}: {refused:?}");
    }
}

#[test]
fn modes_and_models_outside_policy_are_refused() {
    if !have_root() {
        return;
    }
    let user = User::nobody().with("permission_modes = [\"plan\"]").with("models = [\"opus\"]");
    let mut stage = Stage::new(Settings { users: vec![user.clone()], ..Settings::default() });
    let workspace = stage.workspace(&user);
    let request = stage.daemon.request(&workspace);
    assert_eq!(stage.client.spawn(&request).unwrap_err().0, RefusalCode::NotAllowed);
    let mut request = stage.daemon.request(&workspace);
    request.permission_mode = proto::spawn::PermissionMode::Plan;
    request.model = Some(proto::ids::ModelName::new("sonnet").unwrap());
    assert_eq!(stage.client.spawn(&request).unwrap_err().0, RefusalCode::NotAllowed);
}

#[test]
fn instructions_are_policys_to_allow_and_stand_in_no_record() {
    if !have_root() {
        return;
    }
    let users = vec![User::nobody(), User::other().with("instructions = true")];
    let mut stage = Stage::new(Settings { users: users.clone(), ..Settings::default() });
    let asked = |stage: &mut Stage, user: &User| {
        let workspace = stage.workspace(user);
        let mut request = stage.daemon.request_of(user, &workspace);
        request.instructions = Instructions::new("between us two\n".to_owned()).ok();
        stage.client.spawn(&request)
    };
    let [not_told, told] = &users[..] else { panic!() };
    assert_eq!(asked(&mut stage, not_told).unwrap_err().0, RefusalCode::NotAllowed);
    let started = asked(&mut stage, told).unwrap();
    let log = stage.daemon.place.log();
    assert!(log.contains("may not be given instructions"), "{log}");
    assert!(log.contains(&format!("session {} allowed", started.session)), "{log}");
    assert!(!log.contains("between us"), "{log}");
}

/// The code with which a workspace of the first user is refused.
#[track_caller]
fn refused(stage: &mut Stage, workspace: &Path) -> RefusalCode {
    let request = stage.daemon.request(workspace);
    let refused = stage.client.spawn(&request);
    refused.expect_err(&format!("{} was entered", workspace.display())).0
}

#[test]
fn a_dotted_workspace_does_not_even_decode() {
    if !have_root() {
        return;
    }
    let daemon = Daemon::start(Settings::default());
    let workspace = daemon.place.workspace(&daemon.users[0], "w");
    let call = Call::Spawn(Box::new(daemon.request(&workspace)));
    let text = serde_json::to_string(&FromFrontd::Request { id: 1, call }).unwrap();
    for dotted in ["w/../../../../../../etc", "w/..", "./w", "w/.", "w//", "w/"] {
        let bent = text.replace("/ws/nobody/w\"", &format!("/ws/nobody/{dotted}\""));
        assert_ne!(bent, text);
        let mut client = daemon.client();
        client.send(bent.as_bytes());
        assert!(client.ends(), "{dotted}");
    }
}

#[test]
fn a_workspace_outside_the_roots_is_refused() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let other = stage.daemon.place.workspace(&User::other(), "theirs");
    let beside = stage.daemon.place.path.join("ws/nobody-else");
    folder(&beside, NOBODY, 0o755);
    for path in [
        Path::new("/"),
        Path::new("/etc"),
        Path::new("/root"),
        &other,
        &beside,
        Path::new("/proc/self/cwd"),
        Path::new("/proc/1/root"),
        Path::new("/dev/fd/3"),
    ] {
        assert_eq!(refused(&mut stage, path), RefusalCode::WorkspaceNotAllowed, "{path:?}");
    }
}

#[test]
fn a_workspace_that_is_a_link_a_file_foreign_or_changeable_by_others_is_refused() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let nobody = stage.daemon.users[0].clone();
    let root = stage.daemon.place.root(&nobody);
    let good = stage.workspace(&nobody);
    symlink("/etc", root.join("to-etc")).unwrap();
    symlink(&good, root.join("to-good")).unwrap();
    symlink("/proc/self/cwd", root.join("to-cwd")).unwrap();
    symlink(good.file_name().unwrap(), root.join("to-beside")).unwrap();
    folder(&good.join("inside"), NOBODY, 0o755);
    file(&root.join("file"), "", NOBODY, 0o644);
    folder(&root.join("foreign"), OTHER, 0o777);
    folder(&root.join("roots"), 0, 0o755);
    folder(&root.join("group"), NOBODY, 0o775);
    std::os::unix::fs::chown(root.join("group"), None, Some(OTHER)).unwrap();
    folder(&root.join("group/w"), NOBODY, 0o755);
    folder(&root.join("everybody"), NOBODY, 0o777);
    folder(&root.join("everybody/w"), NOBODY, 0o755);
    folder(&root.join("theirs"), OTHER, 0o755);
    folder(&root.join("theirs/w"), NOBODY, 0o755);
    for name in [
        "to-etc",
        "to-good",
        "to-good/inside",
        "to-cwd",
        "to-beside",
        "to-beside/inside",
        "file",
        "file/w",
        "foreign",
        "roots",
        "group/w",
        "everybody/w",
        "theirs/w",
        "missing",
        "w\u{e9} --x $(id)",
    ] {
        let code = refused(&mut stage, &root.join(name));
        assert_eq!(code, RefusalCode::WorkspaceUnusable, "{name}");
    }
}

#[test]
fn spaces_dashes_and_quotes_in_a_workspace_are_only_a_name() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let nobody = stage.daemon.users[0].clone();
    for name in ["--dangerously-skip-permissions", "a b", "$(touch x)", "'\";reboot;'", "%n", "é"]
    {
        let workspace = stage.daemon.place.workspace(&nobody, name);
        write_attempts(&workspace, &nobody, &[Attempt::Facts]);
        let started = stage.client.spawn(&stage.daemon.request(&workspace)).unwrap();
        let attacker = super::stage::Attacker { started, workspace: workspace.clone() };
        let facts = attacker.report().0.remove(0).detail;
        assert_eq!(facts["folder"].as_str(), workspace.to_str());
        let arguments = facts["arguments"].as_array().unwrap();
        assert!(!arguments.iter().any(|a| a.as_str() == Some(name)), "{arguments:?}");
        stage.client.end(attacker.session());
    }
}

#[test]
fn a_workspace_swapped_while_it_is_judged_is_never_left_for_another() {
    if !have_root() {
        return;
    }
    const ROUNDS: usize = 200;
    let mut stage = Stage::new(Settings {
        tables: "[limits]\nspawns_per_second = 10000\nspawn_burst = 10000".to_owned(),
        ..Settings::default()
    });
    let nobody = stage.daemon.users[0].clone();
    let root = stage.daemon.place.root(&nobody);
    let (name, good, bad) = (root.join("w"), root.join("good"), root.join("bad"));
    for path in [&name, &good] {
        folder(path, NOBODY, 0o755);
        write_attempts(path, &nobody, &[Attempt::Exit(0)]);
    }
    fs::remove_dir_all(&good).unwrap();
    // Where it must never run: root's, with attempts of its own that would be found.
    let trap = stage.daemon.place.path.join("ws/trap");
    folder(&trap, NOBODY, 0o777);
    write_attempts(&trap, &nobody, &[Attempt::Write("caught".into()), Attempt::Exit(7)]);
    symlink(&trap, &bad).unwrap();

    let stop = AtomicBool::new(false);
    let entered = std::thread::scope(|scope| {
        // Also when a claim below fails.
        let _end = OnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // w: the folder, nothing, a link into the trap, nothing, the folder …
                let _ = fs::rename(&name, &good);
                let _ = fs::rename(&bad, &name);
                let _ = fs::rename(&name, &bad);
                let _ = fs::rename(&good, &name);
            }
        });
        let mut entered = 0;
        for _ in 0..ROUNDS {
            let request = stage.daemon.request(&name);
            match stage.client.spawn(&request) {
                Ok(started) => {
                    entered += 1;
                    let cause = stage.client.exit_of(&started.session);
                    let code = proto::spawn::ExitCause::Code { code: 0 };
                    let said = said(&started);
                    assert_eq!(cause, code, "it ran elsewhere: {said}");
                }
                Err((code, message)) => {
                    // The latter: it was gone when it was to be mounted.
                    let right = [RefusalCode::WorkspaceUnusable, RefusalCode::StartFailed];
                    assert!(right.contains(&code), "{code:?}: {message}");
                }
            }
        }
        entered
    });
    assert!(!trap.join("caught").exists());
    assert!((1..ROUNDS).contains(&entered), "the swap was never seen: {entered}");
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What stands on the terminal of a session that is over.
fn said(started: &tests::harness::seqpacket::Started) -> String {
    let mut text = vec![0; 4096];
    let len = nix::unistd::read(&started.leader, &mut text).unwrap_or(0);
    String::from_utf8_lossy(&text[..len]).into_owned()
}

#[test]
fn a_live_session_is_neither_started_again_nor_doubled() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let nobody = stage.daemon.users[0].clone();
    let (_, first) = stage.prepare(&nobody, &[]);
    stage.client.spawn(&first).unwrap();
    // The same session id for another user and conversation; the same conversation again.
    let other = stage.workspace(&nobody);
    let same_session = Spawn { session: first.session.clone(), ..stage.daemon.request(&other) };
    let same_talk = Spawn { conversation: first.conversation, ..stage.daemon.request(&other) };
    for request in [same_session, same_talk] {
        let refused = stage.client.spawn(&request).unwrap_err();
        assert_eq!(refused.0, RefusalCode::StillRunning, "{refused:?}");
    }
    // Nor is its id free after its end, while the end is kept.
    stage.client.end(&first.session);
    assert_eq!(stage.client.spawn(&first).unwrap_err().0, RefusalCode::StillRunning);
}

#[test]
fn a_foreign_process_or_session_cannot_be_signalled() {
    if !have_root() {
        return;
    }
    let mut stage = stage();
    let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
    let session = SessionId::random();
    for call in [
        Call::Signal { session: session.clone(), signal: Signal::Kill },
        Call::Adopt { session: session.clone() },
        Call::Forget { session },
    ] {
        assert_eq!(stage.client.refusal(call), RefusalCode::NoSession);
    }
    for body in [
        format!(r#"{{"signal":{{"session":"{}","signal":"kill"}}}}"#, victim.id()),
        format!(r#"{{"signal":{{"pid":{},"signal":"kill"}}}}"#, victim.id()),
        r#"{"signal":{"session":"abcdefghijklmnopqrstuvwx27","signal":9}}"#.to_owned(),
        r#"{"signal":{"session":"abcdefghijklmnopqrstuvwx27","signal":"stop"}}"#.to_owned(),
    ] {
        let mut client = stage.client;
        client.send(format!(r#"{{"request":{{"id":5,"call":{body}}}}}"#).as_bytes());
        assert!(client.ends(), "{body}");
        stage.client = stage.daemon.client();
    }
    assert!(victim.try_wait().unwrap().is_none(), "the foreign process died");
    victim.kill().unwrap();
    victim.wait().unwrap();
}
