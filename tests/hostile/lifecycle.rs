//! What survives what, under a real systemd: spawnd's restart and crash, its stop, sessions that
//! want all memory or all processes, scopes and records that are none of spawnd's.

use std::fs;

use proto::ids::SessionId;
use proto::spawn::{Answer, Call, ExitCause, Listed, ListedState, RefusalCode, Signal, Spawn};
use tests::harness::seqpacket::Started;
use tests::harness::spawnd::{conversation, until};

use tests::harness::machine::{ECHO, Machine, SERVICE, adopt, ready_of, talk};

#[test]
fn sessions_survive_a_restart_and_a_crash() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let started: Vec<Started> = (0..3).map(|_| machine.spawn(&mut client, ECHO)).collect();
    let [one, two, three] = started.try_into().unwrap();
    talk(&one.leader, "ready");
    ready_of(&mut client, &one.session);
    let before = client.list();
    assert!(before.iter().all(|s| matches!(s.state, ListedState::Running { .. })));
    // Only systemd's copies are left of the terminals.
    for leader in [one.leader, two.leader, three.leader] {
        drop(leader);
    }
    drop(client);

    machine.systemctl(&["restart", SERVICE]);
    let mut client = machine.client();
    assert_eq!(client.list(), before);
    talk(&adopt(&mut client, &one.session), "after the restart");
    drop(client);
    machine.crash();
    let mut client = machine.client();
    assert_eq!(client.list(), before);
    talk(&adopt(&mut client, &one.session), "after the crash");
    talk(&adopt(&mut client, &two.session), "ready");
    ready_of(&mut client, &two.session);

    client.signal(&two.session, Signal::Term);
    client.exit_of(&two.session);
    client.signal(&three.session, Signal::Kill);
    client.exit_of(&three.session);
    assert!(!machine.container.has_process(three.pid));
    until("one scope", || (machine.scopes().lines().count() == 1).then_some(()));
    // Their records went with them.
    drop(client);
    machine.systemctl(&["restart", SERVICE]);
    let left: Vec<SessionId> =
        machine.client().list().into_iter().map(|listed| listed.session).collect();
    assert_eq!(left, [one.session]);
}

#[test]
fn an_end_that_nobody_saw_is_told_after_the_restart() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let started = machine.spawn(&mut client, ECHO);
    drop(client);
    machine.systemctl(&["kill", "--kill-whom=main", "--signal=STOP", SERVICE]);
    machine.container.say(&["kill", "-KILL", &started.pid.to_string()]);
    machine.crash();
    let mut client = machine.client();
    let cause = match client.list().as_slice() {
        [listed] => match listed.state {
            ListedState::Exited { cause, .. } => cause,
            ListedState::Starting {} | ListedState::Running { .. } => {
                client.exit_of(&started.session)
            }
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(cause, ExitCause::Unknown {});
}

#[test]
fn a_stop_leaves_no_process_and_no_scope() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let deaf = "trap '' TERM HUP; sleep 1000 & echo $! > child; while :; do sleep 1000; done";
    let started = machine.spawn(&mut client, deaf);
    let child: u32 = machine.written(&started.session, "child").parse().unwrap();
    assert!(machine.container.has_process(child));
    machine.systemctl(&["stop", SERVICE]);
    assert!(!machine.container.has_process(child));
    assert!(!machine.container.has_process(started.pid));
    assert_eq!(machine.scopes(), "");
    // The store was emptied too.
    drop(client);
    assert_eq!(machine.client().list(), []);
}

#[test]
fn a_claude_that_wants_all_memory_is_told_as_out_of_memory() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let other = machine.spawn(&mut client, ECHO);
    let hog = machine.spawn(&mut client, "exec tail /dev/zero");
    let c = client.exit_of(&hog.session);
    assert_eq!(c, ExitCause::Oom {}, "{}", machine.log());
    // A kill that is none of the kernel's is told as what it is.
    let killed = machine.spawn(&mut client, "kill -KILL $$");
    assert_eq!(client.exit_of(&killed.session), ExitCause::Signal { signal: 9 });
    talk(&other.leader, "still here");
}

#[test]
fn a_fork_bomb_reaches_the_limit_of_its_scope_and_no_further() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let bomb = "(while :; do sleep 1000 & done) 2>error; echo full > full; exec cat";
    let started = machine.spawn(&mut client, bomb);
    machine.written(&started.session, "full");
    let scope = format!("synthesis-{}.scope", started.session);
    let tasks = machine.systemctl(&["show", "--value", "--property=TasksCurrent", &scope]);
    let tasks: u64 = tasks.parse().unwrap();
    assert!((60..=64).contains(&tasks), "{tasks} tasks");
    let other = machine.spawn(&mut client, ECHO);
    talk(&other.leader, "room for others");
    assert_eq!(client.end(&started.session), ExitCause::Signal { signal: 9 });
    until("one scope", || (machine.scopes().lines().count() == 1).then_some(()));
}

#[test]
fn a_grandchild_that_became_a_daemon_dies_with_the_scope() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let script = "setsid sh -c 'sleep 1000 & echo $! > orphan' < /dev/null > /dev/null 2>&1
        read -r line; exit 7";
    let started = machine.spawn(&mut client, script);
    let orphan: u32 = machine.written(&started.session, "orphan").parse().unwrap();
    assert!(machine.container.has_process(orphan));
    nix::unistd::write(&started.leader, b"end\n").unwrap();
    assert_eq!(client.exit_of(&started.session), ExitCause::Code { code: 7 });
    assert!(!machine.container.has_process(orphan));
}

#[test]
fn a_scope_without_a_record_is_killed_and_a_foreign_unit_left() {
    let Some(machine) = Machine::boot() else { return };
    drop(machine.client());
    let scope = |unit: &str| {
        let command = ["systemd-run", "--quiet", "--scope", "--slice=synthesis-sessions.slice"];
        let unit = format!("--unit={unit}");
        machine.container.start(&[&command[..], &[&unit, "sleep", "1000"]].concat())
    };
    let ours = format!("synthesis-{}", SessionId::random());
    let mut lost = scope(&ours);
    let mut foreign = scope("synthesis-somebody");
    until("two scopes", || (machine.scopes().lines().count() == 2).then_some(()));
    machine.systemctl(&["restart", SERVICE]);
    drop(machine.client());
    assert!(!lost.wait().unwrap().success());
    assert!(foreign.try_wait().unwrap().is_none());
    assert!(machine.scopes().contains("synthesis-somebody.scope"));
    machine.systemctl(&["stop", "synthesis-somebody.scope"]);
    foreign.wait().unwrap();
}

#[test]
fn a_scope_that_cannot_be_made_is_a_failed_start_and_its_conversation_is_free() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let mut request = machine.request(ECHO);
    let unit = format!("--unit=synthesis-{}.scope", request.session);
    let command = ["systemd-run", "--quiet", "--scope", "--slice=synthesis-sessions.slice", &unit];
    let mut holder = machine.container.start(&[&command[..], &["sleep", "1000"]].concat());
    until("the name is taken", || (machine.scopes().lines().count() == 1).then_some(()));
    let (code, message) = client.spawn(&request).err().unwrap();
    assert_eq!(code, RefusalCode::StartFailed);
    assert!(message.contains("scope"), "{message}");
    // What had the name is none of a session.
    holder.wait().unwrap();
    request.session = SessionId::random();
    let started = client.spawn(&request).unwrap();
    talk(&started.leader, "free");
}

#[test]
fn hundreds_of_sessions_survive_a_restart() {
    const COUNT: usize = 250;
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let request = machine.request("exec cat");
    for _ in 0..COUNT {
        let session = SessionId::random();
        let request = Spawn { session, conversation: conversation(), ..request.clone() };
        client.spawn(&request).unwrap();
    }
    drop(client);
    machine.systemctl(&["restart", SERVICE]);
    let mut client = machine.client();
    let (mut found, mut after) = (0, None);
    while let (Answer::Sessions { sessions, more }, _) = client.call(Call::List { after }) {
        let running = |listed: &&Listed| matches!(listed.state, ListedState::Running { .. });
        found += sessions.iter().filter(running).count();
        if !more {
            break;
        }
        after = sessions.last().map(|listed| listed.session.clone());
    }
    assert_eq!(found, COUNT, "{}", machine.log());
}

#[test]
fn a_claude_that_ends_at_once_was_started_all_the_same() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    for _ in 0..20 {
        let started = machine.spawn(&mut client, "exit 3");
        assert_eq!(client.exit_of(&started.session), ExitCause::Code { code: 3 });
    }
}

#[test]
fn systemd_hears_that_the_loop_turns_while_nothing_happens() {
    let Some(machine) = Machine::boot() else { return };
    // Returns when systemd has heard READY=1.
    machine.systemctl(&["start", SERVICE]);
    let heard = || {
        machine.systemctl(&["show", "--value", "--property=WatchdogTimestampMonotonic", SERVICE])
    };
    let (first, pid) = (heard(), machine.main_pid());
    until("the watchdog's next sign", || (heard() != first).then_some(()));
    // Else the sign is that of the next one.
    assert_eq!(machine.main_pid(), pid);
}

/// Clock ticks of processor time that spawnd used within a second.
fn ticks_of_a_second(machine: &Machine) -> u64 {
    let stat = machine.container.path(&format!("/proc/{}/stat", machine.main_pid()));
    let used = || {
        let stat = fs::read_to_string(&stat).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = used();
    std::thread::sleep(std::time::Duration::from_secs(1));
    used() - before
}

#[test]
fn a_loop_without_news_sleeps_whatever_happened_before() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    // A child that the kernel kills for its memory, below a claude that lives on.
    let scarred = machine.spawn(&mut client, "tail /dev/zero; echo done > told; exec cat");
    machine.written(&scarred.session, "told");
    let over = machine.spawn(&mut client, "exec tail /dev/zero");
    client.exit_of(&over.session);
    assert!(ticks_of_a_second(&machine) < 20, "after an end for want of memory");
    drop(client);
    machine.systemctl(&["restart", SERVICE]);
    let mut client = machine.client();
    assert!(ticks_of_a_second(&machine) < 20, "after a restart");
    client.end(&scarred.session);
    drop(client);
    assert!(ticks_of_a_second(&machine) < 20, "after the end of a session that was taken back");
}

/// Puts a pidfd of process `victim` in the place of a session's, and a lot that is nobody's.
const FORGE: &str = r#"
import os, socket, sys
session, victim = sys.argv[1], int(sys.argv[2])
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])
manager.send(f"FDSTOREREMOVE=1\nFDNAME={session}.pidfd\n".encode())
null = os.open("/dev/null", os.O_RDONLY)
for name, fd in [
    (f"{session}.pidfd", os.pidfd_open(victim)),
    ("a" * 26 + ".leader", null),
    ("odd name", null),
    (f"{session}.", null),
    ("a" * 26 + ".facts", null),
    ("b" * 26 + ".pidfd", os.pidfd_open(victim)),
]:
    message = f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}\n".encode()
    socket.send_fds(manager, [message], [fd])
"#;

#[test]
fn a_record_that_does_not_fit_kills_nothing_and_is_not_served() {
    let Some(machine) = Machine::boot() else { return };
    if !machine.container.run(&["python3", "-c", "import os; os.pidfd_open(1)"]).status.success() {
        tests::harness::skip("needs a python3 with pidfd_open");
        return;
    }
    let mut client = machine.client();
    let request = machine.request(ECHO);
    let forged = client.spawn(&request).unwrap();
    let honest = machine.spawn(&mut client, ECHO);
    drop(client);

    // Only a process of the unit is heard by systemd: this one is its reload.
    fs::write(machine.container.path("/forge.py"), FORGE).unwrap();
    let drop_in = machine.container.path("/run/systemd/system/synthesis-spawnd.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    let victim = honest.pid;
    let unit = format!(
        "[Service]\nNotifyAccess=all\nExecReload=/usr/bin/env python3 /forge.py {} {victim}\n",
        forged.session
    );
    fs::write(drop_in.join("forge.conf"), unit).unwrap();
    machine.systemctl(&["daemon-reload"]);
    machine.systemctl(&["reload", SERVICE]);
    machine.systemctl(&["restart", SERVICE]);

    let mut client = machine.client();
    let listed: Vec<SessionId> = client.list().into_iter().map(|listed| listed.session).collect();
    assert_eq!(listed.as_slice(), std::slice::from_ref(&honest.session));
    machine.waits_for_log("1 sessions are left alone");
    for pid in [forged.pid, honest.pid] {
        assert!(machine.container.has_process(pid));
    }
    talk(&adopt(&mut client, &honest.session), "unharmed");
    // Its conversation has a claude, if not one that is served.
    let mut again = machine.request(ECHO);
    again.conversation = request.conversation;
    assert_eq!(client.spawn(&again).err().unwrap().0, RefusalCode::StillRunning);
    again.conversation = conversation();
    again.session = forged.session.clone();
    assert_eq!(client.spawn(&again).err().unwrap().0, RefusalCode::StillRunning);
    assert!(machine.container.has_process(forged.pid));
    machine.systemctl(&["stop", SERVICE]);
    assert!(!machine.container.has_process(forged.pid));
}
