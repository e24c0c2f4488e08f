//! From the words of spawnd.toml to policy: defaults, and what only this machine can say of them,
//! frontd's number, credentials, where roots lead. Start only: blocks.

use std::path::{Path, PathBuf};

use nix::unistd::User;
use proto::ids::AbsolutePath;
use proto::launch::Limits;
use proto::spawn::{PermissionMode, Proof};

use crate::config::{Addresses, Config, Few, Frontd, Home, Rule, Size, Template};
use crate::policy::{Account, Models, Policy, Root, ScopeLimits, UserRule, Whom};

/// Of a credential, less a last line feed.
const CREDENTIAL: u64 = 32 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("frontd = {0:?} is no account here")]
    Frontd(String),
    #[error("look-up of frontd's account: {0}")]
    Lookup(#[from] nix::Error),
    #[error("credential {name}: {source}")]
    Credential { name: String, source: std::io::Error },
    #[error("path of this program: {0}")]
    OwnPath(std::io::Error),
}

/// Where the programs are that come with this one.
///
/// # Errors
/// When the kernel does not tell.
pub fn beside_this_program(name: &str) -> Result<AbsolutePath, Error> {
    let own = std::env::current_exe().map_err(Error::OwnPath)?.with_file_name(name);
    let path = own.to_str().and_then(|text| AbsolutePath::new(text).ok());
    path.ok_or_else(|| Error::OwnPath(std::io::ErrorKind::InvalidFilename.into()))
}

/// `credentials`: the folder of systemd's ($CREDENTIALS_DIRECTORY).
///
/// # Errors
/// What this machine lacks.
pub fn policy(config: Config, credentials: Option<PathBuf>) -> Result<Policy, Error> {
    let frontd_uid = match &config.frontd {
        Frontd::Uid(uid) => *uid,
        Frontd::Name(name) => match User::from_name(name.as_str())? {
            Some(user) => user.uid.as_raw(),
            None => return Err(Error::Frontd(name.to_string())),
        },
    };
    let rules = config
        .users
        .allow
        .into_iter()
        .map(|rule| user_rule(rule.into_inner(), credentials.as_deref()));
    let systemd_run = config.programs.systemd_run();
    Ok(Policy {
        users: rules.collect::<Result<_, _>>()?,
        claude: config.claude.path,
        claude_arguments: config.claude.arguments.0.into_iter().map(|a| a.0).collect(),
        channel: match config.programs.channel {
            Some(channel) => channel,
            None => beside_this_program("channel")?,
        },
        systemd_run,
        bridge_socket: config.bridge,
        state: config.state,
        frontd_uid,
        sandbox: config.sandbox,
        audit: config.audit,
        scopes: config.scopes,
        max_sessions: size(config.limits.sessions.0),
        refusals_per_second: config.limits.refusals_per_second.0,
    })
}

fn user_rule(rule: Rule, credentials: Option<&Path>) -> Result<UserRule, Error> {
    let groups = rule.groups().iter().map(|group| group.0.clone()).collect();
    let default_tools = || ["Read", "Edit", "Bash", "mcp__synthesis__*"].map(str::to_owned).into();
    let mut environment: Vec<(String, String)> =
        rule.environment.into_iter().flatten().map(|(name, value)| (name.0, value.0)).collect();
    for (name, credential) in rule.credentials.into_iter().flatten() {
        environment.push((name.0, read_credential(credentials, &credential.0)?));
    }
    let default_root = || Few(vec![Template("{home}".to_owned())]);
    Ok(UserRule {
        whom: match (rule.name, rule.group) {
            (Some(name), _) => Whom::Name(name),
            (None, group) => Whom::Group(group.map(|group| group.0).unwrap_or_default()),
        },
        account: rule.account.map(|account| Account {
            uid: account.uid,
            gid: account.gid,
            real_home: real(account.home.as_str()).unwrap_or_else(|| account.home.clone()),
            home: account.home,
            config_dir: account.config_dir,
            shell: account.shell,
        }),
        proof: rule.proof.unwrap_or(Proof::Peer),
        roots: rule.roots.unwrap_or_else(default_root).0.into_iter().map(root).collect(),
        permission_modes: rule.permission_modes.map_or(vec![PermissionMode::AcceptEdits], |m| m.0),
        models: match rule.models {
            Some(models) if !models.0.is_empty() => Models::Only(models.0),
            Some(_) | None => Models::Any,
        },
        allowed_tools: rule
            .allowed_tools
            .map_or_else(default_tools, |tools| tools.0.into_iter().map(|tool| tool.0).collect()),
        home: rule.home.unwrap_or(Home::Private),
        groups,
        dangerous_groups: rule
            .dangerous_groups
            .unwrap_or_default()
            .0
            .into_iter()
            .map(|g| g.0)
            .collect(),
        environment,
        scope: ScopeLimits {
            memory_bytes: rule.memory.unwrap_or(Size(4 << 30)).0,
            tasks: rule.tasks.map_or(512, |n| n.0),
            cpu_weight: rule.cpu_weight.map_or(100, |n| n.0),
            ip_allow: words(rule.ip_allow.unwrap_or_default()),
            ip_deny: rule.ip_deny.map_or_else(|| vec!["link-local".to_owned()], words),
        },
        limits: Limits {
            open_files: rule.open_files.map_or(524_288, |n| n.0),
            tmp_bytes: rule.tmp_size.unwrap_or(Size(1 << 30)).0,
            tmp_inodes: rule.tmp_inodes.map_or(100_000, |n| n.0),
        },
        max_sessions: rule.sessions.map_or(20, |n| size(n.0)),
        trust_project_settings: rule.trust_project_settings.unwrap_or(false),
        allow_nologin: rule.allow_nologin.unwrap_or(false),
        ptrace: rule.ptrace.unwrap_or(false),
        hidden: rule.hidden.unwrap_or_default().0,
        visible: rule.visible.unwrap_or_default().0,
    })
}

fn words(list: Few<Addresses>) -> Vec<String> {
    list.0.into_iter().map(|addresses| addresses.0).collect()
}

/// Bounded by the file's own rules.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn root(template: Template) -> Root {
    let real = if template.0.contains('{') { None } else { real(&template.0) };
    Root { real, named: template.0 }
}

fn real(path: &str) -> Option<AbsolutePath> {
    AbsolutePath::new(std::fs::canonicalize(path).ok()?.to_str()?).ok()
}

fn read_credential(folder: Option<&Path>, name: &str) -> Result<String, Error> {
    use std::io::Read as _;
    let failed = |source| Error::Credential { name: name.to_owned(), source };
    let folder = folder.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let mut text = String::new();
    let file = std::fs::File::open(folder.join(name)).map_err(failed)?;
    let len = file.take(CREDENTIAL + 1).read_to_string(&mut text).map_err(failed)?;
    if len as u64 > CREDENTIAL || text.contains('\0') {
        return Err(failed(std::io::ErrorKind::InvalidData.into()));
    }
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}
