//! The folders of the run directory. Those that spawnd works in are its own and nobody else can
//! write there; what it gives to a user it makes whole first, gives away last, and never enters
//! again: emptying a session's folder is the work of `launch --sweep`, as that user.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, unlinkat};
use proto::ids::{AbsolutePath, SessionId};

use crate::lock::Locks;
use crate::refusal::Refusal;

/// sockaddr_un's path, without its closing zero (unix(7)).
const SOCKET_PATH: usize = 107;
/// The longest name of a socket in a session's folder.
const LONGEST_SOCKET: &str = "/hook.sock";
/// The longest `run`: below it lie `sessions`, a session's folder and its sockets.
pub const LONGEST_RUN: usize = SOCKET_PATH - "/sessions/".len() - 26 - LONGEST_SOCKET.len();
/// Sweeps what spawnd itself must not look at.
const NOBODY: u32 = 65_534;
/// A predecessor that is just ending its sessions needs no longer.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("folder {path}: {source}")]
    Make { path: String, source: std::io::Error },
    #[error("folder {path} belongs to uid {owner}, not to uid {wanted}")]
    Owner { path: String, owner: u32, wanted: u32 },
    #[error("folder {path} can be written by others")]
    Writable { path: String },
    #[error("folder {path} is closed to other users")]
    Closed { path: String },
    #[error("run folder's path is too long for a socket: {over} bytes too many")]
    TooLong { over: usize },
    #[error("another spawnd uses run folder {0}")]
    Locked(AbsolutePath),
}

/// Whose a session's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// The folder of the sessions' folders, open and locked.
pub struct Folders {
    sessions: OwnedFd,
    pub locks: Locks,
    path: String,
    /// Give folders away? Not when the user is the caller.
    as_root: bool,
    _lock: Flock<File>,
}

impl Folders {
    /// Makes what is missing of the run directory and proves the rest fit. Start only: blocks.
    ///
    /// # Errors
    /// [`Error`] names the folder and what is wrong with it.
    pub fn open(run: &AbsolutePath, as_root: bool) -> Result<Self, Error> {
        let path = format!("{run}/sessions");
        let longest = path.len() + 1 + 26 + LONGEST_SOCKET.len();
        if longest > SOCKET_PATH {
            return Err(Error::TooLong { over: longest - SOCKET_PATH });
        }
        let (outer, listed) = if as_root { (0o755, 0o711) } else { (0o700, 0o700) };
        let top = own_tree(run, outer)?;
        if as_root {
            reachable(run)?;
        }
        let lock = lock(top.as_fd(), run)?;
        let sessions = own_folder(top.as_fd(), "sessions", listed, &path)?;
        let locks = own_folder(top.as_fd(), "locks", 0o700, &format!("{run}/locks"))?;
        let locks = Locks::new(locks);
        Ok(Self { sessions, locks, path, as_root, _lock: lock })
    }

    /// The folder of one session.
    pub fn path_of(&self, session: &SessionId) -> AbsolutePath {
        let text = format!("{}/{session}", self.path);
        AbsolutePath::new(text).expect("a valid path, bounded at start, and 26 plain characters")
    }

    /// Makes the session's folder with its notify socket. As root the folder stays root's and only
    /// the socket is the user's: launch lays the session's own tmpfs over the rest.
    ///
    /// # Errors
    /// The step that failed. A folder may then be left, for a sweep.
    pub fn create(&self, session: &SessionId, owner: Owner) -> Result<OwnedFd, Refusal> {
        let name = session.as_str();
        let failed = |errno: Errno| Refusal::Start { step: "session folder", errno: errno as i32 };
        mkdirat(&self.sessions, name, Mode::S_IRWXU).map_err(failed)?;
        let folder = open_folder(self.sessions.as_fd(), name).map_err(failed)?;
        let notify = notify_socket(folder.as_fd())
            .map_err(|errno| Refusal::Start { step: "notify socket", errno: errno as i32 })?;
        if self.as_root {
            let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
            fchownat(&folder, "notify", uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            fchmod(&folder, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        }
        Ok(notify)
    }

    /// Removes the name of a folder that a sweep has emptied.
    ///
    /// # Errors
    /// ENOTEMPTY when the sweep could not.
    pub fn remove(&self, session: &SessionId) -> nix::Result<()> {
        unlinkat(&self.sessions, session.as_str(), UnlinkatFlags::RemoveDir)
    }

    /// Removes a folder that was never given away: nobody but us could write in it. `false` when
    /// it is the user's, for a sweep.
    pub fn remove_unfinished(&self, session: &SessionId) -> bool {
        let name = session.as_str();
        if !self.as_root {
            return false;
        }
        match look(self.sessions.as_fd(), name) {
            Ok((folder, stat)) if stat.st_uid == geteuid().as_raw() => {
                // Missing when the socket could not be bound.
                let _ = unlinkat(&folder, "notify", UnlinkatFlags::NoRemoveDir);
            }
            Ok(_) | Err(_) => return false,
        }
        self.remove(session).is_ok()
    }

    /// Folders of sessions that an earlier spawnd did not end, and their owners.
    pub fn leftovers(&self) -> Vec<(SessionId, Owner)> {
        let Ok(copy) = self.sessions.try_clone() else { return Vec::new() };
        let Ok(mut entries) = Dir::from_fd(copy) else { return Vec::new() };
        let sessions = entries.iter().filter_map(|entry| {
            let session = SessionId::new(entry.ok()?.file_name().to_str().ok()?).ok()?;
            let owner = match look(self.sessions.as_fd(), session.as_str()) {
                Ok((_, stat)) => Owner { uid: stat.st_uid, gid: stat.st_gid },
                Err(_) => Owner { uid: NOBODY, gid: NOBODY },
            };
            Some((session, owner))
        });
        sessions.collect()
    }
}

/// What `name` is, without opening it. Something mounted on it, by a user even, is answered EXDEV
/// and never asked: its file system may not answer at all.
pub(crate) fn look(parent: BorrowedFd<'_>, name: &str) -> nix::Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let way = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let folder = openat2(parent, name, OpenHow::new().flags(flags).resolve(way))?;
    let found = fstat(&folder)?;
    Ok((folder, found))
}

pub(crate) fn open_folder(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn notify_socket(folder: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    // Before it has a name: no datagram may come in without its sender's credentials.
    setsockopt(&socket, sockopt::PassCred, &true)?;
    let name = format!("/proc/self/fd/{}/notify", folder.as_raw_fd());
    bind(socket.as_raw_fd(), &UnixAddr::new(name.as_str())?)?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    fchmodat(folder, "notify", mode, FchmodatFlags::FollowSymlink)?;
    Ok(socket)
}

/// A folder below `parent` that is ours alone, with `mode`.
pub(crate) fn own_folder(
    parent: BorrowedFd<'_>,
    name: &str,
    mode: libc::mode_t,
    path: &str,
) -> Result<OwnedFd, Error> {
    let failed = |e: Errno| Error::Make { path: path.to_owned(), source: e.into() };
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let folder = open_folder(parent, name).map_err(failed)?;
    prove_own(&fstat(&folder).map_err(failed)?, path)?;
    fchmod(&folder, Mode::from_bits_truncate(mode)).map_err(failed)?;
    Ok(folder)
}

fn prove_own(stat: &FileStat, path: &str) -> Result<(), Error> {
    let (path, wanted) = (path.to_owned(), geteuid().as_raw());
    if stat.st_uid != wanted {
        return Err(Error::Owner { path, owner: stat.st_uid, wanted });
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(Error::Writable { path });
    }
    Ok(())
}

/// A folder of ours and, if they are missing, those above it.
///
/// # Errors
/// When it cannot be had, or is not ours alone.
pub(crate) fn own_tree(folder: &AbsolutePath, mode: libc::mode_t) -> Result<File, Error> {
    let failed = |source| Error::Make { path: folder.to_string(), source };
    DirBuilder::new().recursive(true).mode(mode).create(folder.as_path()).map_err(failed)?;
    let top = File::open(folder.as_path()).map_err(failed)?;
    prove_own(&fstat(&top).map_err(|e| failed(e.into()))?, folder.as_str())?;
    Ok(top)
}

/// Every folder on the way must let users pass, or each of their sessions would fail.
fn reachable(run: &AbsolutePath) -> Result<(), Error> {
    for folder in run.as_path().ancestors() {
        let path = folder.display().to_string();
        match std::fs::metadata(folder) {
            Ok(found) if found.mode() & 0o001 != 0 => {}
            Ok(_) => return Err(Error::Closed { path }),
            Err(source) => return Err(Error::Make { path, source }),
        }
    }
    Ok(())
}

/// Two daemons in one folder would sweep each other's sessions.
fn lock(top: BorrowedFd<'_>, run: &AbsolutePath) -> Result<Flock<File>, Error> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let failed = |e: Errno| Error::Make { path: format!("{run}/spawnd.lock"), source: e.into() };
    let file = openat(top, "spawnd.lock", flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let mut file = File::from(file);
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EAGAIN)) if Instant::now() < deadline => file,
            Err((_, Errno::EAGAIN)) => return Err(Error::Locked(run.clone())),
            Err((_, errno)) => return Err(failed(errno)),
        };
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use std::path::{Path, PathBuf};

    /// A folder of root's, in a mount namespace of this thread's own.
    pub(crate) struct Ground {
        pub(crate) path: AbsolutePath,
    }

    impl Ground {
        pub(crate) fn new(name: &str) -> Option<Self> {
            if !geteuid().is_root() {
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{name} needs root");
                eprintln!("SKIPPED: {name} needs root");
                return None;
            }
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, flags, none).unwrap();
            let path = std::env::temp_dir().join(format!("ground-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Some(Self { path: AbsolutePath::new(path.to_str().unwrap()).unwrap() })
        }

        pub(crate) fn below(&self, name: &str) -> PathBuf {
            self.path.as_path().join(name)
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            for line in std::fs::read_to_string("/proc/thread-self/mounts").unwrap().lines() {
                let place = line.split(' ').nth(1).unwrap();
                if place.starts_with(self.path.as_str()) {
                    nix::mount::umount(place).unwrap();
                }
            }
            std::fs::remove_dir_all(self.path.as_path()).unwrap();
        }
    }

    /// As a user could by FUSE.
    pub(crate) fn cover(place: &Path) {
        mount(Some("t"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }

    #[test]
    fn a_session_folder_with_a_mount_on_it_is_nobodys_to_sweep() {
        let Some(ground) = Ground::new("leftover") else { return };
        let folders = Folders::open(&ground.path, true).unwrap();
        let (free, covered) = (SessionId::random(), SessionId::random());
        for session in [&free, &covered] {
            std::fs::create_dir(ground.below("sessions").join(session.as_str())).unwrap();
        }
        cover(&ground.below("sessions").join(covered.as_str()));
        let mut uids: Vec<u32> = folders.leftovers().iter().map(|(_, owner)| owner.uid).collect();
        uids.sort_unstable();
        assert_eq!(uids, [0, NOBODY]);
        assert!(!folders.remove_unfinished(&covered));
        assert!(folders.remove_unfinished(&free));
    }
}
