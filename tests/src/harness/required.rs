//! An installed server in small: spawnd as root with its socket, two ordinary users in its policy,
//! and a frontd of a user of its own that was handed its sockets as systemd does it, so that
//! clients are known by token or by their Unix socket. Needs root.
//!
//! The users are in no passwd of the machine: both daemons see one of their own, by a mount.

use std::fs::{File, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::place::{folder, install, listener};
use super::spawnd::{Place, until};
use super::{Caller, Client, binary, processes};

/// The users of sessions, and frontd's. Not 65534, whom policy refuses.
pub const ALICE: u32 = 42421;
pub const BOB: u32 = 42422;
pub const FRONTD: u32 = 42423;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n\
    nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";

/// With a passwd of its own the program starts as it would without.
const SPAWND: &str = r#"mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 &&
    exec "$@" --config-fd 3 3<&0 </dev/null"#;
const ROOTS: &str =
    r#"mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@""#;
/// Its sockets come as the first three descriptors.
const FRONTD_START: &str = r#"exec 3<&0 4<&1 5<&2 0</dev/null 1>>"$3" 2>&1
    mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 3 &&
    exec env LISTEN_FDS=3 LISTEN_PID=$$ setpriv --reuid "$1" --regid "$1" --clear-groups -- \
    "$2" serve --spawnd "$3""#;

/// What a test may change.
#[derive(Debug, Default)]
pub struct Wanted {
    /// frontd.toml, beside what a server for many needs. Begins with keys of no table.
    pub config: String,
    /// More keys of alice's and of bob's entry in the policy.
    pub alice: String,
    pub bob: String,
    /// More tables of spawnd.toml, as `[limits]`.
    pub tables: String,
    /// The conf file of the fake claude.
    pub fake: Option<Value>,
    /// Another claude than the fake one.
    pub claude: Option<PathBuf>,
}

pub struct Required {
    /// Over TCP, and nobody yet.
    pub client: Client,
    /// Where the Unix socket is.
    pub socket: PathBuf,
    /// Held as systemd holds them: frontd comes and goes.
    tcp: TcpListener,
    pub unix: UnixListener,
    // Before the folders that they use.
    frontd: Option<Child>,
    spawnd: Child,
    pub place: Place,
}

impl Required {
    /// Both daemons, and frontd serves.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start(wanted: Wanted) -> Self {
        let place = Place::new();
        let (passwd, group) = (place.path.join("passwd"), place.path.join("group"));
        let (mut users, mut groups) =
            (PASSWD.to_owned(), "root:x:0:\nnogroup:x:65534:\n".to_owned());
        for (name, uid) in [("alice", ALICE), ("bob", BOB), ("frontd", FRONTD)] {
            let home = place.path.join("homes").join(name);
            folder(&home, uid, 0o700);
            users.push_str(&format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
            groups.push_str(&format!("{name}:x:{uid}:\n"));
        }
        for (path, text) in [(&passwd, &users), (&group, &groups)] {
            std::fs::write(path, text).expect("accounts");
            std::fs::set_permissions(path, Permissions::from_mode(0o644)).expect("accounts");
        }
        for name in ["alice", "bob"] {
            let uid = if name == "alice" { ALICE } else { BOB };
            folder(&place.path.join("ws").join(name), uid, 0o700);
        }
        folder(&place.path.join("frontd"), FRONTD, 0o700);
        let claude = claude(&place, &wanted);
        let policy = place.path.join("spawnd.toml");
        std::fs::write(&policy, compose(&place, &claude, &wanted)).expect("policy");
        std::fs::set_permissions(&policy, Permissions::from_mode(0o600)).expect("policy");
        let config = place.path.join("frontd.toml");
        std::fs::write(&config, frontd_toml(&place, &wanted.config)).expect("configuration");
        let log = |name: &str| File::create(place.path.join(name)).expect("log");
        let spawnd = own_mounts(SPAWND)
            .args([&passwd, &group, &binary("spawnd")])
            .arg("--socket")
            .arg(place.socket())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(File::open(&policy).expect("policy"))
            .stderr(log("spawnd.log"))
            .spawn()
            .expect("spawnd");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = place.run.join("http.sock");
        let unix = listener(&socket);
        let client = Client::new(tcp.local_addr().expect("an address"));
        let mut server = Self { client, socket, tcp, unix, frontd: None, spawnd, place };
        server.start_frontd().await;
        server
    }

    /// A frontd on the sockets and the folders of the one before. Returns when it serves and is
    /// connected to spawnd.
    ///
    /// # Panics
    /// When it does not start, or there is one.
    pub async fn start_frontd(&mut self) {
        assert!(self.frontd.is_none(), "there is a frontd");
        let path = &self.place.path;
        let carry = |socket: OwnedFd| std::process::Stdio::from(socket);
        let bridge = self.place.bridge.try_clone().expect("a descriptor");
        let frontd = own_mounts(FRONTD_START)
            .args([path.join("passwd"), path.join("group"), path.join("frontd.log")])
            .arg(FRONTD.to_string())
            .arg(binary("frontd"))
            .arg(self.place.socket())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("SYNTHESIS_STATE_DIR", path)
            .env("SYNTHESIS_CONFIG", path)
            .stdin(carry(self.tcp.try_clone().expect("a descriptor").into()))
            .stdout(carry(self.unix.try_clone().expect("a descriptor").into()))
            .stderr(carry(bridge.into()))
            .spawn()
            .expect("frontd");
        self.frontd = Some(frontd);
        // Connections wait for it; `/ready` is true when spawnd is there, too.
        let ready = async {
            while self.client.get("/ready").await.status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(super::client::PATIENCE, ready).await;
        assert!(came.is_ok(), "frontd is not ready: {}", self.log());
    }

    /// Whoever calls over the Unix socket as this user.
    #[must_use]
    pub fn peer(&self, uid: u32) -> Client {
        self.client.calling(Caller { socket: self.socket.clone(), uid })
    }

    /// Over TCP with this token.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Client {
        self.client.with("authorization", &format!("Bearer {token}"))
    }

    /// A new token: `arguments` stand behind `spawnd token add`.
    ///
    /// # Panics
    /// When there is none.
    pub fn token(&self, arguments: &[&str]) -> String {
        let (text, errors) = self.spawnd_says(&[&["token", "add"], arguments].concat());
        let token = text.trim().to_owned();
        assert!(token.starts_with("syn-"), "{text}{errors}");
        token
    }

    /// What `spawnd ARGUMENTS` by root's hand says: stdout and stderr.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn spawnd_says(&self, arguments: &[&str]) -> (String, String) {
        let path = &self.place.path;
        let said = own_mounts(ROOTS)
            .args([path.join("passwd"), path.join("group"), binary("spawnd")])
            .args(arguments)
            .arg("--config")
            .arg(path.join("spawnd.toml"))
            .output()
            .expect("spawnd");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(said.stdout), text(said.stderr))
    }

    /// The folder where this user's conversations live.
    pub fn workspace(&self, name: &str) -> PathBuf {
        self.place.path.join("ws").join(name)
    }

    pub fn signal_frontd(&self, signal: Signal) {
        let pid = self.frontd_pid().expect("there is a frontd");
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("frontd runs");
    }

    /// Sends it, and waits for the end.
    ///
    /// # Panics
    /// When there is no frontd, or it does not end.
    pub fn end_frontd(&mut self, signal: Signal) -> ExitStatus {
        self.signal_frontd(signal);
        let mut child = self.frontd.take().expect("there is a frontd");
        until("frontd's end", || child.try_wait().expect("wait"))
    }

    pub fn frontd_pid(&self) -> Option<u32> {
        self.frontd.as_ref().map(Child::id)
    }

    pub fn spawnd_pid(&self) -> u32 {
        self.spawnd.id()
    }

    /// Replaces what the test wants of frontd.toml, and has it read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn reload(&self, config: &str) {
        let text = frontd_toml(&self.place, config);
        std::fs::write(self.place.path.join("frontd.toml"), text).expect("configuration");
        self.signal_frontd(Signal::SIGHUP);
    }

    /// The claudes of all sessions.
    pub fn claudes(&self) -> Vec<u32> {
        processes::claudes(&self.place.run.join("sessions"))
    }

    /// What both daemons logged.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.place.path.join(name)).unwrap_or_default();
        format!("frontd said:\n{}\nspawnd said:\n{}", read("frontd.log"), read("spawnd.log"))
    }

    pub fn address(&self) -> SocketAddr {
        self.client.address
    }
}

impl Drop for Required {
    /// frontd first, then spawnd, which ends its sessions.
    fn drop(&mut self) {
        if let Some(mut frontd) = self.frontd.take() {
            let _ = frontd.kill();
            let _ = frontd.wait();
        }
        let _ = kill(Pid::from_raw(i32::try_from(self.spawnd.id()).unwrap_or(0)), Signal::SIGTERM);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(12);
        while std::time::Instant::now() < end && matches!(self.spawnd.try_wait(), Ok(None)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = self.spawnd.kill();
        let _ = self.spawnd.wait();
    }
}

/// `sh -c SCRIPT` with mounts that nobody else sees; it keeps its process id.
fn own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]);
    command
}

fn claude(place: &Place, wanted: &Wanted) -> PathBuf {
    if let Some(claude) = &wanted.claude {
        return claude.clone();
    }
    let Some(fake) = &wanted.fake else { return binary("fake-claude") };
    let own = place.path.join("bin/fake-claude");
    install("fake-claude", &own);
    let conf = place.path.join("bin/fake-claude.conf");
    std::fs::write(&conf, fake.to_string()).expect("the fake's file");
    std::fs::set_permissions(&conf, Permissions::from_mode(0o644)).expect("the fake's file");
    own
}

fn frontd_toml(place: &Place, config: &str) -> String {
    let workspace = place.path.join("ws/{user}");
    let bridge = place.run.join("bridge/bridge.sock");
    format!("default_workspace = {workspace:?}\nbridge.socket = {bridge:?}\n{config}\n")
}

fn compose(place: &Place, claude: &Path, wanted: &Wanted) -> String {
    let mut toml = format!(
        "frontd = {FRONTD}\nsandbox = \"required\"\naudit = \"best-effort\"\nscopes = false\n\
         state = {state:?}\nrun = {run:?}\nbridge = {bridge:?}\n\
         [claude]\npath = {claude:?}\n[programs]\nchannel = {channel:?}\n{tables}\n",
        state = place.state(),
        run = place.run,
        bridge = place.run.join("bridge/bridge.sock"),
        channel = binary("channel"),
        tables = wanted.tables,
    );
    for (name, keys) in [("alice", &wanted.alice), ("bob", &wanted.bob)] {
        let root = place.path.join("ws").join(name);
        toml.push_str(&format!("[[users.allow]]\nname = {name:?}\nroots = [{root:?}]\n{keys}\n"));
    }
    toml
}
