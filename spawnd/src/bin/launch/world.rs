//! What a session sees of the machine: the list of mounts that are laid over it, and the rules by
//! which one mount stands on another.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use proto::ids::AbsolutePath;
use proto::launch::Plan;
use spawnd::sys::mount as tree;

use crate::identity;
use crate::mounts::{at, failed, find, propagate};
use crate::own;
use crate::stop::Stop;
use crate::workspace::{self, Walked};

/// Nobody's business but their owners'. /tmp and /var/tmp are not covered but replaced.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run"];

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
    let of_policy = |what, path| workspace::of_policy(plan, what, path).map_err(Stop::Folder);
    users(&plan.home, &of_policy("home", &plan.home)?)?;
    // Below home the CLI makes it itself.
    let apart = |folder: &&AbsolutePath| !folder.as_path().starts_with(plan.home.as_path());
    if let Some(folder) = plan.config_dir.as_ref().filter(apart) {
        users(folder, &of_policy("configuration folder", folder)?)?;
    }
    // These stay the host's: what is mounted in them later appears, and an unmount there holds here.
    // Elsewhere a later mount would be writable, and uncovered.
    propagate(MsFlags::MS_PRIVATE)?;
    let shown = plan.sandbox.visible.iter().map(|path| path.as_path());
    let shown = shown.chain([program.as_path(), plan.channel.as_path(), bridge(plan)]);
    // Name service may lead into a hidden folder; what a link names is shown under its own name.
    for path in shown.chain([Path::new("/etc/resolv.conf")]) {
        // What the user cannot reach is not shown.
        let Some(real) = leads(path, &[libc::ENOENT, libc::EACCES])? else { continue };
        let name = real.to_string_lossy().into_owned();
        let place = find(&real).map_err(failed(&name))?;
        let mount = copy(&place, writable | tree::READ_ONLY).map_err(at(&name))?;
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
    let copies = || copies(plan, &program, &workspace);
    items.extend(identity::for_files(&plan.identity, copies)?);
    items.extend(own::devices()?);
    items.extend(own::folders(plan)?);
    // Shows a process only what it may trace: its own session's, by Landlock's rule (proc(5)).
    let proc = tree::filesystem(c"proc", &[(c"hidepid", c"2")]).map_err(at("/proc"))?;
    items.push(Item { path: "/proc".into(), mount: proc, kind: Kind::Own });
    Ok((workspace, items))
}

fn covers(plan: &Plan) -> Result<Vec<Item>, Stop> {
    let hidden =
        HIDDEN.iter().map(Path::new).chain(plan.sandbox.hidden.iter().map(|p| p.as_path()));
    let mut items = Vec::new();
    for path in hidden {
        // What is not there needs no cover.
        if let Some(path) = leads(path, &[libc::ENOENT, libc::ENOTDIR])? {
            items.push(Item { mount: empty(&path)?, path, kind: Kind::Cover });
        }
    }
    Ok(items)
}

/// Where `path` leads; `None` for the errors in `skipped`. By any other it could not be told what
/// is to be hidden or shown.
///
/// # Errors
/// [`Stop::Mount`].
pub(crate) fn leads(path: &Path, skipped: &[i32]) -> Result<Option<PathBuf>, Stop> {
    match std::fs::canonicalize(path) {
        Err(error) if error.raw_os_error().is_some_and(|e| skipped.contains(&e)) => Ok(None),
        other => other.map(Some).map_err(at(&path.to_string_lossy())),
    }
}

/// A file system to be filled, or to stay empty.
pub(crate) fn empty(path: &Path) -> Result<OwnedFd, Stop> {
    tree::filesystem(c"tmpfs", &[(c"mode", c"0755")]).map_err(at(&path.to_string_lossy()))
}

/// What is mounted at and below `place`, with rights taken away.
pub(crate) fn copy(place: &OwnedFd, attributes: u64) -> std::io::Result<OwnedFd> {
    let mount = tree::copy(place.as_fd())?;
    tree::restrict(mount.as_fd(), attributes, true)?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, kind: Kind) -> Item {
        let mount = std::fs::File::open("/").unwrap().into();
        Item { path: path.into(), mount, kind }
    }

    #[test]
    fn the_innermost_mount_is_the_ground() {
        let below = [
            item("/tmp", Kind::Own),
            item("/home", Kind::Cover),
            item("/home/al", Kind::Users),
            item("/home/al/hidden", Kind::Cover),
        ];
        for (path, expected) in [
            ("/tmp/x", Ground::Ours),
            ("/tmpx", Ground::Host),
            ("/home/bo", Ground::Ours),
            ("/home/al/w", Ground::Host),
            ("/home/al/hidden/w", Ground::Ours),
            ("/home", Ground::Ours),
            ("/usr", Ground::Host),
        ] {
            assert_eq!(ground(&below, Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_bridge_folder_is_shown_whole_and_another_ones_socket_alone() {
        let mut plan = crate::arguments::tests::plan();
        assert_eq!(bridge(&plan), Path::new("/run/bridge.sock"));
        plan.bridge.socket = AbsolutePath::new("/run/s/bridge/bridge.sock").unwrap();
        assert_eq!(bridge(&plan), Path::new("/run/s/bridge"));
    }

    #[test]
    fn what_is_hidden_needs_no_cover_and_what_is_visible_no_copy() {
        assert!(!is_needed(Kind::Cover, Ground::Ours) && is_needed(Kind::Cover, Ground::Host));
        assert!(!is_needed(Kind::Shown, Ground::Host) && is_needed(Kind::Shown, Ground::Ours));
        assert!(is_needed(Kind::Users, Ground::Host) && is_needed(Kind::Own, Ground::Host));
    }
}
