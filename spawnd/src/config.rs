//! spawnd.toml: what may stand in it, with every default, and where it is wrong. Looks at nothing
//! but the text.

mod fault;
mod values;

use std::collections::HashSet;

use proto::ids::{AbsolutePath, ModelName, UnixUser};
use proto::launch::Demand;
use proto::spawn::PermissionMode;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::folder::LONGEST_RUN;

pub use fault::Fault;
use fault::{fault_at, place_of};
pub use values::{
    Addresses, Argument, CredentialName, Credentials, Few, GroupName, Number, Root, Size, Tool,
    Value, VariableName, Variables,
};

/// Bytes of the file that are read.
pub const FILE: u64 = 1024 * 1024;
/// Entries of `users.allow`; each is looked at for every request.
const ENTRIES: usize = 4096;

/// Who is in one of these has root by other means, or reads what others wrote: allowed only where
/// policy says so a second time.
pub const DANGEROUS: [&str; 14] = [
    "root",
    "docker",
    "lxd",
    "incus",
    "libvirt",
    "disk",
    "kvm",
    "shadow",
    "sudo",
    "wheel",
    "adm",
    "systemd-journal",
    "tty",
    "synthesis",
];

/// Keys that only an entry can have.
const WHOSE: [&str; 3] = ["name", "group", "account"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub frontd: Frontd,
    #[serde(default = "required")]
    pub sandbox: Demand,
    #[serde(default = "required")]
    pub audit: Demand,
    #[serde(default = "yes")]
    pub scopes: bool,
    #[serde(default = "default_state")]
    pub state: AbsolutePath,
    #[serde(default = "default_run")]
    pub run: AbsolutePath,
    #[serde(default = "default_bridge")]
    pub bridge: AbsolutePath,
    #[serde(default)]
    pub claude: Claude,
    #[serde(default)]
    pub programs: Programs,
    #[serde(default)]
    pub limits: Limits,
    pub users: Users,
}

/// The account whose connections are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a user's name or number")]
pub enum Frontd {
    Uid(u32),
    Name(UnixUser),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claude {
    /// `None`: every spawn is refused `claude_missing`.
    pub path: Option<AbsolutePath>,
    #[serde(default)]
    pub arguments: Few<Argument>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// `None`: beside spawnd.
    pub channel: Option<AbsolutePath>,
    pub systemd_run: Option<AbsolutePath>,
}

impl Programs {
    pub fn systemd_run(&self) -> AbsolutePath {
        self.systemd_run.clone().unwrap_or_else(|| fixed("/usr/bin/systemd-run"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub sessions: Number<1, 10_000>,
    pub spawns_per_second: Number<1, 10_000>,
    pub spawn_burst: Number<1, 100_000>,
    pub refusals_per_second: Number<1, 10_000>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: Number(1000),
            spawns_per_second: Number(20),
            spawn_burst: Number(100),
            refusals_per_second: Number(10),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Read for its faults: every entry holds it already.
    pub defaults: Option<Spanned<Rule>>,
    pub allow: Vec<Rule>,
}

/// `[users.defaults]`, or one of `[[users.allow]]`: what an entry leaves out is the defaults', what
/// those leave out is ours.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub name: Option<UnixUser>,
    pub group: Option<GroupName>,
    /// `None`: looked up at each request.
    pub account: Option<Account>,
    pub proof: Demanded,
    pub shared: bool,
    pub roots: Few<Root>,
    pub permission_modes: Few<PermissionMode>,
    /// Empty: any.
    pub models: Few<ModelName>,
    pub allowed_tools: Few<Tool>,
    pub home: Home,
    pub groups: Few<GroupName>,
    pub dangerous_groups: Few<GroupName>,
    /// In the end with the disclosed credentials.
    pub environment: Variables,
    pub credentials: Credentials,
    pub memory: Size<{ 64 << 20 }, { 1 << 50 }>,
    pub tasks: Number<16, 4_000_000>,
    pub cpu_weight: Number<1, 10_000>,
    pub open_files: Number<1024, 1_048_576>,
    pub tmp_size: Size<{ 1 << 20 }, { 1 << 50 }>,
    pub tmp_inodes: Number<100, 100_000_000>,
    pub sessions: Number<1, 10_000>,
    pub ip_allow: Few<Addresses>,
    pub ip_deny: Few<Addresses>,
    pub trust_project_settings: bool,
    pub instructions: bool,
    pub allow_nologin: bool,
    pub ptrace: bool,
    pub hidden: Few<AbsolutePath>,
    pub visible: Few<AbsolutePath>,
}

impl Default for Rule {
    fn default() -> Self {
        let tools = ["Read", "Edit", "Bash", "mcp__synthesis__*"];
        Self {
            name: None,
            group: None,
            account: None,
            proof: Demanded::TokenOrPeer,
            shared: false,
            roots: Few(Root::STARTS
                .map(|start| Root { named: start.to_owned(), real: None })
                .into()),
            permission_modes: Few(vec![PermissionMode::AcceptEdits]),
            models: Few::default(),
            allowed_tools: Few(tools.map(|tool| Tool(tool.to_owned())).into()),
            home: Home::Private,
            groups: Few::default(),
            dangerous_groups: Few::default(),
            environment: Variables::new(),
            credentials: Credentials::new(),
            memory: Size(4 << 30),
            tasks: Number(512),
            cpu_weight: Number(100),
            open_files: Number(524_288),
            tmp_size: Size(1 << 30),
            tmp_inodes: Number(100_000),
            sessions: Number(20),
            ip_allow: Few::default(),
            ip_deny: Few(vec![Addresses("link-local".to_owned())]),
            trust_project_settings: false,
            instructions: false,
            allow_nologin: false,
            ptrace: false,
            hidden: Few::default(),
            visible: Few::default(),
        }
    }
}

/// An account: looked up, or, in development only, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// claude never runs as root, by type.
    pub uid: std::num::NonZeroU32,
    pub gid: u32,
    pub home: AbsolutePath,
    /// Where `home` led when it was looked up; `None`: to itself.
    #[serde(skip)]
    pub(crate) real_home: Option<AbsolutePath>,
    pub shell: String,
    /// `CLAUDE_CONFIG_DIR`.
    pub config_dir: Option<AbsolutePath>,
}

impl Account {
    pub fn real_home(&self) -> &AbsolutePath {
        self.real_home.as_ref().unwrap_or(&self.home)
    }
}

/// How the person behind a request must be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demanded {
    TokenOrPeer,
    Token,
    Peer,
    /// frontd's word is enough.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// Folders of its own below the state folder.
    Private,
    /// The account's.
    Real,
}

/// Where a file comes from decides what may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--config`.
    File,
    /// `--config-fd`: an account may stand in it, and claude may be missing.
    Descriptor,
}

/// Reads the text of a file. Every entry of `users.allow` is complete afterwards.
///
/// # Errors
/// The first fault, with its line and key.
pub fn parse(text: &str, source: Source) -> Result<Config, Fault> {
    let faulty = |error: toml::de::Error| {
        let place = error.span().map_or(0, |span| span.start);
        fault_at(text, place, None, error.message())
    };
    // Each table by itself first: a fault is told where it stands.
    toml::from_str::<Config>(text).map_err(faulty)?;
    let mut table = DeTable::parse(text).map_err(faulty)?;
    let places = inherit(table.get_mut());
    let config = Config::deserialize(toml::Deserializer::from(table)).map_err(faulty)?;
    let nowhere =
        |key: &'static str, what: &str| fault_at(text, place_of(text, key), Some(key), what);
    if source == Source::File && config.claude.path.is_none() {
        return Err(nowhere("claude.path", "is missing"));
    }
    if config.run.as_str().len() > LONGEST_RUN {
        return Err(nowhere("run", &format!("is longer than {LONGEST_RUN} bytes")));
    }
    let folder = config.bridge.as_path().parent().and_then(|folder| folder.to_str());
    if folder
        .is_none_or(|folder| ["/", config.run.as_str(), config.state.as_str()].contains(&folder))
    {
        return Err(nowhere("bridge", "needs a folder that holds nothing else"));
    }
    if let Some(defaults) = &config.users.defaults {
        let (place, defaults) = (defaults.span().start, defaults.get_ref());
        let given = [defaults.name.is_some(), defaults.group.is_some(), defaults.account.is_some()];
        if let Some((key, _)) = WHOSE.iter().zip(given).find(|(_, given)| *given) {
            return Err(fault_at(text, place, Some(key), "belongs into users.allow"));
        }
    }
    if config.users.allow.is_empty() || config.users.allow.len() > ENTRIES {
        return Err(nowhere("users.allow", "must have 1 to 4096 entries"));
    }
    let mut named = HashSet::new();
    for (rule, (entry, groups)) in config.users.allow.iter().zip(places) {
        let whose = (rule.name.as_ref(), rule.group.as_ref());
        if !named.insert(whose) {
            let key = if whose.0.is_some() { "name" } else { "group" };
            return Err(fault_at(text, entry, Some(key), "has an entry above"));
        }
        rule.check(source).map_err(|(key, what)| fault_at(text, entry, Some(key), &what))?;
        if let Some(group) = rule.groups.0.iter().find(|group| !rule.allows(&group.0)) {
            let what = format!("{} is dangerous and not in dangerous_groups", group.0);
            return Err(fault_at(text, groups, Some("groups"), &what));
        }
    }
    Ok(config)
}

/// Gives the entries what they leave out and the defaults have. Answers where each entry begins,
/// and where its groups do.
fn inherit(root: &mut DeTable<'_>) -> Vec<(usize, usize)> {
    let Some(DeValue::Table(users)) = root.get_mut("users").map(Spanned::get_mut) else {
        return Vec::new();
    };
    let defaults = users.get("defaults").and_then(|defaults| defaults.get_ref().as_table());
    let defaults = defaults.cloned().unwrap_or_default();
    let Some(DeValue::Array(entries)) = users.get_mut("allow").map(Spanned::get_mut) else {
        return Vec::new();
    };
    // More are refused, whatever they hold.
    let places = entries.iter_mut().take(ENTRIES).map(|entry| {
        let place = entry.span().start;
        let DeValue::Table(entry) = entry.get_mut() else { return (place, place) };
        for (key, value) in &defaults {
            if !WHOSE.contains(&key.get_ref().as_ref()) && !entry.contains_key(key) {
                entry.insert(key.clone(), value.clone());
            }
        }
        (place, entry.get("groups").map_or(place, |groups| groups.span().start))
    });
    places.collect()
}

impl Config {
    /// Puts back what cannot change while spawnd runs. Answers which of it would have changed.
    pub fn keep(&mut self, old: &Self) -> Vec<&'static str> {
        fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
            let differs = new != old;
            new.clone_from(old);
            differs
        }
        let kept = [
            ("frontd", keep(&mut self.frontd, &old.frontd)),
            ("scopes", keep(&mut self.scopes, &old.scopes)),
            ("state", keep(&mut self.state, &old.state)),
            ("run", keep(&mut self.run, &old.run)),
            ("bridge", keep(&mut self.bridge, &old.bridge)),
            ("programs", keep(&mut self.programs, &old.programs)),
        ];
        kept.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

impl Rule {
    /// What is wrong, and with which key.
    fn check(&self, source: Source) -> Result<(), (&'static str, String)> {
        let wrong = |key, what: &str| Err((key, what.to_owned()));
        match (&self.name, &self.group, &self.account) {
            (Some(_), Some(_), _) | (None, None, _) => {
                return wrong("users.allow", "needs exactly one of name and group");
            }
            (None, Some(_), Some(_)) => return wrong("account", "needs name"),
            (_, _, Some(_)) if source == Source::File => {
                return wrong("account", "is taken only by --config-fd");
            }
            // Nobody would look the groups up.
            (_, _, Some(_)) if !self.groups.0.is_empty() => {
                return wrong("groups", "cannot stand beside account");
            }
            (Some(_), None, _) | (None, Some(_), None) => {}
        }
        let (roots, modes) = (self.roots.0.is_empty(), self.permission_modes.0.is_empty());
        if roots || modes {
            return wrong(if roots { "roots" } else { "permission_modes" }, "must not be empty");
        }
        match self.credentials.keys().find(|name| self.environment.contains_key(name)) {
            Some(name) => wrong("credentials", &format!("{} is in environment too", name.0)),
            None => Ok(()),
        }
    }

    /// May a session have this group? Most are harmless.
    pub fn allows(&self, group: &str) -> bool {
        !DANGEROUS.contains(&group) || self.dangerous_groups.0.iter().any(|named| named.0 == group)
    }
}

/// The line of an offset, and the key that stands there or above.
pub(crate) fn fixed(path: &str) -> AbsolutePath {
    AbsolutePath::new(path).expect("a plain path of ours")
}

fn required() -> Demand {
    Demand::Required
}

fn yes() -> bool {
    true
}

fn default_state() -> AbsolutePath {
    fixed("/var/lib/synthesis")
}

fn default_run() -> AbsolutePath {
    fixed("/run/synthesis")
}

fn default_bridge() -> AbsolutePath {
    fixed("/run/synthesis/bridge/bridge.sock")
}
