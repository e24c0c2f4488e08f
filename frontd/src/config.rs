//! `frontd.toml`: every setting with its default and its bounds. What is unknown or out of bounds
//! is refused with line and key, never ignored.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ids::{AbsolutePath, ModelName};
use proto::spawn::PermissionMode;
use serde::Deserialize;

use crate::store::Keep;

/// Bytes of a configuration file that are read.
const FILE: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge { path: PathBuf },
    /// The source names line, column and key.
    #[error("{}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Names that `Host` and `Origin` may have beside those of loopback.
    #[serde(deserialize_with = "host_names")]
    pub allowed_hosts: Vec<String>,
    pub auth: Auth,
    pub cors: Cors,
    /// Where a client's conversations live that name no other place, where clients have users of
    /// their own; `{user}` and `{home}` are replaced.
    #[serde(deserialize_with = "workspace")]
    pub default_workspace: String,
    /// At least one; a request without `model` gets the first.
    pub models: Models,
    /// `--model` for claude, where the chosen model names none; absent, the CLI's own default.
    pub claude_model: Option<ModelName>,
    /// Workspaces of agents, by the agent's id.
    pub agents: BTreeMap<String, AbsolutePath>,
    pub limits: Limits,
    pub principals: Principals,
    pub session: Session,
    pub bridge: Bridge,
    pub stream: Stream,
    pub store: Store,
    pub audit: Audit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 18900)),
            allowed_hosts: Vec::new(),
            auth: Auth::default(),
            cors: Cors::default(),
            default_workspace: "/var/lib/synthesis/users/{user}/workspace".to_owned(),
            models: Models::default(),
            claude_model: None,
            agents: BTreeMap::new(),
            limits: Limits::default(),
            principals: Principals::default(),
            session: Session::default(),
            bridge: Bridge::default(),
            stream: Stream::default(),
            store: Store::default(),
            audit: Audit::default(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `None`: tokens and peers where systemd handed the sockets over, else the serving user.
    pub mode: Option<AuthMode>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins, to the letter as browsers send them, whose pages may use this server.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Vec<String>,
}

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Loopback clients of the serving user and root, as one client.
    Local,
    /// Over TCP a token, over a Unix socket the kernel's word.
    Required,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    #[serde(deserialize_with = "body_size")]
    pub body_max_bytes: usize,
    /// claude processes at once.
    #[serde(deserialize_with = "count")]
    pub processes: usize,
    /// Messages that wait for one session.
    #[serde(deserialize_with = "count")]
    pub queue_per_session: usize,
    /// How long a request waits for a process slot.
    #[serde(deserialize_with = "seconds")]
    pub slot_wait_seconds: u64,
    /// After this long without a message a session's process is stopped.
    #[serde(deserialize_with = "seconds")]
    pub idle_seconds: u64,
    /// From the spawn of a process to its registered channel.
    #[serde(deserialize_with = "seconds")]
    pub start_timeout_seconds: u64,
    /// HTTP readers of one run at once.
    #[serde(deserialize_with = "readers")]
    pub readers_per_run: usize,
    /// How long answers under way may take to end when frontd stops.
    #[serde(deserialize_with = "grace")]
    pub stop_grace_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max_bytes: 32 << 20,
            processes: 20,
            queue_per_session: 16,
            slot_wait_seconds: 30,
            idle_seconds: 30 * 60,
            start_timeout_seconds: 60,
            readers_per_run: 1024,
            stop_grace_seconds: 5,
        }
    }
}

/// What one client may use, where clients have users of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Principals {
    #[serde(deserialize_with = "rate")]
    pub requests_per_minute: u32,
    /// Runs at once, waiting or under way.
    #[serde(deserialize_with = "count")]
    pub runs: usize,
    /// Of these, messages that claude has not been given.
    #[serde(deserialize_with = "count")]
    pub queue: usize,
    /// claude processes at once.
    #[serde(deserialize_with = "count")]
    pub processes: usize,
}

impl Default for Principals {
    fn default() -> Self {
        Self { requests_per_minute: 600, runs: 64, queue: 32, processes: 8 }
    }
}

impl Limits {
    pub fn slot_wait(&self) -> Duration {
        Duration::from_secs(self.slot_wait_seconds)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    pub fn start_timeout(&self) -> Duration {
        Duration::from_secs(self.start_timeout_seconds)
    }

    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Shall claude's hooks report? Without them a turn ends at its final reply.
    pub hooks: bool,
    pub permission_mode: PermissionMode,
    /// What a closed connection means for its run, unless the request says otherwise.
    pub on_disconnect: OnDisconnect,
    /// What becomes of a request's system and developer text.
    pub system_text: SystemText,
    /// Models whose requests get a session of their own, which is discarded afterwards.
    pub ephemeral_models: Vec<ModelName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// The run goes on.
    Continue,
    /// The run is aborted.
    Cancel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemText {
    Ignore,
    /// It is added to claude's own system prompt when a process starts.
    Append,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            hooks: true,
            permission_mode: PermissionMode::AcceptEdits,
            on_disconnect: OnDisconnect::Continue,
            system_text: SystemText::Ignore,
            ephemeral_models: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bridge {
    /// Of `frontd serve`; absent, the installed one under systemd, else one below the state folder.
    pub socket: Option<AbsolutePath>,
    /// Serve the first version of the bridge's protocol, which proves nothing.
    pub allow_unauthenticated: bool,
    /// Where, if so. Loopback only.
    #[serde(deserialize_with = "loopback")]
    pub first_version_listen: SocketAddr,
}

impl Default for Bridge {
    fn default() -> Self {
        let first_version_listen = SocketAddr::from(([127, 0, 0, 1], 18901));
        Self { socket: None, allow_unauthenticated: false, first_version_listen }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// A stream that has nothing to say says so this often.
    #[serde(deserialize_with = "seconds")]
    pub keep_alive_seconds: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { keep_alive_seconds: 15 }
    }
}

impl Stream {
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_seconds)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A finished run's events are kept this long, its row as long again.
    #[serde(deserialize_with = "days")]
    pub keep_days: u64,
    /// Of the database. Beyond, the oldest finished runs go before their time.
    #[serde(deserialize_with = "store_size")]
    pub max_bytes: u64,
    /// Of one run's events; a run that outgrows it fails.
    #[serde(deserialize_with = "run_size")]
    pub run_max_bytes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { keep_days: 30, max_bytes: 1 << 30, run_max_bytes: 16 << 20 }
    }
}

impl Store {
    pub fn run_bytes(&self) -> usize {
        usize::try_from(self.run_max_bytes).unwrap_or(usize::MAX)
    }

    pub fn keep(&self) -> Keep {
        Keep { age: Duration::from_secs(self.keep_days * 24 * 60 * 60), bytes: self.max_bytes }
    }
}

/// What is in the record beside who did what and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Each call of a tool, by the session's word.
    pub tools: bool,
    /// Of what a tool is called with, redacted; 0 for nothing.
    #[serde(deserialize_with = "preview_size")]
    pub tool_preview_bytes: usize,
    /// The beginning of messages and answers.
    pub content: bool,
}

/// What clients may put into `model`: not empty, each id once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Model>")]
pub struct Models(Vec<Model>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: ModelName,
    /// `--model` for claude.
    pub claude_model: Option<ModelName>,
}

impl Default for Models {
    fn default() -> Self {
        let model = |id: &str| {
            let id = ModelName::new(id).expect("a plain name");
            Model { id, claude_model: None }
        };
        Self(vec![model("synthesis"), model("synthesis-claude-bridge")])
    }
}

impl TryFrom<Vec<Model>> for Models {
    type Error = &'static str;

    fn try_from(models: Vec<Model>) -> Result<Self, Self::Error> {
        let mut ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        match ids.len() {
            0 => Err("at least one model is needed"),
            different if different < all => Err("two models have the same id"),
            _ => Ok(Self(models)),
        }
    }
}

impl Models {
    /// The model that `asked` names, or the first; `None` for a name that is not configured.
    pub fn find(&self, asked: Option<&str>) -> Option<&Model> {
        match asked {
            None => self.0.first(),
            Some(asked) => self.0.iter().find(|model| model.id.as_str() == asked),
        }
    }

    /// In their configured order.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.iter()
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|model| model.id.as_str())
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`]; the source of `Parse` names line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read as _;
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(read)?;
        let size = file.take(FILE + 1).read_to_string(&mut text).map_err(read)?;
        if size as u64 > FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// # Errors
    /// The first fault, with its line.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// What `--model` gets for a configured model.
    pub fn claude_model_of<'a>(&'a self, model: &'a Model) -> Option<&'a ModelName> {
        model.claude_model.as_ref().or(self.claude_model.as_ref())
    }
}

// ---- bounds, checked where the value stands so that the error has its line -----------------------

fn bounded<'de, D, T>(from: D, bounds: std::ops::RangeInclusive<T>) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + std::fmt::Display,
{
    let value = T::deserialize(from)?;
    if bounds.contains(&value) {
        Ok(value)
    } else {
        let (least, most) = bounds.into_inner();
        let rule = format!("{value} is not within {least} and {most}");
        Err(serde::de::Error::custom(rule))
    }
}

fn count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    bounded(from, 1..=10_000)
}

fn rate<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    bounded(from, 1..=1_000_000)
}

/// Up to a day: what is meant to be longer is meant to be something else.
fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, 1..=86_400)
}

/// Whoever stops a server waits for it.
fn grace<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, 0..=60)
}

fn body_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    bounded(from, 1024..=1 << 30)
}

/// Less than what a field of an entry can hold.
fn preview_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    bounded(from, 0..=4096)
}

/// Each reader may buffer a page of events.
fn readers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    bounded(from, 1..=1_000_000)
}

/// Up to a century.
fn days<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, 1..=36_500)
}

/// At least a few runs of the greatest size.
fn store_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, 64 << 20..=1 << 40)
}

/// At least one event of the greatest size; a run is held in memory while it is under way.
fn run_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, 1 << 20..=1 << 30)
}

fn loopback<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let address = SocketAddr::deserialize(from)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(serde::de::Error::custom(format!("{address} is not on loopback")))
    }
}

/// A path for any user.
fn workspace<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let tried = text.replace("{home}", "/h").replace("{user}", "u");
    AbsolutePath::new(tried).map(|_| text).map_err(serde::de::Error::custom)
}

/// `scheme://host[:port]`, as a browser writes it; `*` would let in everybody.
fn origins<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(from)?;
    let plain = |origin: &String| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        host.is_some_and(|host| {
            let plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
            !host.is_empty() && host.bytes().all(plain)
        })
    };
    match origins.iter().find(|origin| !plain(origin)) {
        None => Ok(origins),
        Some(origin) => Err(serde::de::Error::custom(format!("{origin:?} is no origin"))),
    }
}

/// Names as they stand before the port of Host and Origin.
fn host_names<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let plain = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    match names.iter().find(|name| !plain(name)) {
        None => Ok(names),
        Some(name) => Err(serde::de::Error::custom(format!("{name:?} is not a host name alone"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        match Config::parse(text) {
            Ok(_) => panic!("was taken: {text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            config.models.ids().collect::<Vec<_>>(),
            ["synthesis", "synthesis-claude-bridge"]
        );
        assert!(!config.bridge.allow_unauthenticated && config.session.hooks);
        assert_eq!(config.limits.idle(), Duration::from_secs(1800));
    }

    #[test]
    fn a_host_with_a_port_could_never_match_and_is_refused() {
        let error = refused("allowed_hosts = [\"chat.example.org:80\"]");
        assert!(error.contains("chat.example.org:80") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn every_setting_can_be_set() {
        let config = Config::parse(
            r#"
            listen = "[::1]:80"
            allowed_hosts = ["chat.example.org"]
            claude_model = "sonnet"
            [[models]]
            id = "fast"
            claude_model = "haiku"
            [[models]]
            id = "good"
            [agents]
            main = "/srv/main"
            [limits]
            body_max_bytes = 1048576
            processes = 2
            queue_per_session = 3
            slot_wait_seconds = 4
            idle_seconds = 5
            start_timeout_seconds = 6
            readers_per_run = 8
            stop_grace_seconds = 0
            [session]
            hooks = false
            permission_mode = "bypassPermissions"
            on_disconnect = "cancel"
            system_text = "append"
            ephemeral_models = ["fast"]
            [bridge]
            allow_unauthenticated = true
            first_version_listen = "127.0.0.1:0"
            [stream]
            keep_alive_seconds = 7
            [audit]
            tools = true
            tool_preview_bytes = 10
            content = true
            [store]
            keep_days = 9
            max_bytes = 100000000
            run_max_bytes = 2000000
            "#,
        )
        .unwrap();
        let model = |name: &str| ModelName::new(name).unwrap();
        let name = |asked| config.claude_model_of(config.models.find(asked).unwrap()).cloned();
        assert_eq!(name(None), Some(model("haiku")), "the first");
        assert_eq!(name(Some("good")), Some(model("sonnet")), "the common one");
        assert_eq!(config.models.find(Some("other")), None);
        assert_eq!(config.agents["main"].as_str(), "/srv/main");
        let limits = &config.limits;
        assert_eq!(
            (limits.body_max_bytes, limits.processes, limits.queue_per_session),
            (1 << 20, 2, 3)
        );
        assert_eq!(
            limits.slot_wait() + limits.idle() + limits.start_timeout(),
            Duration::from_secs(15)
        );
        assert_eq!(config.session.permission_mode, PermissionMode::BypassPermissions);
        assert_eq!(config.session.on_disconnect, OnDisconnect::Cancel);
        assert_eq!(config.session.system_text, SystemText::Append);
        assert_eq!(config.session.ephemeral_models, [model("fast")]);
        assert_eq!(config.bridge.first_version_listen.port(), 0);
        assert_eq!(config.stream.keep_alive(), Duration::from_secs(7));
        assert_eq!((limits.readers_per_run, limits.stop_grace()), (8, Duration::ZERO));
        assert!(config.audit.tools && config.audit.content);
        assert_eq!(config.audit.tool_preview_bytes, 10);
        let keep = Keep { age: Duration::from_secs(9 * 86_400), bytes: 100_000_000 };
        assert_eq!((config.store.keep(), config.store.run_max_bytes), (keep, 2_000_000));
    }

    #[test]
    fn a_fault_is_named_with_line_and_key() {
        for (text, line, key) in [
            ("\nlisten = 5", "line 2", "listen"),
            ("surplus = 1", "line 1", "surplus"),
            ("[limits]\n\nproces = 1", "line 3", "proces"),
            ("[surplus]\na = 1", "line 1", "surplus"),
            ("[limits]\nprocesses = 0", "line 2", "processes"),
            ("[limits]\nprocesses = -1", "line 2", "processes"),
            ("[limits]\nidle_seconds = 100000", "line 2", "idle_seconds"),
            ("[limits]\nidle_seconds = \"30min\"", "line 2", "idle_seconds"),
            ("[limits]\nbody_max_bytes = 5", "line 2", "body_max_bytes"),
            ("[session]\npermission_mode = \"default\"", "line 2", "permission_mode"),
            ("[session]\nhooks = 1", "line 2", "hooks"),
            ("[session]\non_disconnect = \"abort\"", "line 2", "on_disconnect"),
            ("[session]\nsystem_text = true", "line 2", "system_text"),
            ("[session]\nephemeral_models = [\"-a\"]", "line 2", "ephemeral_models"),
            ("[bridge]\nfirst_version_listen = \"0.0.0.0:1\"", "line 2", "first_version_listen"),
            ("[agents]\nmain = \"srv\"", "line 2", "main"),
            ("claude_model = \"--help\"", "line 1", "claude_model"),
            ("models = []", "line 1", "models"),
            ("[[models]]\nid = \"a\"\nsurplus = 1", "line 3", "surplus"),
            ("[[models]]\nid = \"a\"\n[[models]]\nid = \"a\"", "line 1", "models"),
            ("[[models]]\nid = \"-a\"", "line 2", "id"),
            ("listen = \"x\"\nlisten = \"y\"", "line 2", "listen"),
            ("[stream]\nkeep_alive_seconds = 0", "line 2", "keep_alive_seconds"),
            ("[store]\nkeep_days = 0", "line 2", "keep_days"),
            ("[store]\nmax_bytes = 1000", "line 2", "max_bytes"),
            ("[store]\nrun_max_bytes = 1", "line 2", "run_max_bytes"),
            ("[audit]\ntool_preview_bytes = 5000", "line 2", "tool_preview_bytes"),
            ("[limits]\nreaders_per_run = 0", "line 2", "readers_per_run"),
            ("[limits]\nstop_grace_seconds = 61", "line 2", "stop_grace_seconds"),
        ] {
            let error = refused(text);
            assert!(error.contains(line) && error.contains(key), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frontd.toml");
        let missing = Config::load(&path).unwrap_err();
        assert!(matches!(missing, ConfigError::Read { .. }), "{missing}");
        assert!(missing.to_string().contains("frontd.toml"));
        std::fs::write(&path, "[limits]\nprocesses = 3\n").unwrap();
        assert_eq!(Config::load(&path).unwrap().limits.processes, 3);
        std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::TooLarge { .. })));
        std::fs::write(&path, "surplus = 1").unwrap();
        let error = anyhow::Error::from(Config::load(&path).unwrap_err());
        assert!(format!("{error:#}").contains("line 1"), "{error:#}");
    }
}
