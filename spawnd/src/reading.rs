//! From where spawnd.toml is to policy: the file is trusted, read and settled, and so is every
//! program that it names. At start, and again when root asks for it (SIGHUP). Blocks.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Group, User, getegid, geteuid};
use proto::ids::AbsolutePath;

use crate::command_line::{Place, USAGE};
use crate::config::{self, Config, Fault, Frontd, Rule, Source};
use crate::policy::Policy;
use crate::trust::{self, Trust};
use crate::{log, settle};

/// Of a start that looks for accounts that policy names: a directory server may take its time.
const DOUBTS_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error("{path}:{fault}")]
    Config { path: PathBuf, fault: Fault },
    /// `what` is a key, or a file's name.
    #[error("{what}: not to be trusted: {source}")]
    Trust { what: &'static str, source: trust::Error },
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("launch {path}: {source}")]
    Launch { path: AbsolutePath, source: std::io::Error },
    #[error(transparent)]
    Settle(#[from] settle::Error),
}

fn untrusted(what: &'static str) -> impl FnOnce(trust::Error) -> Error {
    move |source| Error::Trust { what, source }
}

/// Reads `file` as `--config` would, whoever may change it.
///
/// # Errors
/// [`Error::Config`] with its first fault.
pub fn check(file: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| Error::Read { path: file.to_owned(), source })?;
    parsed(&text, Source::File, file).map(drop)
}

fn parsed(text: &str, source: Source, path: &Path) -> Result<Config, Error> {
    config::parse(text, source).map_err(|fault| Error::Config { path: path.to_owned(), fault })
}

/// The file, judged and read, and whose word its programs may be. An ordinary user's own files do
/// for an ordinary user's spawnd. `given` is the descriptor, if that is the place.
///
/// # Errors
/// When it cannot be trusted, or its first fault.
pub fn configuration(place: &Place, given: Option<OwnedFd>) -> Result<(Config, Trust), Error> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let caller = Trust::Caller { uid, gid };
    let failed = |error| untrusted("spawnd.toml")(error);
    match (place, given) {
        (Place::Path(path), _) => {
            let trust = if geteuid().is_root() { Trust::Root } else { caller };
            let look = |source| failed(trust::Error::Look { path: path.clone(), source });
            let path = std::path::absolute(path).map_err(look)?;
            trust.prove(&path).map_err(failed)?;
            let file = File::open(&path).map_err(look)?;
            let text = trust.read(file, &path).map_err(failed)?;
            Ok((parsed(&text, Source::File, &path)?, trust))
        }
        (Place::Descriptor(_), None) => Err(Error::Usage),
        (Place::Descriptor(number), Some(fd)) => {
            let path = PathBuf::from(format!("descriptor {number}"));
            let text = caller.read(File::from(fd), &path).map_err(failed)?;
            Ok((parsed(&text, Source::Descriptor, &path)?, caller))
        }
    }
}

/// The policy of a file, and every program proved that sessions are started with. A claude that is
/// not there may be installed later; one that cannot be trusted never is.
///
/// # Errors
/// What this machine lacks, or what is not to be trusted.
pub fn settled(
    config: Config,
    frontd_uid: u32,
    trust: Trust,
    source: Source,
) -> Result<Policy, Error> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut policy = settle::policy(config, frontd_uid, credentials)?;
    trust.prove(policy.channel.as_path()).map_err(untrusted("programs.channel"))?;
    if policy.config.scopes {
        let systemd_run = policy.config.programs.systemd_run();
        trust.prove(systemd_run.as_path()).map_err(untrusted("programs.systemd_run"))?;
    }
    match (&policy.config.claude.path, source) {
        (Some(claude), Source::File) => match trust.prove(claude.as_path()) {
            Err(trust::Error::Look { path, source }) if source.kind() == ErrorKind::NotFound => {
                log::warning(format_args!(
                    "claude.path: there is no {}: nothing starts until it is installed and this \
                     file is read again",
                    path.display()
                ));
                policy.claude_is_missing = true;
            }
            other => other.map_err(untrusted("claude.path"))?,
        },
        (Some(_), Source::Descriptor) | (None, _) => {}
    }
    Ok(policy)
}

/// launch, opened: that very file starts each session, whatever its path leads to later.
///
/// # Errors
/// When it cannot be trusted or opened.
pub fn launch(trust: Trust) -> Result<OwnedFd, Error> {
    let launch = settle::beside_this_program("launch")?;
    trust.prove(launch.as_path()).map_err(untrusted("launch"))?;
    match File::open(launch.as_path()) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(Error::Launch { path: launch, source }),
    }
}

/// The file as it is now, for a daemon that goes on with what cannot change while it runs. Those of
/// these keys that the file would change are named.
///
/// # Errors
/// As at start; nothing has changed then.
pub fn again(path: &Path, old: &Policy) -> Result<(Policy, Vec<&'static str>), Error> {
    let (mut config, trust) = configuration(&Place::Path(path.to_owned()), None)?;
    let kept = config.keep(&old.config);
    Ok((settled(config, old.frontd_uid, trust, Source::File)?, kept))
}

/// frontd's number.
///
/// # Errors
/// When there is no such account.
pub fn frontd_uid(frontd: &Frontd) -> Result<u32, Error> {
    Ok(settle::frontd_uid(frontd)?)
}

/// Names in `users.allow` that nobody has here: a slip of the pen, mostly.
pub fn warn_of_unknown(rules: &[Rule]) {
    let until = Instant::now() + DOUBTS_WITHIN;
    for rule in rules.iter().filter(|rule| rule.account.is_none()) {
        let unknown = match (&rule.name, &rule.group) {
            (Some(name), _) => {
                matches!(User::from_name(name.as_str()), Ok(None)).then_some(name.as_str())
            }
            (None, Some(group)) => {
                matches!(Group::from_name(&group.0), Ok(None)).then_some(group.0.as_str())
            }
            (None, None) => None,
        };
        if let Some(unknown) = unknown {
            log::warning(format_args!("users.allow: {unknown} is no account or group here"));
        }
        if Instant::now() > until {
            return log::warning(format_args!("users.allow: the names' look-up takes too long"));
        }
    }
}
