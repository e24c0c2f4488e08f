//! Whose word a file is: it, and everything on the way to it, must be root's and nobody else's to
//! change, or whoever can change it would be root through us. Start only.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::config::FILE;

/// Of symlinks on one way; the kernel's own limit.
const LINKS: usize = 40;

/// Who may own and change what spawnd relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Root,
    /// Development: the caller's build tree will do. Its group may be the caller's own, and /tmp
    /// keeps others from replacing what is the caller's.
    Caller {
        uid: u32,
        gid: u32,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Look { path: PathBuf, source: std::io::Error },
    #[error("{path} belongs to uid {uid}, who is neither root nor the caller")]
    Owner { path: PathBuf, uid: u32 },
    #[error("{path} can be changed by others (mode {mode:o})")]
    Writable { path: PathBuf, mode: u32 },
    #[error("{0} is no regular file")]
    NotAFile(PathBuf),
    #[error("{0}: too many symlinks")]
    Links(PathBuf),
    #[error("{0} is larger than 1 MiB")]
    TooLarge(PathBuf),
}

impl Trust {
    /// Proves the file `path` and its way.
    ///
    /// # Errors
    /// [`Error`] names what is not to be trusted.
    pub fn prove(self, path: &Path) -> Result<(), Error> {
        match self.walk(path)? {
            (_, found) if found.is_file() => Ok(()),
            (here, _) => Err(Error::NotAFile(here)),
        }
    }

    /// Where `path` leads, once each folder, each link and each link's own way is judged.
    fn walk(self, path: &Path) -> Result<(PathBuf, Metadata), Error> {
        let mut ahead: VecDeque<OsString> = components(path);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        self.judge(&here, &look(&here)?)?;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                // Its parent was judged on the way here.
                here.pop();
                continue;
            }
            here.push(&name);
            let found = look(&here)?;
            if found.is_symlink() {
                links += 1;
                if links > LINKS {
                    return Err(Error::Links(path.to_owned()));
                }
                self.owned(&here, &found)?;
                let target = std::fs::read_link(&here)
                    .map_err(|source| Error::Look { path: here.clone(), source })?;
                here = if target.is_absolute() { "/".into() } else { parent(&here) };
                for part in components(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
                continue;
            }
            self.judge(&here, &found)?;
        }
        let found = look(&here)?;
        Ok((here, found))
    }

    /// Reads the file that `fd` is, once it is judged: no path can lead elsewhere meanwhile.
    ///
    /// # Errors
    /// [`Error`], with `name` as its path.
    pub fn read(self, mut file: File, name: &Path) -> Result<String, Error> {
        let failed = |source| Error::Look { path: name.to_owned(), source };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(Error::NotAFile(name.to_owned()));
        }
        self.judge(name, &found)?;
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        let mut text = String::new();
        let read = file.take(FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > FILE {
            return Err(Error::TooLarge(name.to_owned()));
        }
        Ok(text)
    }

    fn owned(self, path: &Path, found: &Metadata) -> Result<(), Error> {
        let trusted = match self {
            Self::Root => found.uid() == 0,
            Self::Caller { uid, .. } => [0, uid].contains(&found.uid()),
        };
        if trusted { Ok(()) } else { Err(Error::Owner { path: path.to_owned(), uid: found.uid() }) }
    }

    fn judge(self, path: &Path, found: &Metadata) -> Result<(), Error> {
        self.owned(path, found)?;
        let writable = self.writable_by_others(found.mode(), found.gid(), found.is_dir());
        match writable {
            true => {
                let mode = found.mode() & 0o7777;
                Err(Error::Writable { path: path.to_owned(), mode })
            }
            false => Ok(()),
        }
    }

    fn writable_by_others(self, mode: u32, group: u32, is_folder: bool) -> bool {
        match self {
            Self::Root => mode & 0o022 != 0,
            Self::Caller { .. } if is_folder && mode & 0o1000 != 0 => false,
            Self::Caller { gid, .. } => mode & 0o002 != 0 || (mode & 0o020 != 0 && group != gid),
        }
    }
}

/// Proves that nobody but root can change what lies in `folder`. On the way a sticky folder of
/// root's will do: what is root's in it stays where it is.
///
/// # Errors
/// [`Error`] names what is not to be trusted.
pub fn prove_roots_folder(folder: &Path) -> Result<(), Error> {
    let (here, found) = Trust::Caller { uid: 0, gid: u32::MAX }.walk(folder)?;
    Trust::Root.judge(&here, &found)
}

fn look(path: &Path) -> Result<Metadata, Error> {
    std::fs::symlink_metadata(path).map_err(|source| Error::Look { path: path.to_owned(), source })
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn caller() -> Trust {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Trust::Caller { uid, gid }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("trust-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            chmod(&path, mode);
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn roots_own_files_are_trusted_and_what_lies_in_tmp_is_not() {
        Trust::Root.prove(Path::new("/bin/sh")).unwrap();
        let folder = Folder::new("tmp");
        let error = Trust::Root.prove(&folder.file("f", 0o644)).unwrap_err();
        let named = std::env::temp_dir();
        assert!(
            matches!(&error, Error::Writable { path, .. } | Error::Owner { path, .. } if *path == named),
            "{error}"
        );
    }

    #[test]
    fn a_file_or_folder_that_others_can_change_is_named() {
        let folder = Folder::new("open");
        let file = folder.file("a/b/f", 0o644);
        caller().prove(&file).unwrap();
        for (path, mode) in [(file.clone(), 0o646), (folder.0.join("a"), 0o777)] {
            let before = std::fs::metadata(&path).unwrap().mode();
            chmod(&path, mode);
            let error = caller().prove(&file).unwrap_err();
            assert!(
                matches!(&error, Error::Writable { path: named, .. } if *named == path),
                "{error}"
            );
            chmod(&path, before);
        }
        assert!(matches!(caller().prove(&folder.0), Err(Error::NotAFile(_))));
        assert!(matches!(caller().prove(&folder.0.join("none")), Err(Error::Look { .. })));
    }

    #[test]
    fn the_way_of_a_links_target_is_judged_too() {
        let folder = Folder::new("link");
        let target = folder.file("open/f", 0o644);
        symlink("../open/./f", folder.file("shut/x", 0o644).with_file_name("link")).unwrap();
        let link = folder.0.join("shut/link");
        caller().prove(&link).unwrap();
        chmod(target.parent().unwrap(), 0o777);
        assert!(matches!(caller().prove(&link), Err(Error::Writable { .. })));
        symlink("loop", folder.0.join("loop")).unwrap();
        assert!(matches!(caller().prove(&folder.0.join("loop")), Err(Error::Links(_))));
    }

    #[test]
    fn root_trusts_no_group_and_no_sticky_folder() {
        for mode in [0o775, 0o757, 0o1777] {
            assert!(Trust::Root.writable_by_others(mode, 0, true));
        }
        let caller = Trust::Caller { uid: 1, gid: 7 };
        assert!(!caller.writable_by_others(0o1777, 0, true));
        assert!(caller.writable_by_others(0o1777, 0, false));
        assert!(!caller.writable_by_others(0o775, 7, true));
        assert!(caller.writable_by_others(0o775, 8, true));
    }

    #[test]
    fn another_users_file_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
            return eprintln!("SKIPPED: another_users_file_is_refused needs root");
        }
        let folder = Folder::new("owner");
        let file = folder.file("f", 0o644);
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        assert!(matches!(caller().prove(&file), Err(Error::Owner { uid: 4242, .. })));
        let read = caller().read(File::open(&file).unwrap(), &file);
        assert!(matches!(read, Err(Error::Owner { .. })));
    }
}
