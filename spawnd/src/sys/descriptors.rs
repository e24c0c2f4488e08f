//! File descriptors that came with the process, and whole ranges of them.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// Owns the inherited descriptor `number` from now on and makes it CLOEXEC.
///
/// The caller names each inherited number once, at start, before anything else was opened: a
/// number below 3 is refused because the standard library owns those.
///
/// # Errors
/// EBADF if the descriptor is not open.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_SETFD takes an integer and touches no memory of ours; a number that is not open
    // answers EBADF.
    super::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the call above proved that the descriptor is open; by this function's contract
    // nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same file at a number of at least `lowest`; the old one is closed.
///
/// # Errors
/// EMFILE when there is none.
pub fn moved_up(fd: OwnedFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory of ours.
    let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    let number = super::check(number)?;
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes the file's lock, which every copy of this descriptor then holds (flock(2)). nix's own
/// wrapper would let go of it for all of them when one is dropped.
///
/// # Errors
/// EWOULDBLOCK when somebody else has it.
pub fn lock(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: flock takes two integers.
    super::check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Closes every descriptor from `first` on. For a process that has opened none of its own yet.
///
/// # Errors
/// What close_range(2) answers.
pub fn close_from(first: u32) -> io::Result<()> {
    range(first, 0)
}

/// Marks every descriptor from `first` on CLOEXEC. Async-signal-safe.
pub(super) fn cloexec_from(first: u32) -> io::Result<()> {
    range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn range(first: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range takes three integers. Callers close only what no object of theirs owns.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
