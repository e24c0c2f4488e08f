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

/// The next child that ended, adopted orphans among them; `None` when there is none now.
///
/// # Errors
/// What wait4(2) answers, but for ECHILD, which is `None`.
pub fn next_ended() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // __WALL: an orphan may have been cloned with another exit signal than SIGCHLD.
    let flags = libc::WNOHANG | libc::__WALL;
    // SAFETY: both pointers are to locals that outlive the call.
    let pid = unsafe { libc::wait4(-1, &raw mut status, flags, &raw mut usage) };
    match pid {
        0 => Ok(None),
        n if n > 0 => {
            Ok(Some(Ended { pid: Pid::from_raw(n), cause: cause(status), usage: counted(&usage) }))
        }
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
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
