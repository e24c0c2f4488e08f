//! Users' folders, `users/NAME` of the state folder, made at a user's first session: whose name NAME
//! was then, as the name of an empty folder, a workspace, and the private homes. NAME is ours alone; what is
//! given away in it is never looked at again, for its user may mount anything on it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use proto::ids::{AbsolutePath, UnixUser};

use crate::folder::{self, Error, Owner};
use crate::refusal::Refusal;

pub struct Homes {
    users: OwnedFd,
    path: String,
}

impl Homes {
    /// Start only: blocks.
    ///
    /// # Errors
    /// [`Error`] names the folder and what is wrong with it.
    pub fn open(state: &AbsolutePath, as_root: bool) -> Result<Self, Error> {
        let mode = if as_root { 0o755 } else { 0o700 };
        let top = folder::own_tree(state, mode)?;
        let path = format!("{state}/users");
        let users = folder::own_folder(top.as_fd(), "users", mode, &path)?;
        Ok(Self { users, path })
    }

    /// Whose name this was at its first session; `None` when there was none.
    pub fn owner(&self, user: &UnixUser) -> Option<u32> {
        owner(folder::open_folder(self.users.as_fd(), user.as_str()).ok()?)
    }

    /// Puts down whose name this is and makes what is missing of the workspace and, with `private`, of
    /// the homes. Answers their paths.
    ///
    /// # Errors
    /// The step that failed; EPERM when the name is another's.
    pub fn make(
        &self,
        user: &UnixUser,
        owner: Owner,
        private: bool,
    ) -> Result<Vec<String>, Refusal> {
        let failed = |errno| Refusal::Start { step: "home", errno: errno as i32 };
        let path = format!("{}/{user}", self.path);
        let own = folder::own_folder(self.users.as_fd(), user.as_str(), 0o755, &path)
            .map_err(|_| failed(Errno::EPERM))?;
        made(own.as_fd(), &format!("{OWNER}{}", owner.uid)).map_err(failed)?;
        // The judgement may have seen nothing, for want of descriptors.
        if self.owner(user) != Some(owner.uid) {
            return Err(failed(Errno::EPERM));
        }
        let names: &[&str] =
            if private { &["workspace", "claude", "home"] } else { &["workspace"] };
        for name in names {
            give(own.as_fd(), name, owner).map_err(failed)?;
        }
        Ok(names.iter().map(|name| format!("{path}/{name}")).collect())
    }
}

const OWNER: &str = "uid-";

fn owner(folder: OwnedFd) -> Option<u32> {
    let mut entries = Dir::from_fd(folder).ok()?;
    let owners = entries.iter().filter_map(|entry| {
        entry.ok()?.file_name().to_str().ok()?.strip_prefix(OWNER)?.parse().ok()
    });
    // Of two neither counts: root is nobody's owner.
    owners.reduce(|_, _| 0)
}

/// Was it there before?
fn made(parent: BorrowedFd<'_>, name: &str) -> nix::Result<bool> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) => Ok(false),
        Err(Errno::EEXIST) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// A folder that is made closed and given away last.
fn give(parent: BorrowedFd<'_>, name: &str, owner: Owner) -> nix::Result<()> {
    made(parent, name)?;
    let (folder, found) = match folder::look(parent, name) {
        // Only whom it was given to can have mounted something on it.
        Err(Errno::EXDEV) => return Ok(()),
        found => found?,
    };
    // Ours still: made a moment ago, or a start was cut short between the two calls.
    if found.st_uid == geteuid().as_raw() && found.st_uid != owner.uid {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchownat(&folder, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::tests::{Ground, cover};
    use std::os::unix::fs::MetadataExt as _;

    const AL: Owner = Owner { uid: 4242, gid: 4243 };

    fn homes(ground: &Ground) -> (Homes, UnixUser) {
        (Homes::open(&ground.path, true).unwrap(), UnixUser::new("al").unwrap())
    }

    #[test]
    fn a_name_and_its_uid_are_kept_together_with_and_without_private_homes() {
        let Some(ground) = Ground::new("pair") else { return };
        let (homes, user) = homes(&ground);
        assert_eq!(homes.owner(&user), None);
        homes.make(&user, AL, false).unwrap();
        assert_eq!(homes.owner(&user), Some(4242));
        assert!(!ground.below("users/al/home").exists());
        let workspace = std::fs::metadata(ground.below("users/al/workspace")).unwrap();
        assert_eq!(
            (workspace.uid(), workspace.gid(), workspace.mode() & 0o7777),
            (4242, 4243, 0o700)
        );
        homes.make(&user, AL, true).unwrap();
        // A judgement that saw nothing does not make the name another's.
        assert!(homes.make(&user, Owner { uid: 4244, gid: 1 }, true).is_err());
        assert_eq!(homes.owner(&user), Some(0));
        assert_eq!(std::fs::metadata(ground.below("users/al/home")).unwrap().uid(), 4242);
    }

    #[test]
    fn what_a_user_mounts_on_a_home_is_never_looked_at() {
        let Some(ground) = Ground::new("mount") else { return };
        let (homes, user) = homes(&ground);
        homes.make(&user, AL, true).unwrap();
        for name in ["users/al/home", "users/al/claude", "users/al/workspace"] {
            cover(&ground.below(name));
        }
        homes.make(&user, AL, true).unwrap();
        assert_eq!(homes.owner(&user), Some(4242));
        for name in ["users/al/home", "users/al/claude"] {
            assert_eq!(std::fs::metadata(ground.below(name)).unwrap().uid(), 0);
        }
    }

    #[test]
    fn a_home_that_was_not_given_away_yet_is() {
        let Some(ground) = Ground::new("cut") else { return };
        let (homes, user) = homes(&ground);
        std::fs::create_dir_all(ground.below("users/al/home")).unwrap();
        homes.make(&user, AL, true).unwrap();
        let home = std::fs::metadata(ground.below("users/al/home")).unwrap();
        assert_eq!((home.uid(), home.gid()), (4242, 4243));
    }
}
