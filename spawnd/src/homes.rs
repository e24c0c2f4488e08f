//! The private homes: `users/NAME/home` and `users/NAME/claude` of the state folder, made at a
//! user's first session. The folders above are ours alone; who owns `home` is whose name NAME was
//! then, and a later account of that name gets nothing of it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};
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

    /// Whose name this was when its folder was made; `None` when there is none, or it was not
    /// given away yet.
    pub fn owner(&self, user: &UnixUser) -> Option<u32> {
        let home = format!("{user}/home");
        let found = fstatat(&self.users, home.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?.st_uid;
        (found != geteuid().as_raw()).then_some(found)
    }

    /// Makes what is missing. `home` comes last: it is what [`Homes::owner`] looks at.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make(&self, user: &UnixUser, owner: Owner) -> Result<(), Refusal> {
        let failed = |errno| Refusal::Start { step: "home", errno: errno as i32 };
        let path = format!("{}/{user}", self.path);
        let own = folder::own_folder(self.users.as_fd(), user.as_str(), 0o755, &path)
            .map_err(|_| failed(Errno::EPERM))?;
        give(own.as_fd(), "claude", owner).map_err(failed)?;
        give(own.as_fd(), "home", owner).map_err(failed)
    }
}

/// A folder that is made closed and given away last.
fn give(parent: BorrowedFd<'_>, name: &str, owner: Owner) -> nix::Result<()> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let folder = folder::open_folder(parent, name)?;
    let found = fstat(&folder)?.st_uid;
    if found == owner.uid {
        return Ok(());
    }
    // Ours still: made a moment ago, or a start was cut short between the two calls.
    if found != geteuid().as_raw() {
        return Err(Errno::EPERM);
    }
    fchown(&folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}
