//! Telling spawnd: one line of JSON on the status pipe.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use proto::launch::Record;

/// A pipe takes up to 4096 bytes in one piece (PIPE_BUF); longer records are written on.
///
/// # Errors
/// EPIPE when spawnd is gone. Together with the parent death signal, which is set before, this
/// leaves no moment in which spawnd could die unnoticed: a process closes its files before its
/// children are signalled.
pub(crate) fn write(status: &OwnedFd, record: &Record) -> Result<(), Errno> {
    let mut bytes = serde_json::to_vec(record).map_err(|_| Errno::EINVAL)?;
    bytes.push(b'\n');
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = nix::unistd::write(status, rest)?;
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(())
}
