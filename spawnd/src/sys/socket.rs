//! getsockopt(2) and setsockopt(2) for what nix does not know.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Not in libc for every target yet (linux/socket.h; since 6.5).
const SO_PEERPIDFD: libc::c_int = 77;

/// Likewise; since 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// From here on nobody can send descriptors to a Unix socket: whoever tries gets EPERM.
///
/// # Errors
/// ENOPROTOOPT where the kernel cannot do that.
pub fn refuse_rights(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    let off: libc::c_int = 0;
    let (level, fd) = (libc::SOL_SOCKET, socket.as_raw_fd());
    // SAFETY: the kernel reads the 4 bytes of `off`, which outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, SO_PASSRIGHTS, (&raw const off).cast(), 4) };
    super::check(result).map(drop)
}

/// The process that connected, CLOEXEC; `None` where the kernel has no such thing, or it is gone.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    let mut number: RawFd = -1;
    let mut len: libc::socklen_t = 4;
    let (level, fd) = (libc::SOL_SOCKET, socket.as_raw_fd());
    // SAFETY: the kernel writes at most `len` = 4 bytes to `number`, which has four and outlives
    // the call, as `len` does.
    let result = unsafe {
        libc::getsockopt(fd, level, SO_PEERPIDFD, (&raw mut number).cast(), &raw mut len)
    };
    if result != 0 || number < 0 {
        return None;
    }
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
