//! From the words of spawnd.toml to policy: defaults, and what only this machine can say of them,
//! frontd's number, credentials, where roots lead. Blocks.

use std::path::{Path, PathBuf};

use nix::unistd::User;
use proto::ids::AbsolutePath;

use crate::config::{Config, Frontd, Rule, Value};
use crate::policy::Policy;

/// Bytes of a credential: a value's, and a last line feed's.
const CREDENTIAL: u64 = 32 * 1024 + 1;

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
pub fn policy(
    mut config: Config,
    frontd_uid: u32,
    credentials: Option<PathBuf>,
) -> Result<Policy, Error> {
    for rule in &mut config.users.allow {
        settle(rule, credentials.as_deref())?;
    }
    let channel = match &config.programs.channel {
        Some(channel) => channel.clone(),
        None => beside_this_program("channel")?,
    };
    Ok(Policy { frontd_uid, channel, config, claude_is_missing: false })
}

/// # Errors
/// When there is no such account.
pub fn frontd_uid(frontd: &Frontd) -> Result<u32, Error> {
    match frontd {
        Frontd::Uid(uid) => Ok(*uid),
        Frontd::Name(name) => match User::from_name(name.as_str())? {
            Some(user) => Ok(user.uid.as_raw()),
            None => Err(Error::Frontd(name.to_string())),
        },
    }
}

fn settle(rule: &mut Rule, credentials: Option<&Path>) -> Result<(), Error> {
    for (name, credential) in std::mem::take(&mut rule.credentials) {
        rule.environment.insert(name, read_credential(credentials, &credential.0)?);
    }
    for root in rule.roots.0.iter_mut().filter(|root| !root.named.contains('{')) {
        root.real = real(&root.named);
    }
    if let Some(account) = &mut rule.account {
        account.real_home = real(account.home.as_str());
    }
    Ok(())
}

fn real(path: &str) -> Option<AbsolutePath> {
    AbsolutePath::new(std::fs::canonicalize(path).ok()?.to_str()?).ok()
}

fn read_credential(folder: Option<&Path>, name: &str) -> Result<Value, Error> {
    use std::io::Read as _;
    let failed = |source| Error::Credential { name: name.to_owned(), source };
    let folder = folder.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let mut text = String::new();
    let file = std::fs::File::open(folder.join(name)).map_err(failed)?;
    file.take(CREDENTIAL + 1).read_to_string(&mut text).map_err(failed)?;
    let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    Value::try_from(text).map_err(|_| failed(std::io::ErrorKind::InvalidData.into()))
}
