//! What a session inherits of limits, masks and lifetime.

use std::io::ErrorKind;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use proto::launch::{Lifetime, Plan};
use spawnd::process;
use spawnd::sys::schedule;

use crate::stop::Stop;

/// The soft limit that programs with select(2) need; policy's leaves room to raise it.
const FILES_SOFT: u64 = 1024;
/// The kernel's own, in nanoseconds.
const TIMER_SLACK: libc::c_ulong = 50_000;

/// # Errors
/// The limit that could not be set.
pub(crate) fn set(plan: &Plan) -> Result<(), Stop> {
    // 1, not 0: with 0 a piped core_pattern still gets the core (core(5)).
    limit("core", Resource::RLIMIT_CORE, |_| (1, 1))?;
    limit("files", Resource::RLIMIT_NOFILE, |hard| {
        let hard = hard.min(plan.limits.open_files);
        (FILES_SOFT.min(hard), hard)
    })?;
    // spawnd knows the session's processes by this mark when they have lost their parents.
    let mark = process::mark_of(&plan.session, process::mark_ceiling());
    limit("mark", Resource::RLIMIT_LOCKS, |_| (mark, mark))?;
    umask(Mode::from_bits_truncate(0o077));
    limit("realtime", Resource::RLIMIT_RTPRIO, |_| (0, 0))?;
    prctl::set_timerslack(TIMER_SLACK).map_err(failed("timer slack"))?;
    // Nor is what keeps spawnd in time on a busy machine, or spares it when memory runs out.
    as_far_as_allowed("scheduling", schedule::reset())?;
    as_far_as_allowed("oom score", std::fs::write("/proc/self/oom_score_adj", "0"))
}

/// Without the right to more than spawnd has, a session only goes before or behind others.
fn as_far_as_allowed(what: &'static str, result: std::io::Result<()>) -> Result<(), Stop> {
    match result {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(|e| failed(what)(Errno::from_raw(e.raw_os_error().unwrap_or(0)))),
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Stop {
    move |errno| Stop::Limit { what, errno }
}

fn limit(
    what: &'static str,
    resource: Resource,
    wanted: impl Fn(u64) -> (u64, u64),
) -> Result<(), Stop> {
    let (_, hard) = getrlimit(resource).map_err(failed(what))?;
    let (soft, hard) = wanted(hard);
    setrlimit(resource, soft, hard).map_err(failed(what))
}

/// Where the plan says so, the end of spawnd, by SIGKILL too, is the end of claude; the exec keeps
/// this setting. That spawnd is still there is proved by the record that is written afterwards.
///
/// # Errors
/// [`Stop::Lifetime`].
pub(crate) fn end_with_spawnd(lifetime: Lifetime) -> Result<(), Stop> {
    match lifetime {
        Lifetime::EndsWithSpawnd => prctl::set_pdeathsig(Signal::SIGKILL).map_err(Stop::Lifetime),
        Lifetime::OutlivesSpawnd => Ok(()),
    }
}

/// # Errors
/// [`Stop::SignalMask`].
pub(crate) fn unblock_signals() -> Result<(), Stop> {
    SigSet::empty().thread_set_mask().map_err(Stop::SignalMask)
}
