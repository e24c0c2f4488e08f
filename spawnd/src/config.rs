//! spawnd.toml: what may stand in it, with every default, and where it is wrong. Looks at nothing
//! but the text; read once at start.

mod values;

use proto::ids::{AbsolutePath, ModelName, UnixUser};
use proto::launch::Demand;
use proto::spawn::{PermissionMode, Proof};
use serde::Deserialize;
use toml::Spanned;

pub use values::{
    Addresses, Argument, CredentialName, Credentials, Few, GroupName, Number, Size, Template, Tool,
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

/// One fault of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {key}: {what}")]
pub struct Fault {
    pub line: usize,
    pub key: String,
    /// The parser's words, or ours.
    pub what: String,
}

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

#[derive(Debug, Default, Deserialize)]
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
    #[serde(default)]
    pub defaults: Option<Spanned<Rule>>,
    pub allow: Vec<Spanned<Rule>>,
}

/// `[users.defaults]`, or one of `[[users.allow]]`: what an entry leaves out is the defaults', what
/// those leave out is ours ([`crate::settle`]).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub name: Option<UnixUser>,
    pub group: Option<GroupName>,
    pub account: Option<Account>,
    pub proof: Option<Proof>,
    pub roots: Option<Few<Template>>,
    pub permission_modes: Option<Few<PermissionMode>>,
    pub models: Option<Few<ModelName>>,
    pub allowed_tools: Option<Few<Tool>>,
    pub home: Option<Home>,
    pub groups: Option<Spanned<Few<GroupName>>>,
    pub dangerous_groups: Option<Few<GroupName>>,
    pub environment: Option<Variables>,
    pub credentials: Option<Credentials>,
    pub memory: Option<Size<{ 64 << 20 }, { 1 << 50 }>>,
    pub tasks: Option<Number<16, 4_000_000>>,
    pub cpu_weight: Option<Number<1, 10_000>>,
    pub open_files: Option<Number<1024, 1_048_576>>,
    pub tmp_size: Option<Size<{ 1 << 20 }, { 1 << 50 }>>,
    pub tmp_inodes: Option<Number<100, 100_000_000>>,
    pub sessions: Option<Number<1, 10_000>>,
    pub ip_allow: Option<Few<Addresses>>,
    pub ip_deny: Option<Few<Addresses>>,
    pub trust_project_settings: Option<bool>,
    pub allow_nologin: Option<bool>,
    pub ptrace: Option<bool>,
    pub hidden: Option<Few<AbsolutePath>>,
    pub visible: Option<Few<AbsolutePath>>,
}

/// An account as the file has it, instead of a look-up. Development only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// claude never runs as root, by type.
    pub uid: std::num::NonZeroU32,
    pub gid: u32,
    pub home: AbsolutePath,
    pub shell: String,
    /// `CLAUDE_CONFIG_DIR`.
    pub config_dir: Option<AbsolutePath>,
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
    let mut config: Config = toml::from_str(text).map_err(|error| {
        let place = error.span().map_or(0, |span| span.start);
        fault_at(text, place, None, error.message())
    })?;
    let nowhere = |key: &'static str, what: &str| fault_at(text, 0, Some(key), what);
    if source == Source::File && config.claude.path.is_none() {
        return Err(nowhere("claude.path", "is missing"));
    }
    let folder = config.bridge.as_path().parent().and_then(|folder| folder.to_str());
    if folder
        .is_none_or(|folder| ["/", config.run.as_str(), config.state.as_str()].contains(&folder))
    {
        return Err(nowhere("bridge", "needs a folder that holds nothing else"));
    }
    let defaults = match config.users.defaults.take() {
        Some(defaults) => {
            let place = defaults.span().start;
            let defaults = defaults.into_inner();
            for (key, given) in [
                ("name", defaults.name.is_some()),
                ("group", defaults.group.is_some()),
                ("account", defaults.account.is_some()),
            ] {
                if given {
                    return Err(fault_at(text, place, Some(key), "belongs into users.allow"));
                }
            }
            defaults
        }
        None => Rule::default(),
    };
    if config.users.allow.is_empty() || config.users.allow.len() > ENTRIES {
        return Err(nowhere("users.allow", "must have 1 to 4096 entries"));
    }
    for entry in &mut config.users.allow {
        let place = entry.span().start;
        let rule = entry.as_mut();
        rule.inherit(&defaults);
        rule.check(source).map_err(|Wrong { key, at, what }| {
            fault_at(text, at.unwrap_or(place), Some(key), &what)
        })?;
    }
    Ok(config)
}

/// What is wrong with an entry.
struct Wrong {
    key: &'static str,
    /// Where, if it is not the entry's beginning.
    at: Option<usize>,
    what: String,
}

impl Rule {
    fn inherit(&mut self, defaults: &Rule) {
        macro_rules! inherit {
            ($($key:ident)*) => { $( if self.$key.is_none() { self.$key.clone_from(&defaults.$key); } )* };
        }
        inherit!(proof roots permission_modes models allowed_tools home groups dangerous_groups
            environment credentials memory tasks cpu_weight open_files tmp_size tmp_inodes sessions
            ip_allow ip_deny trust_project_settings allow_nologin ptrace hidden visible);
    }

    fn check(&self, source: Source) -> Result<(), Wrong> {
        let wrong = |key, what: &str| Err(Wrong { key, at: None, what: what.to_owned() });
        match (&self.name, &self.group, &self.account) {
            (Some(_), Some(_), _) | (None, None, _) => {
                return wrong("users.allow", "needs exactly one of name and group");
            }
            (None, Some(_), Some(_)) => return wrong("account", "needs name"),
            (_, _, Some(_)) if source == Source::File => {
                return wrong("account", "is taken only by --config-fd");
            }
            // Nobody would look the groups up.
            (_, _, Some(_)) if !self.groups().is_empty() => {
                return wrong("groups", "cannot stand beside account");
            }
            (Some(_), None, _) | (None, Some(_), None) => {}
        }
        let roots = self.roots.as_ref().is_some_and(|roots| roots.0.is_empty());
        let modes = self.permission_modes.as_ref().is_some_and(|modes| modes.0.is_empty());
        if roots || modes {
            return wrong(if roots { "roots" } else { "permission_modes" }, "must not be empty");
        }
        let both = |name: &&VariableName| self.environment.iter().any(|e| e.contains_key(name));
        if let Some(name) = self.credentials.iter().flat_map(|c| c.keys()).find(both) {
            return wrong("credentials", &format!("{} is in environment too", name.0));
        }
        let dangerous = self.groups().iter().find(|g| !self.allows_dangerous(&g.0));
        match dangerous {
            Some(group) => Err(Wrong {
                key: "groups",
                at: self.groups.as_ref().map(|groups| groups.span().start),
                what: format!("{} is dangerous and not in dangerous_groups", group.0),
            }),
            None => Ok(()),
        }
    }

    pub fn groups(&self) -> &[GroupName] {
        self.groups.as_ref().map_or(&[], |groups| &groups.get_ref().0)
    }

    /// May a session have this group? Most are harmless.
    pub fn allows_dangerous(&self, group: &str) -> bool {
        let named = |list: &Few<GroupName>| list.0.iter().any(|g| g.0 == group);
        !DANGEROUS.contains(&group) || self.dangerous_groups.as_ref().is_some_and(named)
    }
}

/// The line of an offset, and the key that stands there or above.
fn fault_at(text: &str, place: usize, key: Option<&str>, what: &str) -> Fault {
    let before = text.get(..place).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let above: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let mut tables = above.iter().rev().filter_map(|line| line.strip_prefix('['));
    let table = tables.next().and_then(|rest| rest.split(']').next());
    let table = table.map_or("", |table| table.trim_start_matches('['));
    let found = above.iter().rev().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let key = line.split_once('=')?.0.trim();
        (!key.is_empty() && !key.starts_with('#')).then_some(key)
    });
    let key = key.or(found).unwrap_or_default();
    let key = if key.contains('.') { key.to_owned() } else { format!("{table}.{key}") };
    let key = key.trim_matches('.').to_owned();
    // One line, whatever the parser wrote.
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Fault { line, key: if key.is_empty() { "file".to_owned() } else { key }, what }
}

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
