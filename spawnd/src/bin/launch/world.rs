//! What a session sees of the machine: the list of mounts that are laid over it, and the rules by
//! which one mount stands on another.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, minor, mkdirat};
use nix::unistd::symlinkat;
use proto::ids::AbsolutePath;
use proto::launch::Plan;
use spawnd::sys::mount as tree;

use crate::mounts::{at, failed};
use crate::stop::Stop;
use crate::workspace::{self, Walked};

/// Nobody's business but their owners'. /tmp and /var/tmp are not covered but replaced.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// A mount that is not attached yet, and where it belongs.
pub(crate) struct Item {
    pub(crate) path: PathBuf,
    pub(crate) mount: OwnedFd,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An empty folder over what must not be seen.
    Cover,
    /// A copy of what stays visible, without any right that changes it.
    Shown,
    /// A copy of a folder of the user, as writable as it is.
    Users,
    /// A file system of the session's own.
    Own,
}

/// On what a mount would stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// What the host has there: it is visible without us, and its folders exist.
    Host,
    /// A file system that we made: empty, and mountpoints may be made in it.
    Ours,
}

/// `below` are the mounts that come before, outer before inner.
pub(crate) fn ground(below: &[Item], path: &Path) -> Ground {
    match below.iter().rev().find(|item| path.starts_with(&item.path)).map(|item| item.kind) {
        Some(Kind::Cover | Kind::Own) => Ground::Ours,
        Some(Kind::Shown | Kind::Users) | None => Ground::Host,
    }
}

pub(crate) fn is_needed(kind: Kind, ground: Ground) -> bool {
    match kind {
        Kind::Cover => ground == Ground::Host,
        Kind::Shown => ground == Ground::Ours,
        Kind::Users | Kind::Own => true,
    }
}

/// What was reached with the user's rights, before anything was hidden.
pub(crate) struct Reached {
    /// Where the plan's name of claude leads.
    pub(crate) program: AbsolutePath,
    pub(crate) workspace: Walked,
}

/// Before anything is hidden, with the user's rights to files. channel's name in the plan is
/// replaced by where it leads.
///
/// # Errors
/// The workspace that may not be used, or the program that is not there.
pub(crate) fn reach(plan: &mut Plan) -> Result<Reached, Stop> {
    let workspace = workspace::workspace(plan)?;
    Ok(Reached { program: crate::files::resolve(plan)?, workspace })
}

/// Walks to the user's folders and copies their mounts and those of what stays visible. With the
/// user's rights to files.
fn copies(plan: &Plan, program: &AbsolutePath, workspace: &Walked) -> Result<Vec<Item>, Stop> {
    let writable = tree::NO_SETUID | tree::NO_DEVICES;
    let mut items = Vec::new();
    let mut users = |path: &AbsolutePath, folder: &Walked| {
        let mount = copy(&folder.folder, writable).map_err(at(path.as_str()))?;
        items.push(Item { path: path.as_path().to_owned(), mount, kind: Kind::Users });
        Ok::<_, Stop>(())
    };
    users(&plan.workspace, workspace)?;
    users(&plan.home, &workspace::of_policy(plan, "home", &plan.home)?)?;
    // Below home the CLI makes it itself.
    let apart = |folder: &&AbsolutePath| !folder.as_path().starts_with(plan.home.as_path());
    if let Some(folder) = plan.config_dir.as_ref().filter(apart) {
        users(folder, &workspace::of_policy(plan, "configuration folder", folder)?)?;
    }
    let shown = plan.sandbox.visible.iter().map(|path| path.as_path());
    let shown = shown.chain([program.as_path(), plan.channel.as_path(), bridge(plan)]);
    // Name service may lead into a hidden folder; what a link names is shown under its own name.
    for path in shown.chain([Path::new("/etc/resolv.conf")]) {
        let Ok(real) = std::fs::canonicalize(path) else { continue };
        let read_only = writable | tree::READ_ONLY;
        let mount = open_path(&real).map_err(failed(&real.to_string_lossy()))?;
        let mount = copy(&mount, read_only).map_err(at(&real.to_string_lossy()))?;
        items.push(Item { path: real, mount, kind: Kind::Shown });
    }
    Ok(items)
}

/// A folder that holds the socket alone is shown whole: the next frontd binds a new one in it.
fn bridge(plan: &Plan) -> &Path {
    let socket = plan.bridge.socket.as_path();
    socket.parent().filter(|folder| folder.ends_with("bridge")).unwrap_or(socket)
}

/// Everything, in no order.
///
/// # Errors
/// The folder that the user may not use, or the mount that failed.
pub(crate) fn items(plan: &Plan, reached: Reached) -> Result<(Walked, Vec<Item>), Stop> {
    let Reached { program, workspace } = reached;
    let mut items = covers(plan)?;
    items
        .extend(crate::identity::for_files(&plan.identity, || copies(plan, &program, &workspace))?);
    items.extend(devices()?);
    items.extend(own(plan)?);
    // Shows a process only what it may trace: its own session's, by Landlock's rule (proc(5)).
    let proc = tree::filesystem(c"proc", &[(c"hidepid", c"2")]).map_err(at("/proc"))?;
    items.push(Item { path: "/proc".into(), mount: proc, kind: Kind::Own });
    Ok((workspace, items))
}

fn covers(plan: &Plan) -> Result<Vec<Item>, Stop> {
    let hidden =
        HIDDEN.iter().map(Path::new).chain(plan.sandbox.hidden.iter().map(|p| p.as_path()));
    // What is not there needs no cover.
    let real = hidden.filter_map(|path| std::fs::canonicalize(path).ok());
    real.map(|path| Ok(Item { mount: empty(&path)?, path, kind: Kind::Cover })).collect()
}

fn empty(path: &Path) -> Result<OwnedFd, Stop> {
    tree::filesystem(c"tmpfs", &[(c"mode", c"0755")]).map_err(at(&path.to_string_lossy()))
}

/// A /dev of copies, in which the session's own terminal is the only one.
fn devices() -> Result<Vec<Item>, Stop> {
    let dev = empty(Path::new("/dev"))?;
    for (target, name) in LINKS {
        symlinkat(target, &dev, name).map_err(failed(name))?;
    }
    let mut items = vec![Item { path: "/dev".into(), mount: dev, kind: Kind::Cover }];
    let terminal = terminal()?;
    for name in DEVICES.into_iter().chain([terminal.as_str()]) {
        let path = Path::new("/dev").join(name);
        let node = open_path(&path).map_err(failed(name))?;
        let attributes = tree::READ_ONLY | tree::NO_SETUID | tree::NO_EXEC;
        let mount = copy(&node, attributes).map_err(at(name))?;
        items.push(Item { path, mount, kind: Kind::Shown });
    }
    Ok(items)
}

/// The name below /dev of descriptor 0, if the host's /dev/pts shows the same terminal.
fn terminal() -> Result<String, Stop> {
    let follower = fstat(std::io::stdin().as_fd()).map_err(failed("terminal"))?;
    let name = format!("pts/{}", minor(follower.st_rdev));
    let node = open_path(&Path::new("/dev").join(&name)).and_then(fstat).map_err(failed(&name))?;
    if (node.st_dev, node.st_ino) == (follower.st_dev, follower.st_ino) {
        Ok(name)
    } else {
        Err(failed(&name)(Errno::ESTALE))
    }
}

/// The session's tmpfs: its folder, /tmp, /var/tmp and /dev/shm, under one limit.
fn own(plan: &Plan) -> Result<Vec<Item>, Stop> {
    let folder = plan.folder.as_path();
    let failure = || plan.folder.to_string();
    // The socket on which spawnd listens is the host's.
    let notify = folder.join("notify");
    let socket = open_path(&notify).map_err(failed("notify"))?;
    let socket = copy(&socket, tree::READ_ONLY).map_err(at("notify"))?;

    let number = |number: u64| CString::new(number.to_string()).expect("digits hold no zero byte");
    let (size, inodes) = (number(plan.limits.tmp_bytes), number(plan.limits.tmp_inodes));
    let (uid, gid) = (number(plan.identity.uid.into()), number(plan.identity.gid.into()));
    let options = [
        (c"size", size.as_c_str()),
        (c"nr_inodes", &inodes),
        (c"mode", c"0700"),
        (c"uid", &uid),
        (c"gid", &gid),
    ];
    let mount = tree::filesystem(c"tmpfs", &options).map_err(at(&failure()))?;
    // Only what is attached somewhere can be copied (before Linux 6.15); here it will be hidden.
    let place = open_path(folder).map_err(failed(&failure()))?;
    tree::attach(mount.as_fd(), place.as_fd()).map_err(at(&failure()))?;
    let mut items = vec![Item { path: notify, mount: socket, kind: Kind::Shown }];
    // Root's and sticky, as /tmp is: the user cannot move the folders on which mounts stand.
    for (name, paths) in [("tmp", &["/tmp", "/var/tmp"][..]), ("shm", &["/dev/shm"])] {
        mkdirat(&mount, name, Mode::from_bits_truncate(0o1777)).map_err(failed(name))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let inner = openat(&mount, name, flags, Mode::empty()).map_err(failed(name))?;
        // /var/tmp may be a link to /tmp.
        for path in paths.iter().map(Path::new).filter(|path| !path.is_symlink()) {
            let mount = copy(&inner, 0).map_err(at(name))?;
            items.push(Item { path: path.to_owned(), mount, kind: Kind::Own });
        }
    }
    let mount = copy(&mount, 0).map_err(at(&failure()))?;
    items.push(Item { path: folder.to_owned(), mount, kind: Kind::Own });
    Ok(items)
}

fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn copy(place: &OwnedFd, attributes: u64) -> std::io::Result<OwnedFd> {
    let mount = tree::copy(place.as_fd())?;
    tree::restrict(mount.as_fd(), attributes, true)?;
    Ok(mount)
}
