//! ioctl(2) on pseudoterminals.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Opens the follower of `leader`, CLOEXEC, without a path: no /dev/pts of a foreign mount can
/// come between (TIOCGPTPEER, ioctl_tty(2)).
///
/// # Errors
/// What the ioctl answers.
pub fn follower(leader: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: this ioctl takes an integer.
    let number =
        super::check(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Which pseudoterminal this leader is of: the N of /dev/pts/N (TIOCGPTN).
///
/// # Errors
/// ENOTTY when it is no leader.
pub fn number(leader: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the ioctl writes one unsigned int, which outlives the call.
    super::check(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// Makes `follower` the controlling terminal of this process, a session leader without one.
///
/// # Errors
/// EPERM when it is not, or the terminal is taken.
pub fn make_controlling(follower: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this ioctl takes an integer; 0 steals nothing.
    super::check(unsafe { libc::ioctl(follower.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// # Errors
/// What the ioctl answers.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the ioctl reads one winsize, which outlives the call.
    super::check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}
