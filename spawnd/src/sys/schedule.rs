//! sched_setscheduler(2) and setpriority(2), which nix lacks.

use std::io;

/// What an ordinary process has: no real time, no nice value.
///
/// # Errors
/// EACCES or EPERM where a process of less priority may not have more.
pub fn reset() -> io::Result<()> {
    // SAFETY: sched_param is plain integers, for which zero is valid.
    let ordinary: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads `ordinary`, which outlives the call; 0 is this process.
    super::check(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary) })?;
    // SAFETY: setpriority takes integers; 0 is this process.
    super::check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) }).map(drop)
}
