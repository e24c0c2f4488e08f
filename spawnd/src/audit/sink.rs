//! Where entries go: the journal's socket, or stderr as JSON lines. Neither is ever waited for.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

use super::entry::Entry;
use crate::stderr::Stderr;

const JOURNAL: &str = "/run/systemd/journal/socket";

pub enum Sink {
    /// A journal that restarts binds its socket anew: each entry is sent to the name.
    Journal {
        socket: OwnedFd,
        name: UnixAddr,
    },
    Stream {
        stderr: Stderr,
        taken: usize,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("socket to the journal: {0}")]
    Journal(#[from] nix::Error),
    #[error("stderr: {0}")]
    Stderr(#[from] std::io::Error),
}

impl Sink {
    /// The journal when systemd connected us to it (`JOURNAL_STREAM`, systemd.exec(5)).
    ///
    /// # Errors
    /// When there is neither.
    pub fn choose(under_journal: bool) -> Result<Self, Error> {
        match under_journal {
            true => Ok(Self::journal(UnixAddr::new(JOURNAL)?)?),
            false => Ok(Self::Stream { stderr: Stderr::open()?, taken: 0 }),
        }
    }

    pub(super) fn journal(name: UnixAddr) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        Ok(Self::Journal { socket, name })
    }

    pub(super) fn encode(&self, entry: &Entry) -> Vec<u8> {
        match self {
            Self::Journal { .. } => entry.native(),
            Self::Stream { .. } => entry.json(),
        }
    }

    /// Was the whole entry taken? If not, it comes again.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Journal { socket, name } => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                sendto(socket.as_raw_fd(), bytes, name, flags).is_ok()
            }
            Self::Stream { stderr, taken } => {
                while let Some(rest) = bytes.get(*taken..).filter(|rest| !rest.is_empty()) {
                    match stderr.write(rest) {
                        Ok(count) => *taken += count,
                        Err(_) => return false,
                    }
                }
                *taken = 0;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;

    #[test]
    fn a_line_that_was_taken_in_part_is_finished() {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut sink = Sink::Stream { stderr: Stderr::File(write.into()), taken: 0 };
        let entry = Entry::new(Kind::Refused, "r").reason("y".repeat(6000));
        let line = sink.encode(&entry);
        let mut whole = 0;
        while sink.write(&line) {
            whole += 1;
        }
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while let Ok(len) = nix::unistd::read(&read, &mut buffer) {
                seen.extend_from_slice(buffer.get(..len).unwrap());
            }
            if seen.len() == line.len() * (whole + 1) {
                break;
            }
            assert!(sink.write(&line) || seen.len() < line.len() * (whole + 1));
        }
        assert!(seen.chunks(line.len()).all(|part| part == line));
    }

    #[test]
    fn without_a_journal_nothing_is_taken() {
        let name = UnixAddr::new("/nonexistent/journal").unwrap();
        assert!(!Sink::journal(name).unwrap().write(b"MESSAGE=x\n"));
    }
}
