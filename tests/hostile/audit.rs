//! The audit record in a real journal: what is in it, whose word it is, and what becomes of it
//! under a flood and without a journal. Outside systemd: the same fields as JSON lines on stderr.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use proto::ids::{SessionId, TokenText, UnixUser};
use proto::spawn::{Answer, Call, Credential, ExitCause, Proof, RefusalCode, Signal, Spawn, Who};
use serde_json::Value;
use tests::harness::have_root;
use tests::harness::seqpacket::{Client, Incoming};
use tests::harness::spawnd::{Daemon, PATIENCE, Place, Settings, absolute, until};

use tests::harness::machine::{ECHO, Machine, SERVICE, UID, USER, adopt, ready_of, talk};

const DOC: &str = include_str!("../../docs/audit.md");
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The fields of an entry.
type Fields = BTreeMap<String, Value>;

/// The `MESSAGE_ID` of a kind, as documented.
fn id_of(kind: &str) -> &'static str {
    let row = DOC.lines().find_map(|line| line.strip_prefix(&format!("| {kind} | `")));
    row.and_then(|rest| rest.split('`').next())
        .unwrap_or_else(|| panic!("{kind} is not documented"))
}

/// What the documented way to ask finds of one kind.
fn entries(machine: &Machine, kind: &str) -> Vec<Fields> {
    let id = format!("MESSAGE_ID={}", id_of(kind));
    let unit = format!("_SYSTEMD_UNIT={SERVICE}");
    machine.container.say(&["journalctl", "--sync"]);
    let found = machine.container.say(&["journalctl", "_UID=0", &unit, &id, "-o", "json", "--all"]);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(entry: &'a Fields, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {entry:?}"))
}

/// The one entry of a kind about a session.
fn entry_of(machine: &Machine, kind: &str, session: &SessionId) -> Fields {
    let is_its = |entry: &Fields| {
        entry.get("SYNTHESIS_SESSION").and_then(Value::as_str) == Some(session.as_str())
    };
    let found = until(kind, || {
        let found: Vec<_> = entries(machine, kind).into_iter().filter(|e| is_its(e)).collect();
        (!found.is_empty()).then_some(found)
    });
    let [entry] = found.try_into().unwrap_or_else(|found| panic!("one {kind}, not {found:?}"));
    assert_eq!(text(&entry, "_EXE"), "/usr/libexec/synthesis/spawnd");
    entry
}

fn required(machine: &Machine) {
    let file = machine.container.path("/etc/synthesis/spawnd.toml");
    let toml = fs::read_to_string(&file).unwrap();
    fs::write(&file, toml.replace("audit = \"best-effort\"", "audit = \"required\"")).unwrap();
}

#[test]
fn what_happens_to_a_session_is_in_the_journal_by_spawnds_own_word() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let request = machine.request(ECHO);
    let started = client.spawn(&request).unwrap();
    talk(&started.leader, "ready");
    ready_of(&mut client, &started.session);
    adopt(&mut client, &started.session);
    client.signal(&started.session, Signal::Kill);
    let cause = client.exit_of(&started.session);
    assert_eq!(cause, ExitCause::Signal { signal: 9 });
    let mut stranger = machine.request("exec cat");
    stranger.user = UnixUser::new("nobody").unwrap();
    assert_eq!(client.spawn(&stranger).unwrap_err().0, RefusalCode::UserNotAllowed);

    let hello = entries(&machine, "hello");
    assert!(hello.iter().all(|entry| text(entry, "SYNTHESIS_PEER_UID") == "0"));
    assert!(!hello.is_empty());
    let of = |kind| {
        let entry = entry_of(&machine, kind, &started.session);
        assert_eq!(text(&entry, "SYNTHESIS_USER"), USER, "{kind}");
        assert_eq!(text(&entry, "SYNTHESIS_CONVERSATION"), request.conversation.to_string());
        entry
    };
    let spawn = of("spawn");
    assert_eq!(text(&spawn, "SYNTHESIS_WORKSPACE"), request.workspace.as_str());
    assert_eq!(text(&spawn, "SYNTHESIS_MODE"), "acceptEdits");
    // spawnd counts processes as the journal does: both live in the container.
    assert_eq!(text(&of("started"), "SYNTHESIS_PID"), started.pid.to_string());
    assert!(text(&of("ready"), "SYNTHESIS_PID").parse::<u32>().unwrap() > 1);
    of("adopted");
    assert_eq!(text(&of("signal"), "SYNTHESIS_SIGNAL"), "kill");
    let exit = of("exit");
    assert_eq!(text(&exit, "SYNTHESIS_EXIT"), "signal 9");
    for usage in ["SYNTHESIS_USER_USEC", "SYNTHESIS_SYSTEM_USEC", "SYNTHESIS_MAX_RSS_KIB"] {
        text(&exit, usage).parse::<u64>().unwrap();
    }
    assert!(text(&exit, "SYNTHESIS_MAX_RSS_KIB") != "0");
    let refused = entry_of(&machine, "refused", &stranger.session);
    assert_eq!(text(&refused, "SYNTHESIS_USER"), "nobody");
    assert!(text(&refused, "SYNTHESIS_REASON").contains("names no user nobody"));
    assert_eq!(text(&refused, "SYNTHESIS_PEER_UID"), "0");
}

#[test]
fn a_session_taken_over_after_a_crash_is_on_record() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let started = machine.spawn(&mut client, ECHO);
    drop(client);
    machine.crash();
    drop(machine.client());
    let adopted = entry_of(&machine, "adopted", &started.session);
    assert_eq!(text(&adopted, "SYNTHESIS_USER"), USER);
}

#[test]
fn the_documented_queries_find_what_they_promise() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let started = machine.spawn(&mut client, "exit 0");
    client.exit_of(&started.session);
    let forget = Call::Forget { session: SessionId::random() };
    assert_eq!(client.refusal(forget), RefusalCode::NoSession);
    let hog = machine.spawn(&mut client, "exec tail /dev/zero");
    assert_eq!(client.exit_of(&hog.session), ExitCause::Oom {});
    let spawnd = "/usr/libexec/synthesis/spawnd";
    let token = machine.container.say(&[spawnd, "token", "add", "--user", USER]);
    let credential = Credential::Token { token: TokenText::new(token).unwrap() };
    let Answer::Verified { who: Who::Token { id, .. }, grant } =
        client.call(Call::Verify { credential }).0
    else {
        panic!("not verified")
    };
    let mut request = machine.request("exit 0");
    request.proof = Proof::Grant { grant };
    client.spawn(&request).unwrap();
    machine.container.say(&["journalctl", "--sync"]);

    let doc = DOC.replace("\\\n", " ");
    let queries: Vec<String> = doc
        .lines()
        .filter_map(|line| line.strip_prefix("    journalctl "))
        // There is none here; the installation's tests ask for what it says.
        .filter(|query| !query.contains("synthesis-frontd.service"))
        .map(|rest| rest.replace("=ID", &format!("={}", started.session)))
        .map(|rest| rest.replace("=alice", &format!("={USER}")))
        .map(|rest| rest.replace("PRINCIPAL=team", &format!("PRINCIPAL={USER}")))
        .map(|rest| rest.replace("=k3x7q2mz", &format!("={id}")))
        .collect();
    assert!(queries.len() >= 6, "{queries:?}");
    for query in queries {
        assert!(query.contains("_UID=0") && query.contains(&format!("_SYSTEMD_UNIT={SERVICE}")));
        let found = machine.container.say(&["sh", "-c", &format!("journalctl --quiet {query}")]);
        assert!(!found.is_empty(), "nothing found by: {query}");
    }
}

#[test]
fn what_a_frontd_writes_adds_no_field_and_moves_no_cursor() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let mut request = machine.request("exec cat");
    request.workspace = absolute("/elsewhere/\u{202e}SYNTHESIS_USER=root".as_ref());
    assert_eq!(client.spawn(&request).unwrap_err().0, RefusalCode::WorkspaceNotAllowed);
    let entry = entry_of(&machine, "refused", &request.session);
    let workspace = text(&entry, "SYNTHESIS_WORKSPACE");
    assert_eq!(workspace, r"/elsewhere/\u{202e}SYNTHESIS_USER=root");
    assert_eq!(text(&entry, "SYNTHESIS_USER"), USER);

    // Control characters do not even get past the decoder, whose complaint quotes nothing.
    let packet =
        br#"{"x\nSYNTHESIS_USER=root\nMESSAGE_ID=d97c119b6c2744e186a6e82fd1c80f04\u001b[2J":1}"#;
    client.send(packet);
    assert!(client.ends());
    let ended = until("the end of the connection", || entries(&machine, "goodbye").pop());
    assert_eq!(text(&ended, "SYNTHESIS_REASON"), "packet does not decode");
    assert!(!ended.contains_key("SYNTHESIS_USER"));
    assert!(entries(&machine, "started").is_empty());
}

/// Refusals in batches that the socket holds.
fn flood(client: &mut Client, count: u32) {
    const BATCH: u32 = 100;
    for _ in 0..count / BATCH {
        let ask = |_| client.ask(Call::Forget { session: SessionId::random() });
        let last = (0..BATCH).map(ask).last().unwrap();
        // Earlier answers are passed over on the way.
        loop {
            match client.wait(PATIENCE) {
                Incoming::Packet(proto::spawn::FromSpawnd::Answer { id, .. }, _) if id == last => {
                    break;
                }
                Incoming::Packet(..) => {}
                other @ (Incoming::End | Incoming::Silence) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn after_a_hundred_thousand_refusals_a_start_is_in_the_journal_and_they_are_counted() {
    const SENT: u32 = 100_000;
    let Some(machine) = Machine::boot() else { return };
    required(&machine);
    let mut client = machine.client();
    flood(&mut client, SENT);
    let started = machine.spawn(&mut client, ECHO);
    for kind in ["spawn", "started"] {
        assert_eq!(text(&entry_of(&machine, kind, &started.session), "SYNTHESIS_USER"), USER);
    }
    let refused = until("all refusals", || {
        let is_flood = |e: &&Fields| text(e, "SYNTHESIS_REASON").contains("no such session");
        let refused = entries(&machine, "refused").iter().filter(is_flood).count();
        let counts = entries(&machine, "counted");
        let counts = counts.iter().map(|e| text(e, "SYNTHESIS_COUNT").parse::<usize>().unwrap());
        let all = refused + counts.sum::<usize>();
        assert!(all <= SENT as usize, "{all} were recorded");
        (all == SENT as usize).then_some(refused)
    });
    assert!((10..2_000).contains(&refused), "{refused} written one by one");
    assert!(entries(&machine, "lost").is_empty());
}

#[test]
fn an_entry_that_others_forge_does_not_count() {
    let Some(machine) = Machine::boot() else { return };
    drop(machine.client());
    let forged = format!(
        "MESSAGE=session forged\nMESSAGE_ID={}\nPRIORITY=5\nSYSLOG_IDENTIFIER=synthesis-spawnd\n\
         SYNTHESIS_SESSION=forged\nSYNTHESIS_USER={USER}\n_UID=0\n_SYSTEMD_UNIT={SERVICE}\n",
        id_of("started")
    );
    let file = "/srv/work/forged";
    fs::write(machine.container.path(file), &forged).unwrap();
    // An ordinary user, then root, who is not the unit.
    let by_logger = ["logger", "--journald=/srv/work/forged"];
    assert!(machine.run_as(UID, &by_logger).status.success());
    machine.container.say(&by_logger);
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(forged.as_bytes(), machine.container.path(JOURNAL)).unwrap();
    machine.container.say(&["journalctl", "--sync"]);
    let all = machine.container.say(&["journalctl", "SYNTHESIS_SESSION=forged", "-o", "json"]);
    assert_eq!(all.lines().count(), 3, "they did arrive: {all}");
    let counts = |entry: &Fields| text(entry, "SYNTHESIS_SESSION") == "forged";
    assert!(!entries(&machine, "started").iter().any(counts));
}

#[test]
fn without_a_journal_nothing_new_starts_and_what_ends_is_recorded_later() {
    const UNITS: [&str; 4] = [
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-journald-audit.socket",
        "systemd-journald.service",
    ];
    let Some(machine) = Machine::boot() else { return };
    required(&machine);
    let mut client = machine.client();
    let [one, two] = [(), ()].map(|()| machine.spawn(&mut client, ECHO));
    machine.systemctl(&[&["stop"], &UNITS[..]].concat());
    let connects = || UnixDatagram::unbound().unwrap().connect(machine.container.path(JOURNAL));
    assert!(connects().is_err(), "the journal still listens");

    let request = machine.request(ECHO);
    assert_eq!(client.spawn(&request).unwrap_err().0, RefusalCode::AuditUnavailable);
    let begin = Instant::now();
    assert_eq!(client.list().len(), 2);
    assert!(begin.elapsed() < Duration::from_secs(1));
    // More than can wait: what a frontd does then must not drive out how sessions end.
    for _ in 0..5_000 {
        adopt(&mut client, &one.session);
    }
    talk(&one.leader, "goes on");
    assert_eq!(client.end(&two.session), ExitCause::Signal { signal: 9 });

    machine.systemctl(&[&["start"], &UNITS[..]].concat());
    let again = until("starts are possible again", || {
        let request = Spawn { session: SessionId::random(), ..request.clone() };
        client.spawn(&request).ok()
    });
    assert_eq!(text(&entry_of(&machine, "exit", &two.session), "SYNTHESIS_EXIT"), "signal 9");
    entry_of(&machine, "started", &again.session);
    entry_of(&machine, "refused", &request.session);
    let sum = |kind: &str| -> usize {
        let entries = entries(&machine, kind);
        entries.iter().map(|e| text(e, "SYNTHESIS_COUNT").parse::<usize>().unwrap()).sum()
    };
    // Written one by one, counted above the rate, or counted as lost: each is told of.
    until("every adoption is told of", || {
        let told = entries(&machine, "adopted").len() + sum("counted") + sum("lost");
        (told >= 5_000).then_some(())
    });
    talk(&one.leader, "still goes on");
}

/// The audit lines among what spawnd said on stderr.
fn lines(said: &str) -> Vec<Fields> {
    let json = said.lines().filter(|line| line.starts_with('{'));
    json.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn outside_systemd_the_same_fields_are_json_lines() {
    if !have_root() {
        return;
    }
    let daemon = Daemon::start(Settings::default());
    let mut client = daemon.client();
    let workspace = daemon.place.workspace(&daemon.users[0], "w");
    fs::write(workspace.join("attacks.json"), "[]").unwrap();
    let started = client.spawn(&daemon.request(&workspace)).unwrap();
    client.end(&started.session);
    client.refusal(Call::Forget { session: SessionId::random() });
    let lines = lines(&daemon.place.log());
    for kind in ["hello", "spawn", "started", "signal", "exit", "refused"] {
        let id = id_of(kind);
        assert!(lines.iter().any(|line| text(line, "MESSAGE_ID") == id), "{kind}: {lines:?}");
    }
    let names = lines.iter().flat_map(BTreeMap::keys).filter(|name| name.starts_with("SYNTHESIS_"));
    for name in names {
        assert!(DOC.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

#[test]
fn a_reader_of_stderr_that_stalls_stops_no_list_but_new_sessions() {
    if !have_root() {
        return;
    }
    let (read, write) = std::io::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let settings = Settings { audit: "required", ..Settings::default() };
    let daemon = Daemon::start_saying(Place::new(), settings, write);
    let mut client = daemon.client();
    let workspace = daemon.place.workspace(&daemon.users[0], "w");
    fs::write(workspace.join("attacks.json"), "[]").unwrap();
    let started = client.spawn(&daemon.request(&workspace)).unwrap();
    // Each is an entry of its own; nobody reads them.
    for _ in 0..50 {
        adopt(&mut client, &started.session);
    }
    let begin = Instant::now();
    assert_eq!(client.list().len(), 1);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let refusal = client.spawn(&daemon.request(&workspace)).unwrap_err().0;
    assert_eq!(refusal, RefusalCode::AuditUnavailable);
    client.end(&started.session);

    let reader = std::thread::spawn(move || {
        let (mut read, mut said) = (read, String::new());
        read.read_to_string(&mut said).unwrap();
        said
    });
    until("starts are possible again", || client.spawn(&daemon.request(&workspace)).ok());
    drop(daemon);
    let said = lines(&reader.join().unwrap());
    let count = |kind| said.iter().filter(|line| text(line, "MESSAGE_ID") == id_of(kind)).count();
    assert_eq!(count("adopted"), 50);
    assert_eq!(count("started"), 2);
    assert!(count("exit") >= 1);
}
