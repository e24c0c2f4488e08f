//! What spawnd relies on must be root's alone to change: else it does not start, and says what.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::harness::have_root;
use tests::harness::spawnd::{NOBODY, Place, file, folder, install, until};

/// An installation of its own: each thing in a folder of its own.
struct Installed {
    place: Place,
}

impl Installed {
    fn new() -> Self {
        let place = Place::new();
        let installed = Self { place };
        for (folder_name, program) in [
            ("lib", "spawnd"),
            ("lib", "launch"),
            ("part", "channel"),
            ("claude", "hostile-claude"),
        ] {
            folder(&installed.path(folder_name), 0, 0o755);
            install(program, &installed.path(&format!("{folder_name}/{program}")));
        }
        folder(&installed.path("etc"), 0, 0o755);
        let toml = format!(
            "frontd = 0\naudit = \"best-effort\"\nscopes = false\nstate = \"{state}\"\n\
             run = \"{run}\"\nbridge = \"{run}/bridge/bridge.sock\"\n\
             [claude]\npath = \"{claude}\"\n[programs]\nchannel = \"{channel}\"\n\
             [[users.allow]]\nname = \"somebody\"\n",
            state = installed.place.state().display(),
            run = installed.place.run.display(),
            claude = installed.path("claude/hostile-claude").display(),
            channel = installed.path("part/channel").display(),
        );
        file(&installed.path("etc/spawnd.toml"), &toml, 0, 0o644);
        installed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path.join(name)
    }

    /// What it says on not starting; `None`: it serves.
    fn fault(&self) -> Option<String> {
        let socket = self.place.socket();
        let _ = fs::remove_file(&socket);
        let mut spawnd = Command::new(self.path("lib/spawnd"))
            .arg("--config")
            .arg(self.path("etc/spawnd.toml"))
            .arg("--socket")
            .arg(&socket)
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ended = until("its start or its end", || match spawnd.try_wait().unwrap() {
            Some(status) => Some(Some(status)),
            None => socket.exists().then_some(None),
        });
        if ended.is_none() {
            let _ = spawnd.kill();
        }
        let output = spawnd.wait_with_output().unwrap();
        let status = ended?;
        assert_eq!(status.code(), Some(1), "{output:?}");
        Some(String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn names(&self, path: &Path, why: &str) {
        let fault = self.fault().unwrap_or_else(|| panic!("it started; {} {why}", path.display()));
        let name = path.display().to_string();
        assert!(fault.contains("not to be trusted") && fault.contains(&name), "{fault}");
    }
}

const RELIED_ON: [&str; 9] = [
    "etc",
    "etc/spawnd.toml",
    "lib",
    "lib/launch",
    "part",
    "part/channel",
    "claude",
    "claude/hostile-claude",
    "",
];

#[test]
fn what_others_can_change_keeps_spawnd_from_starting_and_is_named() {
    if !have_root() {
        return;
    }
    let installed = Installed::new();
    assert_eq!(installed.fault(), None);
    for name in RELIED_ON {
        // `join` of nothing would end the path with a slash.
        let path =
            if name.is_empty() { installed.place.path.clone() } else { installed.path(name) };
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        for writable in [0o020, 0o002, 0o1002] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | writable)).unwrap();
            installed.names(&path, "is writable by others");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(NOBODY), None).unwrap();
        installed.names(&path, "is another user's");
        chown(&path, Some(0), None).unwrap();
    }
    assert_eq!(installed.fault(), None);
}

#[test]
fn a_systemd_run_that_others_can_change_keeps_spawnd_from_starting_and_is_named() {
    if !have_root() {
        return;
    }
    let installed = Installed::new();
    let program = installed.path("part/systemd-run");
    file(&program, "", 0, 0o777);
    let config = installed.path("etc/spawnd.toml");
    let toml = fs::read_to_string(&config).unwrap();
    let programs = format!("[programs]\nsystemd_run = \"{}\"", program.display());
    let toml = toml.replace("scopes = false", "scopes = true").replace("[programs]", &programs);
    file(&config, &toml, 0, 0o644);
    installed.names(&program, "is writable by everybody");
}

#[test]
fn a_link_that_another_user_owns_or_that_leads_where_others_write_is_named() {
    if !have_root() {
        return;
    }
    let installed = Installed::new();
    let claude = installed.path("claude/hostile-claude");
    let open = installed.path("open");
    folder(&open, 0, 0o777);
    fs::rename(&claude, open.join("real")).unwrap();
    std::os::unix::fs::symlink(open.join("real"), &claude).unwrap();
    installed.names(&open, "is writable by everybody");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(installed.fault(), None);
    std::os::unix::fs::lchown(&claude, Some(NOBODY), None).unwrap();
    installed.names(&claude, "is another user's link");
}
