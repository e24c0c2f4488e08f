//! stderr without waiting for whoever reads it: a stalled reader must not stop the daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

pub enum Stderr {
    /// Regular, or a description of our own that does not block.
    File(File),
    /// One that is also others': written to only while it has room for a line.
    Shared(File),
    Socket(OwnedFd),
}

impl Stderr {
    /// # Errors
    /// When stderr is closed.
    pub fn open() -> io::Result<Self> {
        let inherited = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let kind = inherited.metadata()?.file_type();
        if kind.is_socket() {
            return Ok(Self::Socket(inherited.into()));
        }
        // What we inherited is also our parent's: a description of our own is made non-blocking.
        // Regular files never make anybody wait, and a second offset in one would overwrite.
        if !kind.is_fifo() && !kind.is_char_device() {
            return Ok(Self::File(inherited));
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2") {
            Ok(ours) => Ok(Self::File(ours)),
            // Another user's terminal, say.
            Err(_) => Ok(Self::Shared(inherited)),
        }
    }

    /// How many of `bytes` were taken.
    ///
    /// # Errors
    /// WouldBlock when nothing can be taken now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Shared(file) => {
                let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::ZERO)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    // A pipe that is writable takes this much at once (pipe(7)).
                    _ => file.write(bytes.get(..libc::PIPE_BUF).unwrap_or(bytes)),
                }
            }
            Self::Socket(socket) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(socket.as_raw_fd(), bytes, flags)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stalls_is_not_waited_for() {
        let (_read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut stderr = Stderr::File(write.into());
        while stderr.write(&[b'x'; 4096]).is_ok() {}
        let error = stderr.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let (_read, write) = nix::unistd::pipe().unwrap();
        let mut shared = Stderr::Shared(write.into());
        while shared.write(&[b'x'; 4096]).is_ok() {}
    }
}
