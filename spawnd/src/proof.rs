//! Who is behind a request, by the kernel's word: a look at the client's socket that came with
//! it. It is looked at when it comes and closed: later its peer's number may be another's.

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike as _, UnixAddr, getpeername, getsockopt, sockopt,
};

use crate::sys::socket::peer_pidfd;

/// Processes in it are claude's, who proves nothing.
const SESSIONS: &str = "synthesis-sessions.slice";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// None came, or none was announced.
    None,
    /// A client of this uid is on the other end.
    Peer(u32),
    /// Something came that proves nothing.
    Unfit(&'static str),
}

/// What `socket` proves.
pub fn examine(socket: BorrowedFd<'_>) -> Evidence {
    match peer(socket) {
        Ok(uid) => Evidence::Peer(uid),
        Err(why) => Evidence::Unfit(why),
    }
}

fn peer(socket: BorrowedFd<'_>) -> Result<u32, &'static str> {
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

fn has_ended(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn fd(socket: impl Into<OwnedFd>) -> Evidence {
        examine(socket.into().as_fd())
    }

    fn listener(name: &str) -> (UnixListener, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("proof-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (UnixListener::bind(&path).unwrap(), path)
    }

    #[test]
    fn an_accepted_client_is_proved_and_a_connected_server_is_not() {
        let (listener, path) = listener("both");
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(fd(accepted), Evidence::Peer(nix::unistd::geteuid().as_raw()));
        assert_eq!(fd(client), Evidence::Unfit("its peer is no client"));
        assert!(matches!(fd(listener), Evidence::Unfit(_)));
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
            assert!(matches!(examine(unfit.as_fd()), Evidence::Unfit(_)));
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
