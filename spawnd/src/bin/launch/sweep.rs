//! Emptying an ended session's folder, as its user. Whatever the session left there: links are
//! removed, never followed, and a tree of any depth needs two descriptors and no recursion.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use proto::ids::UnixUser;
use proto::launch::Identity;
use spawnd::sys::descriptors;

use crate::identity;

/// `--sweep FOLDER UID GID`.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let [flag, folder, uid, gid] = arguments.as_slice() else { return ExitCode::from(2) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok());
    let (Some(uid), Some(gid)) = (number(uid), number(gid)) else { return ExitCode::from(2) };
    if flag != "--sweep" || descriptors::close_from(3).is_err() {
        return ExitCode::from(2);
    }
    // Before the folder's name is even looked at.
    if identity::assume(&user(uid, gid)).is_err() {
        return ExitCode::FAILURE;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let emptied = open(folder.as_os_str(), flags, Mode::empty()).and_then(|top| empty(top.as_fd()));
    if emptied.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn user(uid: u32, gid: u32) -> Identity {
    Identity {
        user: UnixUser::new("session").expect("a plain word"),
        uid,
        gid,
        groups: Vec::new(),
        shell: String::new(),
        drop_root: geteuid().is_root(),
    }
}

/// Removes all that is in `top`. A folder in a folder of `top` is first moved up into `top`.
fn empty(top: BorrowedFd<'_>) -> nix::Result<()> {
    let mut moved = 0_u64;
    loop {
        let names = names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match unlinkat(top, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR | Errno::EPERM) => flatten(top, &name, &mut moved)?,
                other => other?,
            }
        }
    }
}

/// Removes folder `name` of `top` after its files are gone and its folders moved to `top`.
fn flatten(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> nix::Result<()> {
    let folder = open_writable(top, name)?;
    for inner in names(folder.as_fd())? {
        match unlinkat(&folder, inner.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => {
                // Its entry `..` changes, for which it must be writable.
                writable(folder.as_fd(), &inner)?;
                move_up(folder.as_fd(), &inner, top, moved)?;
            }
            other => other?,
        }
    }
    unlinkat(top, name, UnlinkatFlags::RemoveDir)
}

/// Under a name that is free: the session may have used ours.
fn move_up(
    from: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> nix::Result<()> {
    loop {
        *moved += 1;
        match renameat(from, name, top, format!("swept-{moved}").as_str()) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            other => return other,
        }
    }
}

fn open_writable(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    writable(parent, name)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// A session may have shut its own folders. Only a folder comes here, and were it exchanged for a
/// link now, its target would be the user's own: nothing is gained by it.
fn writable(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
}

fn names(folder: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    // A description of its own: a shared one would go on where the last reading ended.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sweep-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn empty(&self) -> nix::Result<()> {
            empty(fs::File::open(&self.0).unwrap().as_fd())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_are_removed_and_their_targets_kept() {
        let (kept, swept) = (Folder::new("kept"), Folder::new("links"));
        fs::write(kept.0.join("file"), "x").unwrap();
        symlink(&kept.0, swept.0.join("link")).unwrap();
        fs::create_dir(swept.0.join("tmp")).unwrap();
        symlink(kept.0.join("file"), swept.0.join("tmp/link")).unwrap();
        swept.empty().unwrap();
        assert_eq!(fs::read_dir(&swept.0).unwrap().count(), 0);
        assert_eq!(fs::read(kept.0.join("file")).unwrap(), b"x");
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_emptied() {
        let swept = Folder::new("deep");
        let mut folder: OwnedFd = fs::File::open(&swept.0).unwrap().into();
        for _ in 0..2100 {
            nix::sys::stat::mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
            folder = openat(&folder, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        swept.empty().unwrap();
        assert_eq!(fs::read_dir(&swept.0).unwrap().count(), 0);
    }

    #[test]
    fn shut_folders_and_taken_names_do_not_stop_it() {
        let swept = Folder::new("shut");
        fs::create_dir_all(swept.0.join("a/b/c")).unwrap();
        fs::write(swept.0.join("swept-1"), "").unwrap();
        fs::create_dir_all(swept.0.join("swept-2/x")).unwrap();
        for shut in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(swept.0.join(shut), fs::Permissions::from_mode(0o0)).unwrap();
        }
        swept.empty().unwrap();
        assert_eq!(fs::read_dir(&swept.0).unwrap().count(), 0);
    }
}
