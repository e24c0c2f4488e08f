//! A spawnd that keeps its sessions, and a `frontd serve` that comes and goes: stopped, killed and
//! started again on the same folders and the same port.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::spawnd::START;
use super::{Client, binary, processes};

/// A daemon that says nothing for this long does not start; one that ends later does not end.
const WITHIN: Duration = Duration::from_secs(30);
/// frontd's uid beside root's spawnd: nobody's, as `frontd dev` has it.
const FRONTD: u32 = 65533;

/// What a test may change. As root, frontd is an ordinary user and sessions are another's.
#[derive(Debug, Default)]
pub struct Wanted {
    /// frontd.toml.
    pub config: String,
    /// The conf file of the fake claude.
    pub fake: Option<Value>,
    /// Another claude than the fake one, and what its sessions must see.
    pub claude: Option<(PathBuf, Vec<PathBuf>)>,
    /// Policy lets nobody say what claude is told at its start.
    pub forbids_instructions: bool,
}

pub struct TwoDaemons {
    /// Of the latest frontd; the address stays.
    pub client: Client,
    pub state: PathBuf,
    /// The uid that sessions run as.
    pub session_uid: u32,
    session_user: String,
    frontd: Option<Child>,
    spawnd: Child,
    folder: TempDir,
}

impl TwoDaemons {
    /// Both, and frontd serves.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start(wanted: Wanted) -> Self {
        let mut daemons = Self::prepare(wanted).expect("spawnd starts");
        daemons.start_frontd().await;
        daemons
    }

    fn prepare(wanted: Wanted) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("syn").tempdir()?;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open.clone())?;
        let (user, frontd) = accounts()?;
        let state = folder.path().join("s");
        let make = |name: &str, uid: Uid, mode| -> anyhow::Result<()> {
            let path = state.join(name);
            std::fs::create_dir_all(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            Ok(chown(&path, Some(uid.as_raw()), None)?)
        };
        make("", Uid::effective(), 0o755)?;
        make("frontd", frontd, 0o700)?;
        make("run", Uid::effective(), 0o755)?;
        make("run/bridge", frontd, 0o755)?;
        make("workspace", user.uid, 0o700)?;
        make("home", user.uid, 0o700)?;
        if let Some(fake) = &wanted.fake {
            let file = state.join("home/.fake-claude.json");
            std::fs::write(&file, fake.to_string())?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
        }
        let config = folder.path().join("config");
        std::fs::create_dir_all(&config)?;
        std::fs::write(config.join("frontd.toml"), without_grace(&wanted.config))?;
        let policy = folder.path().join("spawnd.toml");
        std::fs::write(&policy, compose(&state, &user, frontd, wanted))?;
        std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o600))?;
        let spawnd = Command::new("sh")
            .args(["-c", START, "sh"])
            .arg(binary("spawnd"))
            .arg(state.join("spawnd.sock"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(File::open(&policy)?)
            .stderr(File::create(folder.path().join("spawnd.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            client: Client::new(SocketAddr::from(([127, 0, 0, 1], 0))),
            state,
            session_uid: user.uid.as_raw(),
            session_user: user.name,
            frontd: None,
            spawnd,
            folder,
        })
    }

    /// A frontd on the folders and the port of the one before. Returns when it is connected to
    /// spawnd and serves.
    ///
    /// # Panics
    /// When it does not start, or there is one.
    pub async fn start_frontd(&mut self) {
        self.try_start_frontd().await.expect("frontd starts");
    }

    async fn try_start_frontd(&mut self) -> anyhow::Result<()> {
        assert!(self.frontd.is_none(), "there is a frontd");
        let log = File::options().append(true).create(true).open(self.path("frontd.log"))?;
        let mut command = Command::new(binary("frontd"));
        command
            .arg("serve")
            .args(["--spawnd".as_ref(), self.state.join("spawnd.sock").as_os_str()])
            .args(["--user", &self.session_user])
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("SYNTHESIS_HTTP", self.client.address.to_string())
            .env("SYNTHESIS_STATE_DIR", &self.state)
            .env("SYNTHESIS_CONFIG", self.path("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if Uid::effective().is_root() {
            command.as_std_mut().uid(FRONTD).gid(FRONTD);
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(WITHIN, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else { bail!("no ready line; {}", self.log()) };
        let address = line.strip_prefix("ready http://").context("the ready line")?;
        self.client = Client::new(address.parse()?);
        self.frontd = Some(child);
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When there is no frontd, or it does not end well.
    pub async fn stop_frontd(&mut self) {
        let status = self.end_frontd(Signal::SIGTERM).await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Panics
    /// When there is no frontd.
    pub async fn kill_frontd(&mut self) {
        self.end_frontd(Signal::SIGKILL).await;
    }

    async fn end_frontd(&mut self, signal: Signal) -> std::process::ExitStatus {
        self.signal_frontd(signal);
        self.frontd_ends().await
    }

    /// Replaces frontd.toml and has frontd read it.
    ///
    /// # Panics
    /// When it cannot be written, or there is no frontd.
    pub fn reload(&self, config: &str) {
        let file = self.path("config").join("frontd.toml");
        std::fs::write(file, config).expect("frontd.toml");
        self.signal_frontd(Signal::SIGHUP);
    }

    /// # Panics
    /// When there is no frontd.
    pub fn signal_frontd(&self, signal: Signal) {
        let pid = self.frontd_pid().and_then(|pid| i32::try_from(pid).ok());
        kill(Pid::from_raw(pid.expect("there is a frontd")), signal).expect("frontd runs");
    }

    /// Waits for the end of a frontd that was asked to.
    ///
    /// # Panics
    /// When it does not end, or there is none.
    pub async fn frontd_ends(&mut self) -> std::process::ExitStatus {
        let mut child = self.frontd.take().expect("there is a frontd");
        let ended = tokio::time::timeout(WITHIN, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("it does not end: {}", self.log())).expect("wait")
    }

    pub fn frontd_pid(&self) -> Option<u32> {
        self.frontd.as_ref().and_then(Child::id)
    }

    pub fn spawnd_pid(&self) -> Option<u32> {
        self.spawnd.id()
    }

    /// What both daemons logged, every frontd in turn.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("frontd said:\n{}\nspawnd said:\n{}", read("frontd.log"), read("spawnd.log"))
    }

    /// The claudes of all sessions.
    pub fn claudes(&self) -> Vec<u32> {
        processes::claudes(&self.state.join("run/sessions"))
    }

    /// A file of the one session's own folder, as its claude sees it.
    ///
    /// # Errors
    /// What reading it answers.
    ///
    /// # Panics
    /// When there is not exactly one claude.
    pub fn session_file(&self, name: &str) -> std::io::Result<Vec<u8>> {
        processes::session_file(&self.state.join("run/sessions"), name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for TwoDaemons {
    /// spawnd ends its sessions with it; the folder goes last.
    fn drop(&mut self) {
        let Some(pid) = self.spawnd.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let end = std::time::Instant::now() + Duration::from_secs(12);
        while std::time::Instant::now() < end && matches!(self.spawnd.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whose sessions are, and whose frontd is.
fn accounts() -> anyhow::Result<(User, Uid)> {
    if !Uid::effective().is_root() {
        let own = User::from_uid(Uid::effective())?.context("the calling user has no name")?;
        let uid = own.uid;
        return Ok((own, uid));
    }
    for name in ["synthesis-claude", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok((user, Uid::from_raw(FRONTD)));
        }
    }
    bail!("nobody is missing")
}

/// A stop waits for nobody, unless the test is about that.
fn without_grace(config: &str) -> String {
    let none = "[limits]\nstop_grace_seconds = 0\n";
    if config.contains("stop_grace_seconds") {
        config.to_owned()
    } else if config.contains("[limits]\n") {
        config.replacen("[limits]\n", none, 1)
    } else {
        format!("{config}\n{none}")
    }
}

fn compose(state: &Path, user: &User, frontd: Uid, wanted: Wanted) -> String {
    let instructions = !wanted.forbids_instructions;
    let (claude, visible) = wanted.claude.unwrap_or_else(|| (binary("fake-claude"), Vec::new()));
    format!(
        "frontd = {frontd}\nsandbox = \"best-effort\"\naudit = \"best-effort\"\nscopes = false\n\
         state = {state:?}\nrun = {run:?}\nbridge = {bridge:?}\n\
         [claude]\npath = {claude:?}\n[programs]\nchannel = {channel:?}\n\
         [limits]\nspawns_per_second = 1000\nspawn_burst = 1000\n\
         [[users.allow]]\nname = {name:?}\nproof = \"none\"\nhome = \"real\"\n\
         roots = [{workspace:?}]\ninstructions = {instructions}\nsessions = 100\nvisible = {visible:?}\n\
         permission_modes = [\"acceptEdits\", \"bypassPermissions\", \"dontAsk\", \"manual\", \"plan\"]\n\
         account = {{ uid = {uid}, gid = {gid}, home = {home:?}, shell = \"/bin/sh\" }}\n",
        run = state.join("run"),
        bridge = state.join("run/bridge/bridge.sock"),
        channel = binary("channel"),
        name = user.name,
        workspace = state.join("workspace"),
        uid = user.uid,
        gid = user.gid,
        home = state.join("home"),
    )
}
