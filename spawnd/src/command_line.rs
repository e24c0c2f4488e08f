//! What the command line asks for. Pure.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use proto::ids::{Invalid, UnixUser};

use crate::token::command as token;

pub const USAGE: &str = "usage: spawnd [--config FILE | --config-fd N] [--fd N | --socket PATH]\n\
    (without --fd and --socket: the socket that systemd hands over)\n       \
    spawnd --check-config [FILE]\n       spawnd token add | list | revoke …\n       \
    spawnd home NAME [--config FILE]";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error(transparent)]
    Token(#[from] token::Error),
    #[error(transparent)]
    Name(#[from] Invalid),
}

/// Unless the command line names another.
pub const CONFIG: &str = "/etc/synthesis/spawnd.toml";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    Serve { config: Place, access: Access },
    CheckConfig(PathBuf),
    Token { command: token::Command, config: PathBuf },
    Home { user: UnixUser, config: PathBuf },
}

/// Where spawnd.toml is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    Path(PathBuf),
    Descriptor(RawFd),
}

/// How peers reach us.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    Connected(RawFd),
    Path(PathBuf),
    Activated,
}

/// # Errors
/// [`Error`]: what is said is none of it.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, Error> {
    let mut arguments = arguments.peekable();
    if arguments.next_if(|flag| flag == "--check-config").is_some() {
        let file = arguments.next().unwrap_or_else(|| CONFIG.into()).into();
        return if arguments.next().is_none() {
            Ok(Task::CheckConfig(file))
        } else {
            Err(Error::Usage)
        };
    }
    if arguments.next_if(|word| word == "token").is_some() {
        let (command, config) = token::parse(arguments)?;
        return Ok(Task::Token { command, config: config.unwrap_or_else(|| CONFIG.into()) });
    }
    if arguments.next_if(|word| word == "home").is_some() {
        let name = arguments.next().and_then(|name| name.into_string().ok());
        let user = UnixUser::new(name.ok_or(Error::Usage)?)?;
        let config = match (arguments.next(), arguments.next(), arguments.next()) {
            (None, _, _) => CONFIG.into(),
            (Some(flag), Some(file), None) if flag == "--config" => file.into(),
            _ => return Err(Error::Usage),
        };
        return Ok(Task::Home { user, config });
    }
    let (mut config, mut access) = (None, None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(Error::Usage)?;
        let number = || value.to_str().and_then(|text| text.parse().ok()).ok_or(Error::Usage);
        let before = match flag.to_str() {
            Some("--config") => config.replace(Place::Path(value.into())).is_some(),
            Some("--config-fd") => config.replace(Place::Descriptor(number()?)).is_some(),
            Some("--fd") => access.replace(Access::Connected(number()?)).is_some(),
            Some("--socket") => access.replace(Access::Path(value.into())).is_some(),
            _ => return Err(Error::Usage),
        };
        if before {
            return Err(Error::Usage);
        }
    }
    Ok(Task::Serve {
        config: config.unwrap_or_else(|| Place::Path(CONFIG.into())),
        access: access.unwrap_or(Access::Activated),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(arguments: &[&str]) -> Result<Task, Error> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_names_one_file_and_one_way_in() {
        let path = |path: &str| Place::Path(path.into());
        for (arguments, config, access) in [
            (&[][..], path(CONFIG), Access::Activated),
            (&["--fd", "5"], path(CONFIG), Access::Connected(5)),
            (&["--config", "/x", "--socket", "/s"], path("/x"), Access::Path("/s".into())),
            (&["--fd", "5", "--config-fd", "6"], Place::Descriptor(6), Access::Connected(5)),
        ] {
            assert_eq!(task(arguments).unwrap(), Task::Serve { config, access });
        }
        let home = |config: &str| {
            let user = UnixUser::new("al").unwrap();
            Task::Home { user, config: config.into() }
        };
        assert_eq!(task(&["home", "al"]).unwrap(), home(CONFIG));
        assert_eq!(task(&["home", "al", "--config", "x"]).unwrap(), home("x"));
        assert_eq!(task(&["--check-config"]).unwrap(), Task::CheckConfig(CONFIG.into()));
        assert_eq!(task(&["--check-config", "x"]).unwrap(), Task::CheckConfig("x".into()));
        for bad in [
            &["--fd"][..],
            &["--fd", "x"],
            &["--fd", "5", "6"],
            &["--fd", "5", "--socket", "/s"],
            &["--config", "/x", "--config-fd", "6"],
            &["--check-config", "x", "y"],
            &["-h"],
            &["x", "y"],
            &["home"],
            &["home", "al", "x"],
            &["home", "al", "--config"],
            &["home", "al", "--fd", "3"],
        ] {
            assert!(matches!(task(bad), Err(Error::Usage)), "{bad:?}");
        }
    }
}
