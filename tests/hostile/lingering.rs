//! Descriptors whose last close takes as long as their maker likes: neither spawnd's loop nor
//! frontd's may be the one that closes them.

use std::io::{IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, setsockopt,
    socket, sockopt,
};
use proto::spawn::{Call, FromFrontd, encode};
use tests::harness::required::{Required, Wanted};
use tests::harness::spawnd::{Settings, until};
use tests::harness::{Caller, have_root};

use super::stage::Stage;

/// Longer than any answer here takes on a busy machine.
const LINGER: i32 = 30;

/// A connection whose other end reads nothing, full, whose close waits for [`LINGER`] seconds.
struct Lingering {
    // Open as long as the test: its end would end the waiting.
    _other: TcpListener,
    ours: Option<OwnedFd>,
}

impl Lingering {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        while nix::unistd::write(&stream, &[0; 65_536]) != Err(Errno::EAGAIN) {}
        let linger = libc::linger { l_onoff: 1, l_linger: LINGER };
        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
        Self { _other: listener, ours: Some(stream.into()) }
    }
}

impl Lingering {
    fn number(&self) -> i32 {
        self.ours.as_ref().unwrap().as_raw_fd()
    }

    /// Closes our copy; if it was not sent, without any waiting.
    fn let_go(&mut self, sent: bool) {
        let ours = self.ours.take().unwrap();
        if !sent {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&ours, sockopt::Linger, &linger).unwrap();
        }
    }
}

fn assert_answers(stage: &mut Stage) {
    let began = Instant::now();
    for _ in 0..10 {
        stage.client.list();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_stray_descriptor_that_lingers_holds_nobody_up() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let mut lingering = Lingering::new();
    let call = encode(&FromFrontd::Request { id: 9, call: Call::List { after: None } });
    stage.client.try_send_with(&call, &[lingering.number()]).unwrap();
    lingering.let_go(true);
    let began = Instant::now();
    stage.client = stage.daemon.client();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_answers(&mut stage);
}

#[test]
fn what_lingers_in_a_connection_that_ends_holds_nobody_up() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let mut lingering = Lingering::new();
    // Behind what ends the connection: nobody reads it any more.
    let _ = stage.client.try_send(b"broken");
    let sent = stage.client.try_send_with(b"x", &[lingering.number()]);
    lingering.let_go(sent.is_ok());
    let began = Instant::now();
    stage.client = stage.daemon.client();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_answers(&mut stage);
}

#[test]
fn what_lingers_on_a_notify_socket_holds_nobody_up() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let attacker = stage.begin(&nobody, &[]);
    let notify = until("a notify socket", || {
        stage.daemon.place.sessions().first().map(|folder| folder.join("notify"))
    });
    let name = UnixAddr::new(&notify).unwrap();
    let mut lingering = Lingering::new();
    let rights = [lingering.number()];
    let kind = SockType::Datagram;
    let sender = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let sent = sendmsg(
        sender.as_raw_fd(),
        &[IoSlice::new(b"READY=1")],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::MSG_DONTWAIT,
        Some(&name),
    );
    // Newer kernels do not even let it be sent.
    assert!(matches!(sent, Ok(_) | Err(Errno::EPERM)), "{sent:?}");
    lingering.let_go(sent.is_ok());
    assert_answers(&mut stage);
    stage.client.end(attacker.session());
    assert_answers(&mut stage);
}

/// Known to nobody.
const STRANGER: u32 = 42499;
/// linux/socket.h; since 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

#[derive(Clone)]
struct PassRights;

nix::setsockopt_impl!(PassRights, libc::SOL_SOCKET, SO_PASSRIGHTS, bool, sockopt::SetBool);

/// Sends garbage, and behind it what lingers, to a frontd that has not accepted yet: so it gets
/// through on kernels that can refuse it, too. The stranger has gone on return.
fn attack(
    server: &Required,
    listener: &UnixListener,
    garbage: usize,
    flags: MsgFlags,
) -> Lingering {
    match setsockopt(listener, PassRights, &true) {
        Ok(()) | Err(Errno::ENOPROTOOPT) => {}
        Err(error) => panic!("{error}"),
    }
    server.signal_frontd(Signal::SIGSTOP);
    let socket = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
    let stream = Caller { socket, uid: STRANGER }.connect().unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.write_all(&vec![0; garbage]).unwrap();
    let mut lingering = Lingering::new();
    let rights = [ControlMessage::ScmRights(&[lingering.number()])];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"x")], &rights, flags, None).unwrap();
    lingering.let_go(true);
    server.signal_frontd(Signal::SIGCONT);
    lingering
}

/// While what lingers is still there.
async fn assert_serves(server: &Required, attack: &str) {
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(server.client.get("/health").await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{attack}: {:?}", began.elapsed());
}

#[tokio::test]
async fn what_strangers_send_to_frontds_sockets_holds_nobody_up() {
    if !have_root() {
        return;
    }
    let server = Required::start(Wanted::default()).await;
    for (name, listener) in [("http", &server.unix), ("bridge", &server.place.bridge)] {
        // What is read, and what is left when garbage has ended the connection.
        for garbage in [0, 100_000] {
            for flags in [MsgFlags::empty(), MsgFlags::MSG_OOB] {
                let _lingering = attack(&server, listener, garbage, flags);
                assert_serves(&server, &format!("{name} {garbage} {flags:?}")).await;
            }
        }
    }
    // It still knows its peers.
    let reply = server.peer(tests::harness::required::ALICE).chat("SAY still here").await;
    assert_eq!(reply.content(), "still here");
}
