//! Hostile and clumsy peers on spawnd's socket.

mod common;

use std::io::IoSlice;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use common::{Client, Daemon, Place, is_root};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use proto::ids::SessionId;
use proto::limits;
use proto::spawn::{Answer, Call, FromFrontd, FromSpawnd, RefusalCode, Signal, VERSION};

/// The daemon drops the peer that sends `packet`, and serves the next one.
fn ends_the_connection(packet: &[u8]) {
    let daemon = Daemon::listening(Place::new());
    let mut client = daemon.client();
    client.send_raw(packet);
    assert!(client.ends());
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn an_empty_packet_ends_the_connection() {
    ends_the_connection(b"");
}

#[test]
fn a_packet_over_the_limit_ends_the_connection() {
    let mut packet = br#"{"request":{"id":1,"call":{"list":{"after":null}}}}"#.to_vec();
    packet.resize(limits::SPAWN_PACKET + 1, b' ');
    ends_the_connection(&packet);
}

#[test]
fn a_packet_at_the_limit_is_served() {
    let daemon = Daemon::listening(Place::new());
    let mut client = daemon.client();
    let mut packet = br#"{"request":{"id":7,"call":{"list":{"after":null}}}}"#.to_vec();
    packet.resize(limits::SPAWN_PACKET, b' ');
    client.send_raw(&packet);
    assert!(matches!(client.answer_to(7).0, Answer::Sessions { .. }));
}

#[test]
fn deep_nesting_ends_the_connection() {
    let open = br#"{"request":{"id":"#;
    ends_the_connection(&[&open[..], &b"[".repeat(60_000)].concat());
}

#[test]
fn what_does_not_decode_ends_the_connection() {
    for packet in [
        &b"null"[..],
        b"{}",
        b"\xff\xfe",
        br#"{"hello":{"version":1},"hello":{"version":1}}"#,
        br#"{"request":{"id":1,"call":{"list":{"after":null,"more":1}}}}"#,
        br#"{"request":{"id":1,"call":{"exec":{"path":"/bin/sh"}}}}"#,
        br#"{"request":{"id":-1,"call":{"list":{"after":null}}}}"#,
        br#"{"request":{"id":1,"call":{"adopt":{"session":"../../etc/passwd-of-others"}}}}"#,
        br#"{"request":{"id":1,"call":{"list":{"after":null}}}} {}"#,
    ] {
        ends_the_connection(packet);
    }
}

#[test]
fn a_dotted_workspace_does_not_even_decode() {
    let daemon = Daemon::listening(Place::new());
    let call = Call::Spawn(Box::new(daemon.request()));
    let text = serde_json::to_string(&FromFrontd::Request { id: 1, call }).unwrap();
    let dotted = text.replace("/state/workspace", "/state/workspace/../../../../etc");
    assert_ne!(text, dotted);
    let mut client = daemon.client();
    client.send_raw(dotted.as_bytes());
    assert!(client.ends());
}

#[test]
fn a_request_before_hello_is_refused() {
    let daemon = Daemon::listening(Place::new());
    let mut client = daemon.connect();
    client.ask(Call::List { after: None });
    assert!(client.ends());
}

#[test]
fn a_second_hello_is_refused() {
    ends_the_connection(br#"{"hello":{"version":1}}"#);
}

#[test]
fn another_version_is_told_ours_and_refused() {
    let daemon = Daemon::listening(Place::new());
    let mut client = daemon.connect();
    client.send(&FromFrontd::Hello { version: VERSION + 1 });
    assert_eq!(client.receive().unwrap().0, FromSpawnd::Hello { version: VERSION });
    assert!(client.ends());
}

#[test]
fn a_silent_connection_is_closed_and_keeps_nobody_out() {
    let daemon = Daemon::listening(Place::new());
    let mut silent: Vec<Client> = (0..4).map(|_| daemon.connect()).collect();
    assert_eq!(daemon.client().list(), []);
    assert!(silent.iter_mut().all(Client::ends));
}

#[test]
fn a_second_frontd_is_told_in_use_and_the_first_stays() {
    let daemon = Daemon::listening(Place::new());
    let mut first = daemon.client();
    let mut second = daemon.connect();
    second.hello();
    let (packet, _) = second.receive().unwrap();
    let FromSpawnd::Answer { id: 0, answer: Answer::Refused { code, .. } } = packet else {
        panic!("{packet:?}")
    };
    assert_eq!(code, RefusalCode::InUse);
    assert!(second.ends());
    assert_eq!(first.list(), []);
    drop(first);
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    let daemon = Daemon::listening(Place::new());
    daemon.client().list();
    let (read, write) = nix::unistd::pipe().unwrap();
    for _ in 0..8 {
        let mut client = daemon.client();
        let flood = vec![write.as_raw_fd(); 253];
        sendmsg::<UnixAddr>(
            client.socket.as_raw_fd(),
            &[IoSlice::new(br#"{"request":{"id":1,"call":{"list":{"after":null}}}}"#)],
            &[ControlMessage::ScmRights(&flood)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        assert!(client.ends());
    }
    drop(write);
    assert!(common::readable(&read, common::PATIENCE));
    assert_eq!(nix::unistd::read(&read, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn unknown_sessions_are_refused_and_life_goes_on() {
    let (_daemon, mut client) = Daemon::paired(Place::new());
    let session = SessionId::random();
    for call in [
        Call::Adopt { session: session.clone() },
        Call::Forget { session: session.clone() },
        Call::Signal { session: session.clone(), signal: Signal::Kill },
    ] {
        assert_eq!(client.refusal(call).0, RefusalCode::NoSession);
    }
    assert_eq!(client.list(), []);
}

#[test]
fn a_peer_that_reads_nothing_is_dropped_and_costs_no_memory() {
    let daemon = Daemon::listening(Place::new());
    let client = daemon.client();
    let packet = br#"{"request":{"id":1,"call":{"list":{"after":null}}}}"#;
    // Until the daemon closes: a blocked queue would block this write for ever.
    while nix::unistd::write(&client.socket, packet).is_ok() {}
    assert_eq!(daemon.client().list(), []);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let mut first = Daemon::listening(Place::new());
    first.client().list();
    first.kill(nix::sys::signal::Signal::SIGKILL);
    first.wait();
    let place = Place { path: std::mem::take(&mut first.place.path) };
    let second = Daemon::listening(place);
    assert_eq!(second.client().list(), []);
    let other = Place::new();
    let socket = second.place.path.join("spawnd.sock");
    let third = other.spawnd(&["--socket", socket.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&third.stderr).contains("is in use"));
    assert_eq!(second.client().list(), []);
}

#[test]
fn another_user_is_not_served() {
    if !is_root("another_user_is_not_served") {
        return;
    }
    let daemon = Daemon::listening(Place::new());
    daemon.client().list();
    let socket = daemon.place.path.join("spawnd.sock");
    // As if an operator had opened the socket to everybody.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let helper = daemon.place.path.join("helper");
    assert!(
        Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&helper)
            .status()
            .unwrap()
            .success()
    );
    let output = Command::new(&helper)
        .args(["--exact", "as_another_user", "--nocapture"])
        .env("SPAWND_SOCKET", &socket)
        .uid(4242)
        .gid(4242)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("closed on us"), "{output:?}");
}

/// Not a test of its own: what [`another_user_is_not_served`] runs under another uid.
#[test]
fn as_another_user() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
    let Some(path) = std::env::var_os("SPAWND_SOCKET") else { return };
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(std::path::Path::new(&path)).unwrap()).unwrap();
    let mut client = Client::new(socket);
    // Refused without a word: the write may already meet a closed socket.
    let _ = nix::unistd::write(&client.socket, br#"{"hello":{"version":1}}"#);
    assert!(client.ends());
    println!("closed on us");
}
