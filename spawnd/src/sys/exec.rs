//! What happens in the child between fork and exec.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// launch writes its record here.
pub const STATUS: i32 = 3;
/// launch reads its plan here.
pub const PLAN: i32 = 4;

/// systemd-run, and nobody else, finds launch here; launch closes it.
pub const PROGRAM: i32 = 5;

/// Lets `command` start with `status` as descriptor 3, `plan` as 4, a `program` as 5, its
/// standard streams as the command says, and nothing else open.
///
/// The daemon keeps 3 to 5 occupied ([`crate::startup`]): the standard library's own pipe, which
/// reports a failed exec, is then never one of the numbers that this overwrites.
pub fn with_status_and_plan(
    command: &mut Command,
    status: OwnedFd,
    plan: OwnedFd,
    program: Option<OwnedFd>,
) {
    let place = move || {
        duplicate(status.as_raw_fd(), STATUS)?;
        duplicate(plan.as_raw_fd(), PLAN)?;
        let Some(program) = &program else { return super::descriptors::cloexec_from(5) };
        duplicate(program.as_raw_fd(), PROGRAM)?;
        super::descriptors::cloexec_from(6)
    };
    // SAFETY: the closure runs in the forked child of a single-threaded process and makes only
    // async-signal-safe system calls on integers: no allocation, no lock.
    unsafe { command.pre_exec(place) };
}

/// Likewise with descriptor 3 alone.
pub fn with_status(command: &mut Command, status: OwnedFd) {
    let place = move || {
        duplicate(status.as_raw_fd(), STATUS)?;
        super::descriptors::cloexec_from(4)
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(place) };
}

/// Lets `command` start with its standard streams and nothing else open.
pub fn with_nothing(command: &mut Command) {
    let place = || super::descriptors::cloexec_from(3);
    // SAFETY: as above.
    unsafe { command.pre_exec(place) };
}

fn duplicate(from: i32, to: i32) -> std::io::Result<()> {
    // SAFETY: dup2 takes integers; `from` is open for as long as the closure owns it.
    super::check(unsafe { libc::dup2(from, to) }).map(drop)
}
