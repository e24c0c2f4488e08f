//! Entering the workspace, as the user: each folder of the path is opened below the one before,
//! without following a link, and looked at by its descriptor, so that nobody can exchange what
//! was judged for something else.

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
    #[error("workspace {path}: {part} does not exist")]
    Missing { path: AbsolutePath, part: String },
    #[error("workspace {path}: {part} is no folder, or a symbolic link")]
    NotAFolder { path: AbsolutePath, part: String },
    #[error("workspace {path} belongs to uid {owner}, not to this user")]
    NotOwned { path: AbsolutePath, owner: u32 },
    #[error("workspace {path}: others can change {part}")]
    Changeable { path: AbsolutePath, part: String },
    #[error("workspace {path}: {part}: {}", errno.desc())]
    Step { path: AbsolutePath, part: String, errno: Errno },
}

/// # Errors
/// What is wrong with the path; the part that is.
pub(crate) fn enter(plan: &Plan) -> Result<(), Error> {
    let walk = Walk { path: &plan.workspace, uid: plan.identity.uid, gid: plan.identity.gid };
    let step = |errno| Error::Step { path: plan.workspace.clone(), part: "/".to_owned(), errno };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = open("/", flags, Mode::empty()).map_err(step)?;
    walk.judge_parent(&fstat(&top).map_err(step)?, Path::new("/"))?;
    // Policy's root is not taken on trust either: a folder above it may be anybody's.
    let below = plan.workspace.as_path().strip_prefix(plan.workspace_root.as_path());
    let below = below.map_err(|_| step(Errno::EXDEV))?;
    let (root, _) = walk.descend(top, Path::new("/"), plan.workspace_root.as_path())?;
    let (folder, stat) = walk.descend(root, plan.workspace_root.as_path(), below)?;
    if stat.st_uid != plan.identity.uid {
        return Err(Error::NotOwned { path: plan.workspace.clone(), owner: stat.st_uid });
    }
    // That same folder, not its name again.
    fchdir(&folder).map_err(|errno| walk.step(plan.workspace.as_path(), errno))
}

struct Walk<'a> {
    path: &'a AbsolutePath,
    uid: u32,
    gid: u32,
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
    /// A folder of the user's private group (same number as the uid) is as good as private.
    fn judge_parent(&self, stat: &FileStat, at: &Path) -> Result<(), Error> {
        let changeable = || Error::Changeable { path: self.path.clone(), part: text(at) };
        if stat.st_uid != 0 && stat.st_uid != self.uid {
            return Err(changeable());
        }
        let sticky = stat.st_mode & 0o1000 != 0;
        let private_group = self.uid == self.gid && stat.st_gid == self.gid;
        let group = stat.st_mode & 0o020 != 0 && !private_group;
        let others = stat.st_mode & 0o002 != 0;
        if (group || others) && !sticky { Err(changeable()) } else { Ok(()) }
    }

    fn step(&self, at: &Path, errno: Errno) -> Error {
        let (path, part) = (self.path.clone(), text(at));
        if errno == Errno::ENOENT {
            Error::Missing { path, part }
        } else if matches!(errno, Errno::ENOTDIR | Errno::ELOOP) {
            Error::NotAFolder { path, part }
        } else {
            Error::Step { path, part, errno }
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
        Walk { path, uid: 1000, gid: 1000 }
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
            [(0, 0, 0o755), (1000, 1000, 0o700), (0, 0, 0o1777), (1000, 1000, 0o775)]
        {
            assert!(judge(uid, gid, mode).is_ok(), "{uid} {gid} {mode:o}");
        }
        for (uid, gid, mode) in [
            (1001, 1001, 0o755),
            (0, 0, 0o777),
            (1000, 50, 0o775),
            (0, 50, 0o775),
            (1001, 0, 0o1777),
        ] {
            assert!(judge(uid, gid, mode).is_err(), "{uid} {gid} {mode:o}");
        }
    }
}
