//! What a session has to itself: /dev with its terminal, and the tmpfs of its folder and /tmp.

use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, minor, mkdirat};
use nix::unistd::symlinkat;
use proto::launch::Plan;
use spawnd::sys::mount as tree;

use crate::mounts::{at, failed, find};
use crate::stop::Stop;
use crate::world::{Item, Kind, copy, empty, leads};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// A /dev of copies, in which the session's own terminal is the only one.
///
/// # Errors
/// [`Stop::Mount`].
pub(crate) fn devices() -> Result<Vec<Item>, Stop> {
    let dev = empty(Path::new("/dev"))?;
    for (target, name) in LINKS {
        symlinkat(target, &dev, name).map_err(failed(name))?;
    }
    let mut items = vec![Item { path: "/dev".into(), mount: dev, kind: Kind::Cover }];
    let terminal = terminal()?;
    for name in DEVICES.into_iter().chain([terminal.as_str()]) {
        let path = Path::new("/dev").join(name);
        let node = find(&path).map_err(failed(name))?;
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
    let node = find(&Path::new("/dev").join(&name)).and_then(fstat).map_err(failed(&name))?;
    if (node.st_dev, node.st_ino) == (follower.st_dev, follower.st_ino) {
        Ok(name)
    } else {
        Err(failed(&name)(Errno::ESTALE))
    }
}

/// The session's tmpfs: its folder, /tmp, /var/tmp and /dev/shm, under one limit.
///
/// # Errors
/// [`Stop::Mount`].
pub(crate) fn folders(plan: &Plan) -> Result<Vec<Item>, Stop> {
    let folder = plan.folder.as_path();
    let failure = || plan.folder.to_string();
    // The socket on which spawnd listens is the host's.
    let notify = folder.join("notify");
    let socket = find(&notify).map_err(failed("notify"))?;
    let socket = copy(&socket, tree::READ_ONLY | tree::NO_SETUID | tree::NO_DEVICES)
        .map_err(at("notify"))?;

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
    let place = find(folder).map_err(failed(&failure()))?;
    tree::attach(mount.as_fd(), place.as_fd()).map_err(at(&failure()))?;
    let mut items = vec![Item { path: notify, mount: socket, kind: Kind::Shown }];
    let shm = vec![PathBuf::from("/dev/shm")];
    // Sticky, as /tmp is. In its own tmpfs the user may rename them: the copies stay where they are.
    for (name, paths) in [("tmp", replaced(&["/tmp", "/var/tmp"])?), ("shm", shm)] {
        mkdirat(&mount, name, Mode::from_bits_truncate(0o1777)).map_err(failed(name))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let inner = openat(&mount, name, flags, Mode::empty()).map_err(failed(name))?;
        for path in paths {
            let mount = copy(&inner, 0).map_err(at(name))?;
            items.push(Item { path, mount, kind: Kind::Own });
        }
    }
    let mount = copy(&mount, 0).map_err(at(&failure()))?;
    items.push(Item { path: folder.to_owned(), mount, kind: Kind::Own });
    Ok(items)
}

/// Where these lead, each once: either may be a link, to the other too.
fn replaced(paths: &[&str]) -> Result<Vec<PathBuf>, Stop> {
    let mut found = Vec::new();
    for path in paths {
        let real = leads(Path::new(path), &[libc::ENOENT])?;
        found.extend(real.filter(|real| !found.contains(real)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tmp_that_is_a_link_is_replaced_where_it_leads() {
        let top = std::env::temp_dir().join(format!("own-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let top = top.canonicalize().unwrap();
        let path = |name: &str| top.join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(path("elsewhere")).unwrap();
        symlink("elsewhere", path("tmp")).unwrap();
        symlink(path("tmp"), path("var-tmp")).unwrap();
        symlink("endless", path("endless")).unwrap();
        let found = replaced(&[&path("tmp"), &path("var-tmp"), &path("absent")]);
        let endless = replaced(&[&path("endless")]);
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(found.unwrap(), [top.join("elsewhere")]);
        assert!(matches!(endless, Err(Stop::Mount { .. })));
    }
}
