//! Mounts by descriptor: open_tree(2), fsopen(2) and their kin, which nix lacks. A mount that is
//! only a descriptor can be judged and changed before anybody can see it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const RECURSIVE: libc::c_uint = 0x8000;
const EMPTY_PATH: libc::c_uint = 0x1000;

/// Attributes of a mount that only take away (mount_setattr(2)).
pub const READ_ONLY: u64 = 0x1;
pub const NO_SETUID: u64 = 0x2;
pub const NO_DEVICES: u64 = 0x4;
pub const NO_EXEC: u64 = 0x8;

/// A detached copy of what is mounted at and below `place`, CLOEXEC.
///
/// # Errors
/// What open_tree(2) answers.
pub fn copy(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | RECURSIVE | EMPTY_PATH | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: an integer, a constant string with its end, and flags.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })
}

/// A new, detached file system of `kind`, CLOEXEC.
///
/// # Errors
/// What fsopen(2), fsconfig(2) or fsmount(2) answers.
pub fn filesystem(kind: &CStr, options: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    // SAFETY: a string with its end, and flags.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    for (name, value) in options {
        configure(&context, FSCONFIG_SET_STRING, Some((name, value)))?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None)?;
    let attributes = NO_SETUID | NO_DEVICES;
    // SAFETY: integers only; `context` is open.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes)
    })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    pair: Option<(&CStr, &CStr)>,
) -> io::Result<()> {
    let (name, value) =
        pair.map_or((std::ptr::null(), std::ptr::null()), |(n, v)| (n.as_ptr(), v.as_ptr()));
    // SAFETY: integers, and two strings with their ends, or null where the command takes none.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, name, value, 0) };
    done(result)
}

/// Shows a detached `mount` at `place`.
///
/// # Errors
/// What move_mount(2) answers.
pub fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let (from, to) = (mount.as_raw_fd(), place.as_raw_fd());
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: integers and a constant string with its end.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) })
}

/// Adds `attributes` to `mount`, and with `below` to all that is mounted in it.
///
/// # Errors
/// What mount_setattr(2) answers: ENOSYS before Linux 5.12.
pub fn restrict(mount: BorrowedFd<'_>, attributes: u64, below: bool) -> io::Result<()> {
    let change =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = EMPTY_PATH | if below { RECURSIVE } else { 0 };
    // SAFETY: integers, a constant string with its end, and a structure of which the call is told
    // the size and which outlives it.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of_val(&change),
        )
    })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(result).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
