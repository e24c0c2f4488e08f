//! pidfd_open(2) and pidfd_send_signal(2): a process that cannot be mistaken for its successor.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// CLOEXEC by definition. Names the process that has the number `pid` now: race-free for our own
/// unreaped children; for others compare the start time afterwards.
///
/// # Errors
/// ESRCH when there is none.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let number = RawFd::try_from(number).ok().filter(|n| *n >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The process's number in our pid namespace, -1 once it was waited for; `None` when this is no
/// pidfd (proc_pid_fdinfo(5)).
pub fn number(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// # Errors
/// ESRCH when the process is gone.
pub fn signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and a null siginfo, which means "as kill(2) would".
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, info, 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
