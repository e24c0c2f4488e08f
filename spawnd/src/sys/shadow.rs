//! getspnam_r(3).

use std::ffi::CString;
use std::io;

/// The last day of an account, in days since 1970; `None` when it has none, or no shadow entry.
/// May block on a directory server.
///
/// # Errors
/// What getspnam_r answers.
pub fn expiry(user: &str) -> io::Result<Option<i64>> {
    let name = CString::new(user)?;
    // SAFETY: spwd is pointers and integers, for which zero is valid.
    let mut entry: libc::spwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::spwd = std::ptr::null_mut();
    let mut strings = [0 as libc::c_char; 16 * 1024];
    let (room, len) = (strings.as_mut_ptr(), strings.len());
    // SAFETY: all pointers are to locals that outlive the call; `len` is the room behind `room`.
    let errno =
        unsafe { libc::getspnam_r(name.as_ptr(), &raw mut entry, room, len, &raw mut found) };
    match errno {
        0 if found.is_null() => Ok(None),
        0 => Ok(Some(entry.sp_expire).filter(|day| *day != -1)),
        // No entry, in the words of some services.
        libc::ENOENT => Ok(None),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
