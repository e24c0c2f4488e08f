//! Each session's notify socket: READY=1 counts when the kernel says that its sender has the
//! session's uid and it is in the session's scope, or else a live descendant of its claude.
//! Everything else is dropped.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;

use crate::session::Containment;
use crate::sys;
use crate::sys::message::{self, Received, Sender};

/// READY=1 and a status line; longer ones are nobody's honest news.
const DATAGRAM: usize = 1024;
/// Datagrams read in one turn of the loop.
const AT_ONCE: usize = 16;
/// More than the kernel lets wait (net.unix.max_dgram_qlen).
const QUEUED: usize = 4096;
/// A session that floods its socket is left alone for so long.
const REST: Duration = Duration::from_millis(200);

/// The socket of a session that is not ready yet. Dropped once it is: later datagrams meet a
/// closed socket and cost spawnd nothing.
pub struct Inbox {
    socket: OwnedFd,
    takes_rights: bool,
    deaf_until: Option<Instant>,
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Inbox {
    /// `socket` has SO_PASSCRED and does not block.
    pub fn new(socket: OwnedFd) -> Self {
        let takes_rights = sys::socket::refuse_rights(socket.as_fd()).is_err();
        Self { socket, takes_rights, deaf_until: None }
    }

    /// May others queue descriptors in it? Then nobody else may close it: theirs would be closed
    /// with it, which may take as long as they like.
    pub fn takes_rights(&self) -> bool {
        self.takes_rights
    }

    pub fn listens(&self, now: Instant) -> bool {
        self.deaf_until.is_none_or(|until| until <= now)
    }

    /// When it listens again after a flood.
    pub fn resumes_at(&self) -> Option<Instant> {
        self.deaf_until
    }

    /// Reads what came; the pid of the first sender that says READY=1 and that `accepts` takes.
    pub fn read(&mut self, now: Instant, accepts: impl Fn(Sender) -> bool) -> Option<u32> {
        self.deaf_until = None;
        let mut buffer = [0; DATAGRAM];
        for _ in 0..AT_ONCE {
            let received = message::receive(self.socket.as_fd(), &mut buffer).ok()?;
            let text = buffer.get(..received.len).unwrap_or_default();
            if let Some(sender) = ready_sender(&received, text)
                && accepts(sender)
            {
                return u32::try_from(sender.pid).ok();
            }
        }
        self.deaf_until = Some(now + REST);
        None
    }
}

impl Drop for Inbox {
    /// Empties it, so that closing it closes nothing else; what was in it is [`Foreign`].
    ///
    /// [`Foreign`]: crate::undertaker::Foreign
    fn drop(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Read);
        for _ in 0..QUEUED {
            if message::receive(self.socket.as_fd(), &mut [0; DATAGRAM]).is_err() {
                break;
            }
        }
    }
}

/// The sender, if the datagram is whole and has the line `READY=1` (sd_notify(3)).
fn ready_sender(received: &Received, text: &[u8]) -> Option<Sender> {
    let says_ready = text.split(|b| *b == b'\n').any(|line| line == b"READY=1");
    received.sender.filter(|_| says_ready && !received.truncated && received.fds.is_empty())
}

/// Does this sender speak for the session with that uid, claude and containment?
pub fn is_of_session(sender: Sender, uid: u32, claude: Pid, within: &Containment) -> bool {
    let pid = Pid::from_raw(sender.pid);
    sender.uid == uid
        && sender.pid > 0
        && match within {
            Containment::Family { .. } => crate::family::descends(pid, claude),
            Containment::Scope(scope) => scope.holds(pid),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(truncated: bool) -> Received {
        let sender = Some(Sender { pid: 7, uid: 1000 });
        Received { len: 0, truncated, fds: Vec::new(), sender }
    }

    #[test]
    fn only_a_whole_line_is_ready() {
        for ready in [&b"READY=1"[..], b"STATUS=x\nREADY=1\n", b"READY=1\nMAINPID=1"] {
            assert!(ready_sender(&received(false), ready).is_some());
        }
        for not in [&b""[..], b"READY=10", b"xREADY=1", b"READY=0", b"\0READY=1", b"\xff"] {
            assert!(ready_sender(&received(false), not).is_none());
        }
        assert!(ready_sender(&received(true), b"READY=1").is_none());
    }

    #[test]
    fn a_foreign_uid_or_process_is_not_of_the_session() {
        let me = nix::unistd::getpid();
        let parent = nix::unistd::getppid();
        let sender = |uid| Sender { pid: me.as_raw(), uid };
        let family = Containment::Family { mark: 1 };
        assert!(is_of_session(sender(5), 5, parent, &family));
        assert!(!is_of_session(sender(6), 5, parent, &family));
        assert!(!is_of_session(sender(5), 5, me, &family));
        assert!(!is_of_session(Sender { pid: 1, uid: 5 }, 5, parent, &family));
        assert!(!is_of_session(Sender { pid: 0, uid: 5 }, 5, parent, &family));
    }
}
