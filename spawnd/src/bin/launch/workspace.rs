//! The walk to a folder of the user (workspace, home, configuration), with the user's rights: each
//! folder of the path is opened below the one before, without following a link, and looked at by
//! its descriptor, so that nobody can exchange what was judged for something else.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::fchdir;
use proto::ids::AbsolutePath;
use proto::launch::Plan;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("{what} {path}: {part} does not exist")]
    Missing { what: &'static str, path: AbsolutePath, part: String },
    #[error("{what} {path}: {part} is no folder, or a symbolic link")]
    NotAFolder { what: &'static str, path: AbsolutePath, part: String },
    #[error("{what} {path} belongs to uid {owner}, not to this user")]
    NotOwned { what: &'static str, path: AbsolutePath, owner: u32 },
    #[error("{what} {path}: others can change {part}")]
    Changeable { what: &'static str, path: AbsolutePath, part: String },
    #[error("{what} {path}: {part}: {}", errno.desc())]
    Step { what: &'static str, path: AbsolutePath, part: String, errno: Errno },
}

/// A folder that was walked to and may be entered.
pub(crate) struct Walked {
    pub(crate) folder: OwnedFd,
    /// Which it is: device and inode.
    mark: (libc::dev_t, libc::ino_t),
}

/// # Errors
/// What is wrong with the path; the part that is.
pub(crate) fn workspace(plan: &Plan) -> Result<Walked, Error> {
    walk(plan, "workspace", &plan.workspace, &plan.workspace_root)
}

/// A folder that policy names itself.
///
/// # Errors
/// As [`workspace`].
pub(crate) fn of_policy(
    plan: &Plan,
    what: &'static str,
    path: &AbsolutePath,
) -> Result<Walked, Error> {
    walk(plan, what, path, path)
}

fn walk(
    plan: &Plan,
    what: &'static str,
    path: &AbsolutePath,
    root: &AbsolutePath,
) -> Result<Walked, Error> {
    let walk = Walk { what, path, uid: plan.identity.uid };
    let step = |errno| walk.step(Path::new("/"), errno);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = open("/", flags, Mode::empty()).map_err(step)?;
    walk.judge_parent(&fstat(&top).map_err(step)?, Path::new("/"))?;
    // Policy's root is not taken on trust either: a folder above it may be anybody's.
    let below = path.as_path().strip_prefix(root.as_path());
    let below = below.map_err(|_| step(Errno::EXDEV))?;
    let (folder, _) = walk.descend(top, Path::new("/"), root.as_path())?;
    let (folder, stat) = walk.descend(folder, root.as_path(), below)?;
    if stat.st_uid != plan.identity.uid {
        return Err(Error::NotOwned { what, path: path.clone(), owner: stat.st_uid });
    }
    Ok(Walked { folder, mark: (stat.st_dev, stat.st_ino) })
}

impl Walked {
    /// Enters `folder`, by its descriptor and not by its name again: this one, or the copy of its
    /// mount that the session sees.
    ///
    /// # Errors
    /// When it is another folder than the one that was judged, or the user may not enter it.
    pub(crate) fn enter(&self, plan: &Plan, folder: &OwnedFd) -> Result<(), Error> {
        let path = &plan.workspace;
        let failed = |errno| {
            let part = path.to_string();
            Error::Step { what: "workspace", path: path.clone(), part, errno }
        };
        let stat = fstat(folder).map_err(failed)?;
        if (stat.st_dev, stat.st_ino) != self.mark {
            return Err(failed(Errno::ESTALE));
        }
        fchdir(folder).map_err(failed)
    }
}

struct Walk<'a> {
    what: &'static str,
    path: &'a AbsolutePath,
    uid: u32,
}

impl Walk<'_> {
    /// Opens the components of `way` one below the other, starting in `folder`, which is `at`.
    fn descend(
        &self,
        folder: OwnedFd,
        at: &Path,
        way: &Path,
    ) -> Result<(OwnedFd, FileStat), Error> {
        let mut at = at.to_owned();
        let mut stat = fstat(&folder).map_err(|errno| self.step(&at, errno))?;
        let mut folder = folder;
        for component in way.components() {
            let Component::Normal(name) = component else { continue };
            // The folder that was opened last turns out to be a parent.
            self.judge_parent(&stat, &at)?;
            at.push(name);
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
                .resolve(
                    ResolveFlag::RESOLVE_BENEATH
                        | ResolveFlag::RESOLVE_NO_SYMLINKS
                        | ResolveFlag::RESOLVE_NO_MAGICLINKS,
                );
            folder = openat2(folder.as_fd(), name, how).map_err(|errno| self.step(&at, errno))?;
            stat = fstat(&folder).map_err(|errno| self.step(&at, errno))?;
        }
        Ok((folder, stat))
    }

    /// A parent must not let anybody but root and the user exchange what is in it. In a sticky
    /// folder (as /tmp) only an entry's owner can, and every entry on the way is judged in turn.
    /// No group is as good as private: it may get members, and an ACL shows as the group's bits.
    fn judge_parent(&self, stat: &FileStat, at: &Path) -> Result<(), Error> {
        let changeable =
            || Error::Changeable { what: self.what, path: self.path.clone(), part: text(at) };
        if stat.st_uid != 0 && stat.st_uid != self.uid {
            return Err(changeable());
        }
        let sticky = stat.st_mode & 0o1000 != 0;
        if stat.st_mode & 0o022 != 0 && !sticky { Err(changeable()) } else { Ok(()) }
    }

    fn step(&self, at: &Path, errno: Errno) -> Error {
        let (what, path, part) = (self.what, self.path.clone(), text(at));
        if errno == Errno::ENOENT {
            Error::Missing { what, path, part }
        } else if matches!(errno, Errno::ENOTDIR | Errno::ELOOP) {
            Error::NotAFolder { what, path, part }
        } else {
            Error::Step { what, path, part, errno }
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: &AbsolutePath) -> Walk<'_> {
        Walk { what: "workspace", path, uid: 1000 }
    }

    fn stat(uid: u32, gid: u32, mode: libc::mode_t) -> FileStat {
        let mut stat = fstat(std::fs::File::open("/").unwrap()).unwrap();
        (stat.st_uid, stat.st_gid, stat.st_mode) = (uid, gid, mode);
        stat
    }

    #[test]
    fn a_parent_that_others_can_change_is_refused() {
        let path = AbsolutePath::new("/a").unwrap();
        let judge =
            |uid, gid, mode| walk(&path).judge_parent(&stat(uid, gid, mode), Path::new("/"));
        for (uid, gid, mode) in
            [(0, 0, 0o755), (1000, 1000, 0o700), (0, 0, 0o1777), (1000, 1000, 0o1775)]
        {
            assert!(judge(uid, gid, mode).is_ok(), "{uid} {gid} {mode:o}");
        }
        for (uid, gid, mode) in [
            (1001, 1001, 0o755),
            (0, 0, 0o777),
            (1000, 1000, 0o775),
            (1000, 50, 0o775),
            (0, 50, 0o775),
            (1001, 0, 0o1777),
        ] {
            assert!(judge(uid, gid, mode).is_err(), "{uid} {gid} {mode:o}");
        }
    }
}
