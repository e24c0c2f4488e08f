//! One `frontd dev` with its spawnd, a state folder of its own and a claude of the test's choice.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Client, binary, processes};

/// A server that says nothing for this long does not start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How a test wants its server.
#[derive(Debug, Default)]
pub struct Options {
    /// frontd.toml.
    pub config: String,
    /// The conf file of the fake claude.
    pub fake: Option<Value>,
    /// Another claude than the fake one.
    pub claude: Option<PathBuf>,
    /// Another build's frontd, beside its spawnd and channel.
    pub frontd: Option<PathBuf>,
    /// Run the whole pair as this user; needs root.
    pub as_user: Option<&'static str>,
    pub environment: Vec<(String, String)>,
    /// Keep frontd's store on a disk of its own of this size; needs root.
    pub store_bytes: Option<u64>,
}

pub struct Server {
    pub client: Client,
    pub state: PathBuf,
    /// The uid that sessions run as.
    pub session_uid: u32,
    child: Child,
    /// Before the folder that it is in.
    _store: Option<Mount>,
    folder: TempDir,
}

/// A disk in memory, while this lives.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, bytes: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&path)?;
        let options = format!("size={bytes},mode=0777");
        let kind = Some("tmpfs");
        mount(kind, &path, kind, MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

impl Server {
    /// # Panics
    /// When the server does not start.
    pub async fn start(options: Options) -> Self {
        Self::try_start(options).await.expect("the server starts")
    }

    /// # Errors
    /// What the server said instead of `ready`.
    pub async fn try_start(options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("syn").tempdir()?;
        // Root's sessions run as another user, who must get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        Self::start_in(folder, options).await
    }

    async fn start_in(folder: TempDir, options: Options) -> anyhow::Result<Self> {
        let user = options.as_user.map(|name| User::from_name(name)?.context("no such user"));
        let user = user.transpose()?;
        let state = folder.path().join("s");
        let home = state.join("home");
        for path in [&state, &home] {
            std::fs::create_dir_all(path)?;
            if let Some(user) = &user {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        if let Some(fake) = &options.fake {
            let file = home.join(".fake-claude.json");
            std::fs::write(&file, fake.to_string())?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
        }
        let config = folder.path().join("config");
        std::fs::create_dir_all(&config)?;
        std::fs::write(config.join("frontd.toml"), &options.config)?;

        let session_uid = match &user {
            Some(user) => user.uid.as_raw(),
            None if Uid::effective().is_root() => {
                let names = ["synthesis-claude", "nobody"];
                let user = names.iter().find_map(|name| User::from_name(name).ok().flatten());
                user.context("nobody is missing")?.uid.as_raw()
            }
            None => Uid::effective().as_raw(),
        };
        let store = options.store_bytes.map(|bytes| Mount::new(state.join("frontd"), bytes));
        let store = store.transpose()?;
        let frontd = options.frontd.unwrap_or_else(|| binary("frontd"));
        let mut command = Command::new(frontd);
        command
            .arg("dev")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("SYNTHESIS_HTTP", "127.0.0.1:0")
            .env("SYNTHESIS_BRIDGE", "127.0.0.1:0")
            .env("SYNTHESIS_STATE_DIR", &state)
            .env("SYNTHESIS_CONFIG", &config)
            .env("SYNTHESIS_CLAUDE", options.claude.unwrap_or_else(|| binary("fake-claude")))
            .envs(options.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .kill_on_drop(true);
        if let Some(user) = user {
            command.as_std_mut().uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_WITHIN, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            bail!("no ready line; it said:\n{}", read(&folder.path().join("log")));
        };
        let address = line.strip_prefix("ready http://").context("the ready line")?;
        let address: SocketAddr = address.parse()?;
        let client = Client::new(address);
        Ok(Self { client, state, session_uid, child, _store: store, folder })
    }

    /// Stops the server and starts another in the same folders, with the default options.
    ///
    /// # Panics
    /// When either fails.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| ()).await
    }

    /// The same, with a change to its state folder in between.
    ///
    /// # Panics
    /// When either fails.
    pub async fn restart_after(mut self, change: impl FnOnce(&Path)) -> Self {
        self.end().await;
        change(&self.state);
        Self::start_in(self.folder, Options::default()).await.expect("the server starts again")
    }

    /// frontd's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("not waited for")
    }

    /// What both daemons logged.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    /// Every process of this server's sessions, by the session folder that stands in what they
    /// were started with.
    pub fn session_processes(&self) -> Vec<u32> {
        processes::mentioning(&self.state.join("run/sessions"))
    }

    /// The claudes among them.
    pub fn claudes(&self) -> Vec<u32> {
        processes::claudes(&self.state.join("run/sessions"))
    }

    /// A file of the one session's own folder, as its claude sees it.
    ///
    /// # Panics
    /// When there is not exactly one claude.
    pub fn session_file(&self, name: &str) -> std::io::Result<Vec<u8>> {
        processes::session_file(&self.state.join("run/sessions"), name)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("the server runs");
    }

    /// Asks the server to end and waits; its folders stay.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = tokio::time::timeout(START_WITHIN, self.child.wait()).await;
        status.expect("it ends in time").expect("wait");
    }

    /// Asks the server to end, waits, and returns its status.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(mut self, signal: Signal) -> (std::process::ExitStatus, String) {
        self.signal(signal);
        let status = tokio::time::timeout(START_WITHIN, self.child.wait()).await;
        (status.expect("it ends in time").expect("wait"), self.log())
    }
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let _ = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}
