//! A hostile frontd with the right uid: packets and connections.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::limits;
use proto::spawn::{Answer, Call, FromFrontd, FromSpawnd, RefusalCode, VERSION, encode};
use serde_json::{Value, json};
use tests::harness::have_root;
use tests::harness::seqpacket::{Client, Incoming};
use tests::harness::spawnd::{Daemon, OTHER, Settings, install, until};

const LIST: &[u8] = br#"{"request":{"id":1,"call":{"list":{"after":null}}}}"#;

fn daemon() -> Daemon {
    Daemon::start(Settings::default())
}

/// The daemon drops the peer that sends `packet`, and serves the next one.
#[track_caller]
fn ends_the_connection(daemon: &Daemon, packet: &[u8]) {
    let mut client = daemon.client();
    client.send(packet);
    let shown = String::from_utf8_lossy(&packet[..packet.len().min(200)]).into_owned();
    assert!(client.ends(), "served: {shown}");
    assert_eq!(daemon.client().list(), [], "{shown}");
}

/// A valid request to spawn, as JSON that a test can bend.
fn spawn(daemon: &Daemon) -> Value {
    let workspace = daemon.place.workspace(&daemon.users[0], "w");
    let call = Call::Spawn(Box::new(daemon.request(&workspace)));
    serde_json::to_value(FromFrontd::Request { id: 1, call }).unwrap()
}

#[test]
fn broken_packets_end_the_connection_and_nothing_else() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let mut long = LIST.to_vec();
    long.resize(limits::SPAWN_PACKET + 1, b' ');
    let deep = [&br#"{"request":{"id":"#[..], &b"[".repeat(60_000)].concat();
    let objects = [&br#"{"request":"#[..], &br#"{"a":"#.repeat(10_000)].concat();
    let packets: [&[u8]; 12] = [
        b"",
        &long,
        &deep,
        &objects,
        b"null",
        b"\xff\xfe\x00",
        br#"{"hello":{"version":2},"hello":{"version":2}}"#,
        br#"{"request":{"id":1,"id":2,"call":{"list":{"after":null}}}}"#,
        br#"{"request":{"id":1,"call":{"list":{"after":null,"groups":["root"]}}}}"#,
        br#"{"request":{"id":18446744073709551616,"call":{"list":{"after":null}}}}"#,
        br#"{"request":{"id":1,"call":{"exec":{"path":"/bin/sh"}}}}"#,
        br#"{"request":{"id":1,"call":{"list":{"after":null}}}}{"hello":{"version":2}}"#,
    ];
    for packet in packets {
        ends_the_connection(&daemon, packet);
    }
}

#[test]
fn nul_newline_and_escape_sequences_are_in_no_string_of_a_request() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let good = spawn(&daemon);
    for field in
        ["session", "conversation", "user", "workspace", "permission_mode", "model", "secret"]
    {
        for evil in ["\0", "\n", "\r", "\x1b]0;owned\x07", "\u{9b}31m", "\u{7f}"] {
            let mut packet = good.clone();
            let place = &mut packet["request"]["call"]["spawn"][field];
            let text = place.as_str().unwrap_or("opus").to_owned();
            *place = json!(format!("{text}{evil}"));
            ends_the_connection(&daemon, packet.to_string().as_bytes());
        }
    }
    let log = fs::read(daemon.place.path.join("log")).unwrap();
    let raw = log.iter().find(|byte| **byte < 0x20 && **byte != b'\n');
    assert_eq!(raw, None, "the log holds a control character");
}

#[test]
fn odd_session_ids_do_not_reach_a_path_or_a_unit_name() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    for session in [
        "",
        "abc",
        "../../../../etc/cron.d/xyz1",
        "abcdefghijklmnopqrstuvwx2",
        "abcdefghijklmnopqrstuvwx270",
        "abcdefghijklm.slice/abcdef",
        "abcdefghijklmnopqrstuv%i@x",
        "ABCDEFGHIJKLMNOPQRSTUVWX27",
        "abcdefghijklmnopqrstuvwx\u{0661}7",
        "--property=User=root-abcde",
    ] {
        for call in ["adopt", "forget"] {
            let packet = json!({"request": {"id": 1, "call": {call: {"session": session}}}});
            ends_the_connection(&daemon, packet.to_string().as_bytes());
        }
        let mut packet = spawn(&daemon);
        packet["request"]["call"]["spawn"]["session"] = json!(session);
        ends_the_connection(&daemon, packet.to_string().as_bytes());
    }
}

#[test]
fn environment_arguments_groups_and_binaries_cannot_be_smuggled() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let good = spawn(&daemon);
    let with = |field: &str, value: Value| {
        let mut packet = good.clone();
        packet["request"]["call"]["spawn"][field] = value;
        packet.to_string().into_bytes()
    };
    for (field, value) in [
        ("environment", json!({"LD_PRELOAD": "/tmp/x.so"})),
        ("env", json!(["A=B"])),
        ("arguments", json!(["--dangerously-skip-permissions"])),
        ("args", json!([])),
        ("groups", json!(["docker"])),
        ("binary", json!("/bin/sh")),
        ("claude", json!("/bin/sh")),
        ("uid", json!(0)),
        ("limits", json!({})),
        ("model", json!("--dangerously-skip-permissions")),
        ("model", json!("x --dangerously-skip-permissions")),
        ("model", json!("opus\u{0}--x")),
        ("model", json!("")),
        ("model", json!("m".repeat(129))),
        ("permission_mode", json!("bypassPermissions --x")),
        ("permission_mode", json!("default")),
        ("user", json!("nobody --x")),
        ("user", json!("../nobody")),
        ("user", json!("0")),
        ("workspace", json!("relative")),
        ("workspace", json!("/a//b")),
        ("terminal", json!({"rows": 65535, "columns": 65535})),
        ("terminal", json!({"rows": 0, "columns": 0})),
    ] {
        ends_the_connection(&daemon, &with(field, value));
    }
}

#[test]
fn a_request_before_hello_a_second_hello_and_another_version_end_the_connection() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let mut early = daemon.connect();
    early.send(LIST);
    assert!(early.ends());
    ends_the_connection(&daemon, &encode(&FromFrontd::Hello { version: VERSION }));
    for version in [0, VERSION + 1, u32::MAX] {
        let mut other = daemon.connect();
        other.send(&encode(&FromFrontd::Hello { version }));
        // It is told ours, so that it can name it.
        let Incoming::Packet(packet, _) = other.wait(Duration::from_secs(5)) else { panic!() };
        assert_eq!(packet, FromSpawnd::Hello { version: VERSION });
        assert!(other.ends());
    }
}

#[test]
fn a_second_frontd_is_refused_and_the_first_stays() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let mut first = daemon.client();
    let mut second = daemon.connect();
    second.send(&encode(&FromFrontd::Hello { version: VERSION }));
    let mut codes = Vec::new();
    while let Incoming::Packet(packet, _) = second.wait(Duration::from_secs(5)) {
        if let FromSpawnd::Answer { answer: Answer::Refused { code, .. }, .. } = packet {
            codes.push(code);
        }
    }
    assert_eq!(codes, [RefusalCode::InUse]);
    assert_eq!(first.list(), []);
}

#[test]
fn a_thousand_connections_without_hello_keep_nobody_out() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    drop(daemon.client());
    let before = daemon.descriptors();
    let mut silent: Vec<Client> = (0..1000).map(|_| daemon.connect()).collect();
    let begin = Instant::now();
    assert_eq!(daemon.client().list(), []);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(silent.iter_mut().all(Client::ends));
    until("the silent ones' descriptors are closed", || {
        (daemon.descriptors() <= before + 1).then_some(())
    });
}

#[test]
fn ten_thousand_requests_at_once_are_answered_or_end_the_connection() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let mut client = daemon.client();
    let before = daemon.resident();
    let unknown = encode(&FromFrontd::Request {
        id: 9,
        call: Call::Forget { session: proto::ids::SessionId::random() },
    });
    let (mut sent, mut answered) = (0, 0);
    while sent < 10_000 {
        client.send(&unknown);
        sent += 1;
        // As a frontd that reads late, but does read.
        while sent - answered >= 64 {
            match client.wait(Duration::from_secs(10)) {
                Incoming::Packet(..) => answered += 1,
                Incoming::End | Incoming::Silence => panic!("{answered} of {sent}"),
            }
        }
    }
    assert!(daemon.resident() < before + 4096, "{} KiB", daemon.resident() - before);
    drop(client);
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn a_frontd_that_reads_nothing_is_dropped_and_costs_no_memory() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    let client = daemon.client();
    let before = daemon.resident();
    let begin = Instant::now();
    // Until the daemon hangs up: a daemon that waited would block this for ever.
    while client.try_send(LIST).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never dropped");
    }
    assert!(daemon.resident() < before + 4096, "{} KiB more", daemon.resident() - before);
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn descriptors_where_none_belong_are_closed() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    drop(daemon.client());
    let before = daemon.descriptors();
    let (read, write) = nix::unistd::pipe().unwrap();
    let no_proof = spawn(&daemon).to_string();
    let packets: [&[u8]; 4] = [LIST, br#"{"hello":{"version":2}}"#, b"{}", no_proof.as_bytes()];
    for packet in packets {
        for count in [1, 2, 253] {
            let mut client = daemon.client();
            client.try_send_with(packet, &vec![write.as_raw_fd(); count]).unwrap();
            // An answer, a refusal or an end: never a descriptor that stays.
            client.try_send(b"").ok();
            assert!(client.ends());
        }
        let mut client = daemon.connect();
        client.try_send_with(packet, &[write.as_raw_fd(); 253]).unwrap();
        client.try_send(b"").ok();
        assert!(client.ends());
    }
    drop(write);
    // End of file: no copy is left anywhere.
    assert_eq!(nix::unistd::read(&read, &mut [0; 1]).unwrap(), 0);
    until("descriptors are as before", || (daemon.descriptors() <= before).then_some(()));
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn another_uid_is_refused_by_the_sockets_mode_and_by_its_credentials() {
    if !have_root() {
        return;
    }
    let daemon = daemon();
    drop(daemon.client());
    let socket = daemon.place.socket();
    let program = daemon.place.path.join("bin/stranger");
    install("hostile-claude", &program);
    let as_stranger = || {
        let output = Command::new(&program)
            .arg("--hello")
            .arg(&socket)
            .uid(OTHER)
            .gid(OTHER)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(as_stranger(), "connect EACCES");
    // As if an operator had opened the socket to everybody.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(as_stranger(), "closed");
    assert_eq!(daemon.client().list(), []);
}
