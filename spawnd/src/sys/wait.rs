//! wait4(2): the only call that gives the exit and what it cost in one step.

use std::io;

use nix::unistd::Pid;
use proto::spawn::{ExitCause, Usage};

/// A child that is gone and was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub pid: Pid,
    pub cause: ExitCause,
    pub usage: Usage,
}

/// A child that ended, adopted orphans among them, without waiting for it yet; `None` when there
/// is none now.
pub fn next_ended() -> Option<Pid> {
    // SAFETY: siginfo_t is plain integers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // __WALL: an orphan may have been cloned with another exit signal than SIGCHLD.
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the pointer is to a local that outlives the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    // SAFETY: after success the kernel has filled the fields of a child, or left them zero.
    let pid = if result == 0 { unsafe { info.si_pid() } } else { 0 };
    (pid > 0).then(|| Pid::from_raw(pid))
}

/// Waits for this child, which ended.
///
/// # Errors
/// What wait4(2) answers.
pub fn reap(pid: Pid) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = libc::WNOHANG | libc::__WALL;
    // SAFETY: both pointers are to locals that outlive the call.
    let found = unsafe { libc::wait4(pid.as_raw(), &raw mut status, flags, &raw mut usage) };
    match found {
        0 => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        n if n > 0 => Ok(Ended { pid, cause: cause(status), usage: counted(&usage) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn cause(status: libc::c_int) -> ExitCause {
    if libc::WIFEXITED(status) {
        ExitCause::Code { code: libc::WEXITSTATUS(status) }
    } else if libc::WIFSIGNALED(status) {
        ExitCause::Signal { signal: libc::WTERMSIG(status) }
    } else {
        ExitCause::Unknown {}
    }
}

fn counted(usage: &libc::rusage) -> Usage {
    let micros = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Usage {
        user_micros: micros(usage.ru_utime),
        system_micros: micros(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }
}
