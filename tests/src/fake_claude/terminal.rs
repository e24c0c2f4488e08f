//! The terminal: raw mode as the CLI sets it, writes that never block for ever, keys in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{self, InputFlags, LocalFlags, OutputFlags, SetArg};

use super::sys;

pub(super) struct Terminal {
    /// A duplicate of standard input; both ends of the CLI are the same terminal.
    fd: OwnedFd,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Keys(Vec<u8>),
    Nothing,
    /// Its leader is closed.
    HungUp,
}

impl Terminal {
    /// Is there a terminal on standard input and output, as the interactive CLI needs?
    pub(super) fn present() -> bool {
        [nix::unistd::isatty(io::stdin()), nix::unistd::isatty(io::stdout())] == [Ok(true); 2]
    }

    /// Takes the terminal over: no echo, no lines, no signals from keys; output is still
    /// post-processed, as with the real CLI.
    ///
    /// # Errors
    /// When the terminal cannot be set.
    pub(super) fn open() -> io::Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        let mut modes = termios::tcgetattr(&fd)?;
        modes.local_flags &=
            !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::IEXTEN | LocalFlags::ISIG);
        modes.input_flags &= !(InputFlags::BRKINT
            | InputFlags::ICRNL
            | InputFlags::INPCK
            | InputFlags::ISTRIP
            | InputFlags::IXON);
        modes.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
        termios::tcsetattr(&fd, SetArg::TCSADRAIN, &modes)?;
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (rows, columns) = sys::terminal_size(fd.as_fd());
        Ok(Self { fd, rows, columns })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes what the terminal takes now; gives how much. A terminal that is gone takes all.
    pub(super) fn write_some(&self, bytes: &[u8]) -> usize {
        match nix::unistd::write(&self.fd, bytes) {
            Ok(written) => written,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(_) => bytes.len(),
        }
    }

    /// Reads what is there.
    pub(super) fn read(&self) -> Input {
        let mut buffer = [0; 4096];
        match nix::unistd::read(&self.fd, &mut buffer) {
            Ok(0) => Input::HungUp,
            Ok(count) => Input::Keys(buffer[..count].to_vec()),
            Err(Errno::EAGAIN | Errno::EINTR) => Input::Nothing,
            Err(_) => Input::HungUp,
        }
    }
}

/// Is there a lone Esc among the keys (not the beginning of an arrow or function key)?
pub(super) fn has_escape(keys: &[u8]) -> bool {
    keys.iter()
        .enumerate()
        .any(|(at, &key)| key == 0x1b && !matches!(keys.get(at + 1), Some(b'[' | b'O' | b']')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_no_escape() {
        assert!(has_escape(b"\x1b") && has_escape(b"a\x1b\x1b[B"));
        assert!(!has_escape(b"\x1b[A") && !has_escape(b"\r") && !has_escape(b"\x1bOB"));
    }
}
