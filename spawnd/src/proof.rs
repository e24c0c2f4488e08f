//! Who is behind a request, by the kernel's word: a look at the client's socket that came with
//! it. It is looked at when it comes and closed: later its peer's number may be another's.
//!
//! Before Linux 6.5 the peer's process is known by its number alone: a session whose client ended at
//! once, and whose number another process of the machine got meanwhile, passes for its own user.

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike as _, UnixAddr, getpeername, getsockname, getsockopt,
    sockopt,
};

use crate::sys::socket::peer_pidfd;
use crate::token::Token;

/// Processes in it are claude's, who proves nothing.
const SESSIONS: &str = "synthesis-sessions.slice";

/// What a spawn has for its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// frontd's word.
    None,
    /// A client of this uid.
    Peer(u32),
    /// The bearer of this token, which is good and opens chat.
    Token(Box<Token>),
    /// Something came that proves nothing.
    Unfit(&'static str),
}

/// Whose client is on the other end of `socket`, which a listener at the path `door` accepted.
///
/// # Errors
/// Why it proves nobody.
pub fn examine(socket: BorrowedFd<'_>, door: &Path) -> Result<u32, &'static str> {
    let stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);
    // Asked of the socket's own family: a name may be empty.
    let name = getpeername::<UnixAddr>(socket.as_raw_fd()).map_err(|_| "it is not connected")?;
    if !stream || name.family() != Some(AddressFamily::Unix) {
        return Err("it is no Unix stream socket");
    }
    // Who connects to a listener reads the listener's credentials: without this a frontd could
    // connect to any socket of a user, an agent's for example, and prove to be them. A listener
    // has a name, a client has none.
    if name.path().is_some() || name.as_abstract().is_some() {
        return Err("its peer is no client");
    }
    // An accepted socket has its listener's name. The door is in a folder of root's, where frontd
    // binds nothing: who comes to another listener of its meant something else.
    let own = getsockname::<UnixAddr>(socket.as_raw_fd()).map_err(|_| "its name is not known")?;
    if own.path() != Some(door) {
        return Err("it did not come through the HTTP socket");
    }
    // What was accepted tells its peer's credentials long after the peer closed it.
    if is_over(socket) {
        return Err("its peer has closed it");
    }
    let credentials =
        getsockopt(&socket, sockopt::PeerCredentials).map_err(|_| "its peer is not known")?;
    // Where the kernel has it (6.5): keeps the number from being given to another meanwhile.
    let held = peer_pidfd(socket);
    if credentials.pid() <= 0 || in_session(&cgroups(credentials.pid())?) {
        return Err("its peer is a session");
    }
    match held {
        Some(pidfd) if has_ended(&pidfd) => Err("its peer is gone"),
        Some(_) | None => Ok(credentials.uid()),
    }
}

fn cgroups(pid: i32) -> Result<String, &'static str> {
    let mut text = String::new();
    let path = Path::new("/proc").join(pid.to_string()).join("cgroup");
    std::fs::File::open(path)
        .and_then(|file| file.take(64 * 1024).read_to_string(&mut text))
        .map_err(|_| "its peer is gone")?;
    Ok(text)
}

/// As a component: a name that merely holds these words is nobody's.
fn in_session(cgroups: &str) -> bool {
    cgroups.lines().any(|line| line.split('/').any(|part| part == SESSIONS))
}

/// Both ways: a client that has said all and still reads has shut one (POLLRDHUP alone).
fn is_over(socket: BorrowedFd<'_>) -> bool {
    // POLLHUP is told unasked.
    let mut asked = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO) != Ok(0)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn me() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// A listener and its file, which goes with it.
    struct Door {
        listener: UnixListener,
        path: std::path::PathBuf,
    }

    impl Door {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("proof-{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self { listener: UnixListener::bind(&path).unwrap(), path }
        }

        /// Both ends: the client's, and what was accepted.
        fn enter(&self) -> (UnixStream, UnixStream) {
            let client = UnixStream::connect(&self.path).unwrap();
            (client, self.listener.accept().unwrap().0)
        }

        fn examine(&self, socket: impl std::os::fd::AsFd) -> Result<u32, &'static str> {
            examine(socket.as_fd(), &self.path)
        }
    }

    impl Drop for Door {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    #[test]
    fn an_accepted_client_is_proved_and_a_connected_server_is_not() {
        let door = Door::new("both");
        let (client, accepted) = door.enter();
        assert_eq!(door.examine(accepted), Ok(me()));
        assert_eq!(door.examine(client), Err("its peer is no client"));
        assert!(door.examine(&door.listener).is_err());
    }

    #[test]
    fn a_client_that_only_reads_still_counts_and_one_that_closed_does_not() {
        let door = Door::new("closed");
        let (client, accepted) = door.enter();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(door.examine(&accepted), Ok(me()));
        drop(client);
        assert_eq!(door.examine(&accepted), Err("its peer has closed it"));
    }

    #[test]
    fn a_client_of_another_listener_is_not_proved() {
        use std::os::linux::net::SocketAddrExt as _;
        let door = Door::new("door");
        let other = Door::new("door2");
        let elsewhere = Err("it did not come through the HTTP socket");
        let (_client, accepted) = other.enter();
        assert_eq!(door.examine(accepted), elsewhere);
        let (_client, unnamed) = UnixStream::pair().unwrap();
        assert_eq!(door.examine(unnamed), elsewhere);
        // The same text without a file.
        let text = door.path.as_os_str().as_encoded_bytes();
        let name = std::os::unix::net::SocketAddr::from_abstract_name(text).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let _client = UnixStream::connect_addr(&name).unwrap();
        assert_eq!(door.examine(listener.accept().unwrap().0), elsewhere);
    }

    #[test]
    fn what_is_no_connected_stream_socket_proves_nothing() {
        for unfit in [
            OwnedFd::from(std::fs::File::open("/dev/null").unwrap()),
            UnixDatagram::pair().unwrap().0.into(),
            UnixDatagram::unbound().unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap().into()
            },
        ] {
            assert!(examine(unfit.as_fd(), Path::new("/run/x")).is_err());
        }
    }

    #[test]
    fn a_process_of_the_sessions_slice_is_known_by_its_cgroup() {
        for inside in [
            "0::/synthesis.slice/synthesis-sessions.slice/synthesis-x.scope\n",
            "5:memory:/\n1:name=systemd:/synthesis-sessions.slice\n0::/\n",
        ] {
            assert!(in_session(inside), "{inside}");
        }
        for outside in ["0::/\n", "0::/user.slice/not-synthesis-sessions.slice.d\n", ""] {
            assert!(!in_session(outside), "{outside}");
        }
    }
}
