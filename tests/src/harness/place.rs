//! Where a daemon of a test works: folders with the owners and modes that they would have in
//! production, removed at the end.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::binary;
use super::spawnd::User;

/// A folder of root's where sessions' users get through; not below /tmp, which sessions do not see.
#[derive(Debug)]
pub struct Place {
    pub path: PathBuf,
    /// Below /run, as in production: sessions see their own folder of it and the bridge.
    pub run: PathBuf,
    /// Sessions may reach this one.
    pub bridge: UnixListener,
}

impl Place {
    /// # Panics
    /// When a folder cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/var/lib/synh-{}-{number}", std::process::id()));
        let run = PathBuf::from(format!("/run/synh-{}-{number}", std::process::id()));
        for name in ["", "ws", "homes", "bin"] {
            folder(&path.join(name), 0, 0o755);
        }
        folder(&run.join("bridge"), 0, 0o755);
        let bridge = listener(&run.join("bridge/bridge.sock"));
        Self { path, run, bridge }
    }

    /// A new folder of `user` in the user's workspace root.
    pub fn workspace(&self, user: &User, name: &str) -> PathBuf {
        let path = self.root(user).join(name);
        folder(&path, user.uid, 0o755);
        path
    }

    /// Below it policy lets the user work.
    pub fn root(&self, user: &User) -> PathBuf {
        self.path.join("ws").join(user.name)
    }

    /// The account's own home, which is not the session's.
    pub fn real_home(&self, user: &User) -> PathBuf {
        self.path.join("homes").join(user.name)
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("spawnd.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// The folders of the sessions that there are.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.run.join("sessions")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// A socket that anybody may connect to.
///
/// # Panics
/// When it cannot be bound.
pub fn listener(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).expect("bind");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod");
    listener
}

/// A folder with this owner and mode, whatever the umask.
///
/// # Panics
/// When it cannot be made.
pub fn folder(path: &Path, uid: u32, mode: u32) {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).expect("mkdir");
    chown(path, Some(uid), Some(uid)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A program's copy, root's, that everybody may run. Another process writes it: a descriptor of ours
/// that is open for writing could be inherited by another test's child, and exec would answer
/// ETXTBSY.
///
/// # Panics
/// When it cannot be copied.
pub fn install(program: &str, path: &Path) {
    let copied = Command::new("cp").arg(binary(program)).arg(path).status();
    assert!(copied.expect("cp").success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// A file with this owner and mode.
///
/// # Panics
/// When it cannot be written.
pub fn file(path: &Path, content: &str, uid: u32, mode: u32) {
    fs::write(path, content).expect("write");
    chown(path, Some(uid), Some(uid)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
