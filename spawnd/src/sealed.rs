//! Memory files that nobody can change any more: what is read from one is what was written.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// `content` as JSON, CLOEXEC. `name` is for /proc.
///
/// # Errors
/// What the kernel answers.
pub fn sealed(name: &str, content: &impl Serialize) -> std::io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(&serde_json::to_vec(content).map_err(std::io::Error::other)?)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

/// Is it one of those?
pub fn is_sealed(fd: impl AsFd) -> bool {
    let found = fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    found.is_ok_and(|found| found.contains(SEALS))
}
