//! The policy of development mode, from the environment: the calling user, or, when root calls,
//! an account without rights. Read once at start.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::PermissionMode;

use crate::policy::{Account, Models, Policy, Root, ScopeLimits, UserRule};

/// Sessions at once: frontd's default is 20, and each takes four descriptors here.
const MAX_SESSIONS: usize = 128;

/// The accounts that root's claude runs as: the first that exists.
const UNPRIVILEGED: [&str; 2] = ["synthesis-claude", "nobody"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not set")]
    Unset(&'static str),
    #[error("{variable}: {source}")]
    Path { variable: &'static str, source: proto::ids::Invalid },
    #[error("SYNTHESIS_FRONTD_UID is not a user id")]
    FrontdUid,
    #[error("look-up of an account: {0}")]
    Lookup(#[from] nix::Error),
    #[error("neither synthesis-claude nor nobody is an account here")]
    NoAccount,
    #[error("account {0} has the rights of root")]
    RootAccount(String),
    #[error("path of this program: {0}")]
    OwnPath(std::io::Error),
}

/// Where things are; the folders are not made yet.
pub struct Settings {
    pub state: AbsolutePath,
    pub account: Account,
    pub as_root: bool,
    pub launch: PathBuf,
    pub frontd_uid: u32,
}

/// One variable of the environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// # Errors
/// When the environment is not fit to start in.
pub fn settings(variable: Lookup<'_>) -> Result<Settings, Error> {
    let state = required_path(variable, "SYNTHESIS_STATE_DIR")?;
    let caller = Uid::effective();
    let account = match NonZeroU32::new(caller.as_raw()) {
        Some(uid) => calling_account(variable, uid)?,
        None => unprivileged_account(&state)?,
    };
    let frontd_uid = match variable("SYNTHESIS_FRONTD_UID") {
        Some(text) => text.parse().map_err(|_| Error::FrontdUid)?,
        None => caller.as_raw(),
    };
    Ok(Settings {
        state,
        account,
        as_root: caller.is_root(),
        launch: beside_this_program("launch")?,
        frontd_uid,
    })
}

/// The policy itself, once the folders of `settings` exist.
///
/// # Errors
/// When the environment is not fit to start in.
pub fn policy(variable: Lookup<'_>, settings: &Settings) -> Result<Policy, Error> {
    let channel = match optional_path(variable, "SYNTHESIS_CHANNEL")? {
        Some(path) => path,
        None => absolute("SYNTHESIS_CHANNEL", &beside_this_program("channel")?)?,
    };
    let config_dir = match settings.as_root {
        true => None,
        false => optional_path(variable, "CLAUDE_CONFIG_DIR")?,
    };
    Ok(Policy {
        claude: claude(variable)?,
        channel,
        bridge_socket: required_path(variable, "SYNTHESIS_BRIDGE_SOCKET")?,
        frontd_uid: settings.frontd_uid,
        max_sessions: MAX_SESSIONS,
        scope: variable("SYNTHESIS_SCOPES").map(|_| ScopeLimits {
            memory_bytes: 256 << 20,
            tasks: 64,
            cpu_weight: 100,
            ip_allow: Vec::new(),
            ip_deny: Vec::new(),
        }),
        users: vec![UserRule {
            account: settings.account.clone(),
            roots: roots(variable, settings),
            permission_modes: vec![
                PermissionMode::AcceptEdits,
                PermissionMode::BypassPermissions,
                PermissionMode::DontAsk,
                PermissionMode::Manual,
                PermissionMode::Plan,
            ],
            models: Models::Any,
            config_dir,
            allowed_tools: ["Read", "Edit", "Bash", "mcp__synthesis__*"].map(str::to_owned).into(),
            trust_project_settings: false,
            environment: passed_on(variable, std::env::vars_os()),
        }],
    })
}

/// The caller: claude then finds the login of the real home.
fn calling_account(variable: Lookup<'_>, uid: NonZeroU32) -> Result<Account, Error> {
    let entry = User::from_uid(Uid::from_raw(uid.get()))?;
    // A container may run under a uid without an entry, a directory may hold names that
    // `useradd` would not take: the number names the caller as well.
    let user = entry
        .as_ref()
        .and_then(|e| UnixUser::new(e.name.as_str()).ok())
        .or_else(|| UnixUser::new(format!("uid-{uid}")).ok())
        .ok_or(Error::NoAccount)?;
    let home = match (variable("HOME"), &entry) {
        (Some(home), _) => absolute("HOME", Path::new(&home))?,
        (None, Some(entry)) => absolute("HOME", &entry.dir)?,
        (None, None) => return Err(Error::Unset("HOME")),
    };
    let gid = nix::unistd::getegid().as_raw();
    Ok(Account { user, uid, gid, home, shell: shell(entry.as_ref()) })
}

/// Root never runs claude: another account does, with a home in the state folder.
fn unprivileged_account(state: &AbsolutePath) -> Result<Account, Error> {
    for name in UNPRIVILEGED {
        let Some(entry) = User::from_name(name)? else { continue };
        let root_rights = || Error::RootAccount(name.to_owned());
        let uid = NonZeroU32::new(entry.uid.as_raw()).ok_or_else(root_rights)?;
        if entry.gid.as_raw() == 0 {
            return Err(root_rights());
        }
        let user = UnixUser::new(name).map_err(|_| Error::NoAccount)?;
        let home = below(state, "home")?;
        // Such accounts have nologin, which claude's Bash tool could not use.
        let shell = "/bin/sh".to_owned();
        return Ok(Account { user, uid, gid: entry.gid.as_raw(), home, shell });
    }
    Err(Error::NoAccount)
}

fn shell(entry: Option<&User>) -> String {
    entry
        .and_then(|e| e.shell.to_str())
        .filter(|shell| shell.starts_with('/') && !shell.ends_with("nologin"))
        .unwrap_or("/bin/sh")
        .to_owned()
}

fn roots(variable: Lookup<'_>, settings: &Settings) -> Vec<Root> {
    let mut named = vec![settings.account.home.clone()];
    named.extend(below(&settings.state, "workspace"));
    if settings.as_root {
        let more = variable("SYNTHESIS_WORKSPACE_ROOTS").unwrap_or_default();
        named.extend(more.split(':').filter_map(|text| AbsolutePath::new(text).ok()));
    }
    named
        .into_iter()
        .map(|named| {
            let real = std::fs::canonicalize(named.as_path()).ok();
            let real = real.and_then(|p| AbsolutePath::new(p.to_str()?).ok());
            Root { real: real.unwrap_or_else(|| named.clone()), named }
        })
        .collect()
}

/// A path that was named is kept even when nothing is there yet: launch looks again at each
/// start, as the user.
fn claude(variable: Lookup<'_>) -> Result<Option<AbsolutePath>, Error> {
    if let Some(named) = variable("SYNTHESIS_CLAUDE") {
        return absolute("SYNTHESIS_CLAUDE", Path::new(&named)).map(Some);
    }
    let found = variable("PATH")
        .unwrap_or_default()
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join("claude"))
        .find(|path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok());
    found.map(|path| absolute("PATH", &path)).transpose()
}

/// The caller's login and endpoint, and the PATH on which claude's tools are found. Nothing else
/// of the environment reaches a session.
fn passed_on(
    variable: Lookup<'_>,
    all: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<(String, String)> {
    let path = variable("PATH").unwrap_or_default();
    let absolute: Vec<&str> = path.split(':').filter(|folder| folder.starts_with('/')).collect();
    let mut passed = Vec::new();
    if !absolute.is_empty() {
        passed.push(("PATH".to_owned(), absolute.join(":")));
    }
    passed.extend(all.filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let wanted = name.starts_with("ANTHROPIC_") || name == "CLAUDE_CODE_OAUTH_TOKEN";
        wanted.then_some((name, value))
    }));
    passed
}

fn beside_this_program(name: &str) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(Error::OwnPath)?;
    Ok(own.with_file_name(name))
}

fn required_path(variable: Lookup<'_>, name: &'static str) -> Result<AbsolutePath, Error> {
    optional_path(variable, name)?.ok_or(Error::Unset(name))
}

fn optional_path(variable: Lookup<'_>, name: &'static str) -> Result<Option<AbsolutePath>, Error> {
    match variable(name).filter(|text| !text.is_empty()) {
        Some(text) => AbsolutePath::new(text.trim_end_matches('/'))
            .map(Some)
            .map_err(|source| Error::Path { variable: name, source }),
        None => Ok(None),
    }
}

/// Made absolute by the current folder; `..` is resolved, for text alone cannot.
fn absolute(variable: &'static str, path: &Path) -> Result<AbsolutePath, Error> {
    let mut path = std::path::absolute(path).map_err(Error::OwnPath)?;
    if path.components().any(|c| c == std::path::Component::ParentDir) {
        path = std::fs::canonicalize(&path).map_err(Error::OwnPath)?;
    }
    let text = path.to_string_lossy();
    AbsolutePath::new(text.trim_end_matches('/')).map_err(|source| Error::Path { variable, source })
}

fn below(folder: &AbsolutePath, name: &'static str) -> Result<AbsolutePath, Error> {
    AbsolutePath::new(format!("{folder}/{name}"))
        .map_err(|source| Error::Path { variable: "SYNTHESIS_STATE_DIR", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    #[test]
    fn a_state_folder_must_be_named_and_absolute() {
        assert!(matches!(settings(&with(&[])), Err(Error::Unset("SYNTHESIS_STATE_DIR"))));
        let relative = settings(&with(&[("SYNTHESIS_STATE_DIR", "state")]));
        assert!(matches!(relative, Err(Error::Path { .. })));
    }

    #[test]
    fn the_session_user_is_never_root() {
        let env = [("SYNTHESIS_STATE_DIR", "/var/lib/x"), ("HOME", "/root")];
        let settings = settings(&with(&env)).unwrap();
        assert_ne!(settings.account.uid.get(), 0);
        if settings.as_root {
            assert_eq!(settings.account.home.as_str(), "/var/lib/x/home");
        }
    }

    #[test]
    fn only_the_login_and_absolute_path_entries_are_passed_on() {
        let all = [
            ("ANTHROPIC_API_KEY", "k"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "t"),
            ("LD_PRELOAD", "/evil.so"),
            ("SYNTHESIS_BRIDGE_TOKEN", "s"),
            ("NODE_OPTIONS", "--require /evil.js"),
        ];
        let all = all.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let passed = passed_on(&with(&[("PATH", ".:/usr/bin::bin:/bin")]), all);
        let names: Vec<&str> = passed.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["PATH", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"]);
        assert_eq!(passed.first().unwrap().1, "/usr/bin:/bin");
    }

    #[test]
    fn a_claude_that_was_named_is_kept_and_made_absolute() {
        let found = claude(&with(&[("SYNTHESIS_CLAUDE", "/no/such/claude")])).unwrap();
        assert_eq!(found.unwrap().as_str(), "/no/such/claude");
        let relative = claude(&with(&[("SYNTHESIS_CLAUDE", "x/claude")])).unwrap().unwrap();
        assert!(relative.as_str().ends_with("/x/claude"));
        assert_eq!(claude(&with(&[("PATH", "/no/such/folder")])).unwrap(), None);
    }
}
