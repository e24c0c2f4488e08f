//! The SYNTHESIS_* variables, read and checked in one place, once, at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};
use proto::ids::AbsolutePath;

use crate::config::{Config, ConfigError};

/// Where a root-started server keeps its state: sessions run as another user, who could not reach
/// a folder below root's home.
const ROOT_STATE: &str = "/var/lib/synthesis-dev";

pub struct Environment {
    pub http: SocketAddr,
    /// The first-version bridge; used only when the configuration allows it.
    pub bridge: SocketAddr,
    pub state: AbsolutePath,
    pub claude: Option<PathBuf>,
    pub config: Config,
    /// Where it is read, and read again.
    pub source: Source,
    /// Given to the spawnd of `frontd dev` instead of what dev composes.
    pub spawnd_config: Option<PathBuf>,
}

/// Where the configuration stands: `frontd.toml` in the folder that SYNTHESIS_CONFIG names.
#[derive(Debug, Clone, Default)]
pub struct Source {
    file: Option<PathBuf>,
    /// It was there when the server began: that it is gone is a fault then, not a wish for defaults.
    must: bool,
}

impl Source {
    /// Without a file everything has its default.
    ///
    /// # Errors
    /// Names the file, line and key.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let Some(file) = &self.file else { return Ok(Config::default()) };
        match Config::load(file) {
            Err(ConfigError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && !self.must =>
            {
                Ok(Config::default())
            }
            read => read,
        }
    }
}

impl Environment {
    /// # Errors
    /// Names the variable or file that is wrong.
    pub fn read() -> anyhow::Result<Self> {
        let mut spawnd_config = None;
        let mut source = match variable("SYNTHESIS_CONFIG")? {
            Some(folder) => {
                let folder = PathBuf::from(folder);
                anyhow::ensure!(
                    folder.is_dir(),
                    "SYNTHESIS_CONFIG={} is no folder",
                    folder.display()
                );
                spawnd_config = Some(folder.join("spawnd.toml")).filter(|file| file.exists());
                Source { file: Some(folder.join("frontd.toml")), must: false }
            }
            None => Source::default(),
        };
        let config = source.read()?;
        source.must = source.file.as_ref().is_some_and(|file| file.exists());
        Ok(Self {
            http: address("SYNTHESIS_HTTP", config.listen)?,
            bridge: address("SYNTHESIS_BRIDGE", config.bridge.first_version_listen)?,
            state: state_folder()?,
            claude: variable("SYNTHESIS_CLAUDE")?.map(PathBuf::from),
            config,
            source,
            spawnd_config,
        })
    }
}

fn address(name: &str, configured: SocketAddr) -> anyhow::Result<SocketAddr> {
    match variable(name)? {
        Some(text) => text.parse().with_context(|| format!("{name}={text:?} is not ADDRESS:PORT")),
        None => Ok(configured),
    }
}

fn state_folder() -> anyhow::Result<AbsolutePath> {
    let text = match variable("SYNTHESIS_STATE_DIR")? {
        Some(folder) => folder,
        None if Uid::effective().is_root() => ROOT_STATE.to_owned(),
        None => match variable("XDG_STATE_HOME")? {
            Some(folder) => format!("{folder}/synthesis"),
            None => format!("{}/.local/state/synthesis", home()?),
        },
    };
    let trimmed = if text.len() > 1 { text.trim_end_matches('/') } else { &text };
    AbsolutePath::new(trimmed).with_context(|| format!("the state folder {text:?}"))
}

fn home() -> anyhow::Result<String> {
    if let Some(home) = variable("HOME")? {
        return Ok(home);
    }
    let Some(user) = User::from_uid(Uid::effective())? else { bail!("HOME is not set") };
    user.dir.into_os_string().into_string().ok().context("the home folder is not UTF-8")
}

fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_there_may_not_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("frontd.toml");
        let at_start = Source { file: Some(file.clone()), must: false };
        assert_eq!(at_start.read().unwrap(), Config::default());
        std::fs::write(&file, "claude_model = \"opus\"").unwrap();
        let later = Source { must: true, ..at_start };
        assert!(later.read().unwrap().claude_model.is_some());
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(later.read(), Err(ConfigError::Read { .. })));
    }
}
