//! The session's private mount namespace. Everything that stays visible is copied first, as a
//! mount that is only a descriptor; then the whole tree is made read-only, folders of others are
//! covered, and the copies are attached again. What is shown where is [`world`]'s to say.
//!
//! [`world`]: crate::world

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};
use proto::launch::Plan;
use spawnd::sys::mount as tree;

use crate::identity;
use crate::missing::Part;
use crate::stop::Stop;
use crate::workspace::Walked;
use crate::world::{self, Item, Kind, Reached};

/// A namespace of our own, if there are the right and the kernel for it; else what is missing.
///
/// # Errors
/// [`Stop::Mount`].
pub(crate) fn enter_namespace(plan: &Plan) -> Result<Option<Part>, Stop> {
    const PART: Option<Part> = Some(Part::Needed("mount namespace"));
    if !plan.identity.drop_root {
        return Ok(PART);
    }
    // Asked before anything is changed: half a private world would be worse than none.
    let top = top().map_err(failed("/"))?;
    if let Err(error) = tree::restrict(top.as_fd(), 0, false) {
        return if error.raw_os_error() == Some(libc::ENOSYS) {
            Ok(PART)
        } else {
            Err(at("/")(error))
        };
    }
    // System V's shared memory and queues are by uid: each session gets its own.
    match unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC) {
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => return Ok(PART),
        other => other.map_err(failed("unshare"))?,
    }
    // What happens here stays here.
    propagate(MsFlags::MS_SLAVE)?;
    Ok(None)
}

/// How mounts that are made elsewhere come to this namespace from now on.
///
/// # Errors
/// [`Stop::Mount`].
pub(crate) fn propagate(kind: MsFlags) -> Result<(), Stop> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | kind, none).map_err(failed("/"))
}

/// Builds the world and enters the workspace's own mount.
///
/// # Errors
/// The mount that failed.
pub(crate) fn build(plan: &Plan, reached: Reached) -> Result<(), Stop> {
    // Modes of folders that we make are given in full.
    umask(Mode::empty());
    let (workspace, items) = world::items(plan, reached)?;
    // After the copies were taken: they keep the rights that they had.
    let top = top().map_err(failed("/"))?;
    tree::restrict(top.as_fd(), tree::READ_ONLY | tree::NO_SETUID | tree::NO_DEVICES, true)
        .map_err(at("/"))?;
    let items = place(plan, items)?;
    // Last of all: mountpoints had to be made in them.
    for item in items.iter().filter(|item| item.kind == Kind::Cover) {
        tree::restrict(item.mount.as_fd(), tree::READ_ONLY, false)
            .map_err(at(&item.path.display().to_string()))?;
    }
    enter(plan, &workspace, &items)
}

/// Attaches the items, outer before inner; those that would change nothing are left out.
fn place(plan: &Plan, mut items: Vec<Item>) -> Result<Vec<Item>, Stop> {
    // A path is longer than those that contain it. Stable: of one path, the cover comes first.
    items.sort_by_key(|item| item.path.as_os_str().len());
    for (index, item) in items.iter().enumerate() {
        let ground = world::ground(items.get(..index).unwrap_or_default(), &item.path);
        if !world::is_needed(item.kind, ground) {
            continue;
        }
        let path = item.path.display().to_string();
        let mode = fstat(&item.mount).map_err(failed(&path))?.st_mode;
        let folder = mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if ground == world::Ground::Ours {
            make(&item.path, folder).map_err(failed(&path))?;
        }
        let find = || find(&item.path).map_err(failed(&path));
        // A user's folder may be closed to root (NFS).
        let point = match item.kind {
            Kind::Users => identity::for_files(&plan.identity, find)?,
            Kind::Cover | Kind::Shown | Kind::Own => find()?,
        };
        tree::attach(item.mount.as_fd(), point.as_fd()).map_err(at(&path))?;
    }
    Ok(items)
}

/// The copy of the very folder that was judged; of several at one path, the one on top.
fn enter(plan: &Plan, workspace: &Walked, items: &[Item]) -> Result<(), Stop> {
    let path = plan.workspace.as_path();
    let item = items.iter().rfind(|item| item.kind == Kind::Users && item.path == path);
    let item = item.ok_or_else(|| failed("workspace")(Errno::ENOENT))?;
    identity::for_files(&plan.identity, || Ok(workspace.enter(plan, &item.mount)?))
}

pub(crate) fn failed(what: &str) -> impl FnOnce(Errno) -> Stop {
    move |errno| Stop::Mount { what: what.to_owned(), errno }
}

pub(crate) fn at(what: &str) -> impl FnOnce(std::io::Error) -> Stop {
    move |error| failed(what)(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn top() -> nix::Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// No link is followed: one that a user put there must not lead a mount elsewhere.
pub(crate) fn find(path: &Path) -> nix::Result<OwnedFd> {
    step(top()?.as_fd(), path.strip_prefix("/").unwrap_or(path))
}

fn step(from: BorrowedFd<'_>, way: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(from, way, how)
}

/// Makes what is missing of a mountpoint in file systems of our own: folders, and at the end a
/// folder or an empty file.
fn make(path: &Path, folder: bool) -> nix::Result<()> {
    let mut at = top()?;
    let mut names = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::RootDir
            | Component::CurDir
            | Component::ParentDir
            | Component::Prefix(_) => None,
        })
        .peekable();
    while let Some(name) = names.next() {
        let way = Path::new(name);
        at = match step(at.as_fd(), way) {
            Err(Errno::ENOENT) => {
                if folder || names.peek().is_some() {
                    mkdirat(&at, way, Mode::from_bits_truncate(0o755))?;
                } else {
                    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                    openat(&at, way, flags, Mode::S_IRUSR)?;
                }
                step(at.as_fd(), way)?
            }
            other => other?,
        };
    }
    Ok(())
}
