//! The system calls that nix lacks or offers only as `unsafe`, one small file per family, and the
//! only `unsafe` of this crate. Nothing here decides anything.

pub mod descriptors;
pub mod exec;
pub mod message;
pub mod mount;
pub mod pidfd;
pub mod schedule;
pub mod shadow;
pub mod signals;
pub mod socket;
pub mod terminal;
pub mod wait;

use std::io;

/// The result of a call that answers -1 and sets errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
