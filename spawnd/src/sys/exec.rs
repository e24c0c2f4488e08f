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

/// Lets `command` start with `descriptors` as 3 and up, its standard streams as the command says,
/// and nothing else open.
///
/// The daemon keeps 3 to 5 occupied ([`crate::startup`]): the standard library's own pipe, which
/// reports a failed exec, is then never one of the numbers that this overwrites.
pub fn with(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let place = move || {
        let mut free = STATUS;
        for descriptor in &descriptors {
            duplicate(descriptor.as_raw_fd(), free)?;
            free += 1;
        }
        super::descriptors::cloexec_from(free.cast_unsigned())
    };
    // SAFETY: the closure runs in the forked child of a single-threaded process and makes only
    // async-signal-safe system calls on integers: no allocation, no lock.
    unsafe { command.pre_exec(place) };
}

fn duplicate(from: i32, to: i32) -> std::io::Result<()> {
    // SAFETY: dup2 takes integers; `from` is open for as long as the closure owns it.
    super::check(unsafe { libc::dup2(from, to) }).map(drop)
}
