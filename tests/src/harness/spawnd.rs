//! A real spawnd of one's own, as root, whose sessions are real other users, and the raw client
//! that plays frontd. What the daemon leaves behind is in its [`Place`], which goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use proto::ids::{AbsolutePath, ConversationId, Secret, SessionId, UnixUser};
use proto::spawn::{PermissionMode, Proof, Spawn, TerminalSize};

pub use super::place::{Place, file, folder, install, listener};
use super::seqpacket::Client;
use super::{binary, processes};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A user that policy names. The account is given inline: no entry in passwd is needed.
#[derive(Debug, Clone)]
pub struct User {
    pub name: &'static str,
    pub uid: u32,
    /// More keys of the user's table.
    pub keys: String,
}

/// The user of most tests: one that exists everywhere.
pub const NOBODY: u32 = 65534;
/// Another user, without an entry in passwd.
pub const OTHER: u32 = 42420;

impl User {
    pub fn nobody() -> Self {
        Self { name: "nobody", uid: NOBODY, keys: String::new() }
    }

    pub fn other() -> Self {
        Self { name: "other", uid: OTHER, keys: String::new() }
    }

    #[must_use]
    pub fn with(mut self, keys: &str) -> Self {
        self.keys = format!("{}{keys}\n", self.keys);
        self
    }
}

/// How a test wants its spawnd.
#[derive(Debug, Clone)]
pub struct Settings {
    pub sandbox: &'static str,
    pub audit: &'static str,
    pub claude: PathBuf,
    pub users: Vec<User>,
    /// More tables, as `[limits]`.
    pub tables: String,
    /// The uid that may connect, beside root.
    pub frontd: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sandbox: "required",
            audit: "best-effort",
            claude: binary("hostile-claude"),
            users: vec![User::nobody(), User::other()],
            tables: String::new(),
            frontd: 0,
        }
    }
}

pub struct Daemon {
    // Before the folder that it uses.
    process: Child,
    pub place: Place,
    pub users: Vec<User>,
}

impl Daemon {
    pub fn start(settings: Settings) -> Self {
        Self::start_in(Place::new(), settings)
    }

    /// It says what it has to say to [`Place::log`].
    ///
    /// # Panics
    /// When the daemon cannot be started.
    pub fn start_in(place: Place, settings: Settings) -> Self {
        let log = fs::File::create(place.path.join("log")).expect("log");
        Self::start_saying(place, settings, log)
    }

    /// # Panics
    /// When the daemon cannot be started.
    pub fn start_saying(place: Place, settings: Settings, stderr: impl Into<Stdio>) -> Self {
        for user in &settings.users {
            folder(&place.root(user), user.uid, 0o755);
            folder(&place.real_home(user), user.uid, 0o755);
        }
        let config = place.path.join("spawnd.toml");
        file(&config, &compose(&place, &settings), 0, 0o600);
        let config = fs::File::open(config).expect("configuration");
        let process = begin(&place, config, stderr);
        Self { process, place, users: settings.users }
    }

    /// Ends the daemon and starts another in its place.
    ///
    /// # Panics
    /// When either fails.
    pub fn restart(&mut self) {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("a child of ours");
        let config = fs::File::open(self.place.path.join("spawnd.toml")).expect("configuration");
        let log = fs::OpenOptions::new().append(true).open(self.place.path.join("log"));
        self.process = begin(&self.place, config, log.expect("log"));
    }

    pub fn user(&self, name: &str) -> &User {
        self.users.iter().find(|user| user.name == name).expect("a user of this daemon")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).expect("the daemon was not waited for");
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// A connection without a hello.
    ///
    /// # Panics
    /// When the daemon does not listen.
    pub fn connect(&self) -> Client {
        let name = UnixAddr::new(&self.place.socket()).expect("a short path");
        let deadline = Instant::now() + PATIENCE;
        // A daemon's start has no event: only connect can tell.
        loop {
            let kind = SockType::SeqPacket;
            let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None);
            let socket = socket.expect("socket");
            match connect(socket.as_raw_fd(), &name) {
                Ok(()) => return Client::new(socket),
                Err(errno) => {
                    let late = Instant::now() > deadline;
                    let ended = !processes::lives(self.pid());
                    assert!(!late && !ended, "connect: {errno}; {}", self.place.log());
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A connection that said hello. One at a time is served: the place of one that was just
    /// dropped may not be free yet.
    ///
    /// # Panics
    /// When the daemon does not serve.
    pub fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut client = self.connect();
            if client.try_hello() {
                return client;
            }
            assert!(Instant::now() < deadline, "no hello; spawnd said:\n{}", self.place.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A request that policy allows, for the first user.
    pub fn request(&self, workspace: &Path) -> Spawn {
        self.request_of(&self.users[0], workspace)
    }

    /// # Panics
    /// When the path is none for the wire.
    pub fn request_of(&self, user: &User, workspace: &Path) -> Spawn {
        Spawn {
            session: SessionId::random(),
            conversation: conversation(),
            user: UnixUser::new(user.name).expect("a name"),
            proof: Proof::None,
            workspace: absolute(workspace),
            permission_mode: PermissionMode::AcceptEdits,
            model: None,
            terminal: TerminalSize::new(33, 101).expect("a size"),
            hooks: true,
            instructions: None,
            secret: Secret::random(),
        }
    }

    /// Open descriptors of the daemon.
    pub fn descriptors(&self) -> usize {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        folder.expect("the daemon runs").count()
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// When the daemon is gone.
    pub fn resident(&self) -> u64 {
        let status = processes::status(self.pid()).expect("the daemon runs");
        status["VmRSS"].trim_end_matches(" kB").trim().parse().expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // First kindly: it ends its sessions and their folders.
        let _ = kill(Pid::from_raw(i32::try_from(self.pid()).unwrap_or(0)), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(12);
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn begin(place: &Place, config: fs::File, stderr: impl Into<Stdio>) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", START, "sh"]).arg(binary("spawnd")).arg(place.socket()).env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(config).stderr(stderr);
    command.spawn().expect("spawnd")
}

/// The configuration comes on standard input; the shell makes a descriptor 3 of it, so that no
/// other test's child inherits that number.
pub const START: &str = r#"exec "$1" --config-fd 3 --socket "$2" 3<&0 </dev/null"#;

/// spawnd.toml of a test.
fn compose(place: &Place, settings: &Settings) -> String {
    let base = place.path.display();
    let claude = settings.claude.display();
    let channel = binary("channel");
    let mut toml = format!(
        "frontd = {frontd}\nsandbox = \"{sandbox}\"\naudit = \"{audit}\"\nscopes = false\n\
         state = \"{base}/state\"\nrun = \"{run}\"\nbridge = \"{run}/bridge/bridge.sock\"\n\
         [claude]\npath = \"{claude}\"\n[programs]\nchannel = \"{channel}\"\n{tables}\n",
        run = place.run.display(),
        frontd = settings.frontd,
        sandbox = settings.sandbox,
        audit = settings.audit,
        channel = channel.display(),
        tables = settings.tables,
    );
    for user in &settings.users {
        let account: BTreeMap<&str, String> = BTreeMap::from([
            ("uid", user.uid.to_string()),
            ("gid", user.uid.to_string()),
            ("home", format!("\"{}\"", place.real_home(user).display())),
            ("shell", "\"/bin/sh\"".to_owned()),
        ]);
        let account: Vec<String> =
            account.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        toml.push_str(&format!(
            "[[users.allow]]\nname = \"{name}\"\nroots = [\"{root}\"]\naccount = {{ {account} }}\n",
            name = user.name,
            root = place.root(user).display(),
            account = account.join(", "),
        ));
        // A key of the test takes the place of the usual one.
        for usual in [
            "proof = \"none\"",
            "permission_modes = [\"acceptEdits\", \"bypassPermissions\", \"dontAsk\", \"manual\", \"plan\"]",
        ] {
            let key = usual.split(' ').next().unwrap_or_default();
            if !user.keys.lines().any(|line| line.starts_with(key)) {
                toml.push_str(usual);
                toml.push('\n');
            }
        }
        toml.push_str(&user.keys);
    }
    toml
}

/// # Panics
/// When the path is none for the wire.
pub fn absolute(path: &Path) -> AbsolutePath {
    AbsolutePath::new(path.to_str().expect("text")).expect("a path for the wire")
}

/// # Panics
/// Never: the digits are a uuid's.
pub fn conversation() -> ConversationId {
    let digits = Secret::random();
    serde_json::from_value(serde_json::json!(digits.expose()[..32])).expect("a uuid")
}

/// Waits for a condition that has no event of its own.
///
/// # Panics
/// When it does not become true.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
