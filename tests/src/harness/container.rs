//! A throw-away machine with a real systemd (tests/scripts/container.sh): what is installed into
//! its stage runs there, and its files and sockets are reached from here.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{have_root, skip};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/container.sh");

pub struct Container {
    folder: PathBuf,
    /// Process 1 of the container as this machine counts.
    leader: u32,
}

/// Which control groups its systemd sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// What this machine has.
    Usual,
    /// Version 2 alone. Where this machine's controllers are of version 1, nothing enforces limits.
    Unified,
}

impl Container {
    /// Can there be one here? If not, says why.
    pub fn is_possible() -> bool {
        if !have_root() {
            return false;
        }
        let found = Command::new("systemd-nspawn").arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            skip("needs the packages systemd-container and dbus");
        }
        found.is_ok()
    }

    /// # Panics
    /// When it does not come up.
    pub fn boot(stage: &Path) -> Self {
        Self::boot_on(Groups::Usual, stage)
    }

    /// # Panics
    /// When it does not come up.
    pub fn boot_on(groups: Groups, stage: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("syn-{}-{number}", std::process::id()));
        let mut up = Command::new(SCRIPT);
        up.arg("up").arg(&folder).arg(stage);
        match groups {
            Groups::Usual => up.env_remove("CG"),
            Groups::Unified => up.env("CG", "unified"),
        };
        let booted = up.status();
        assert!(booted.expect("container.sh").success(), "no container");
        let leader = std::fs::read_to_string(folder.join("leader")).expect("leader");
        let leader = leader.trim().parse().expect("a pid");
        Self { folder, leader }
    }

    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// Where a path of the container lies on this machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut script = Command::new(SCRIPT);
        script.arg("run").arg(&self.folder).args(command).stdin(Stdio::null());
        script
    }

    /// # Panics
    /// When it cannot be run.
    pub fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("container.sh")
    }

    /// What a command that must succeed prints, without the last line's end.
    ///
    /// # Panics
    /// When it does not.
    pub fn say(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// As an account of the container, with its groups.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn run_as(&self, user: &str, command: &[&str]) -> Output {
        self.run(&[&Self::becoming(user)[..], command].concat())
    }

    fn becoming(user: &str) -> [&str; 4] {
        ["runuser", "-u", user, "--"]
    }

    /// As [`Self::start`], as an account of the container; what it prints is for the caller.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start_as(&self, user: &str, command: &[&str]) -> Child {
        let mut command = self.command(&[&Self::becoming(user)[..], command].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("container.sh")
    }

    /// Runs on while the test does.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start(&self, command: &[&str]) -> Child {
        self.command(command).spawn().expect("container.sh")
    }

    /// Is there a process with this number of the container, more than a corpse that process 1
    /// has not waited for yet?
    pub fn has_process(&self, pid: u32) -> bool {
        let status = std::fs::read_to_string(self.path(&format!("/proc/{pid}/status")));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("down").arg(&self.folder).status();
    }
}
