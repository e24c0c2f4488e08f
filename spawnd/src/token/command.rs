//! `spawnd token add | list | revoke`: what root says to the table. A token's text is printed once and
//! alone, so that it can be piped to where it belongs; everything else goes to stderr.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{User, geteuid};
use proto::ids::{Invalid, PrincipalName, TokenId, TokenText, UnixUser};
use proto::spawn::Scope;

use super::date::{date, expiry};
use super::shelf::{self, Shelf};
use super::{Digest, Token};
use crate::config::Config;

pub const USAGE: &str = "usage: spawnd token add --user NAME [--principal NAME] [--expires WHEN] \
    [--scope chat,admin,metrics]\n       spawnd token list\n       spawnd token revoke ID\n\
    (each with --config FILE; WHEN is a date like 2027-01-31, UTC, or a time like 12h, 90d or 8w; \
    without it the token stays good; without --scope it opens chat)";

/// What base 32 is written with: 5 random bits a character.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const TEXT: usize = 32;
const ID: usize = 8;

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Add {
        user: UnixUser,
        principal: PrincipalName,
        /// As it was written: what it means depends on the time.
        expires: Option<String>,
        scopes: Vec<Scope>,
    },
    List,
    Revoke(TokenId),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error("{0}")]
    Invalid(#[from] Invalid),
    #[error("--expires {0}")]
    Expires(&'static str),
    #[error("only root keeps tokens")]
    NotRoot,
    #[error("no token {0}")]
    Unknown(TokenId),
    #[error(transparent)]
    Shelf(#[from] shelf::Error),
    #[error("random bytes: {0}")]
    Random(getrandom::Error),
    #[error("token {id} was made and not shown, revoke it: {source}")]
    Shown { id: TokenId, source: std::io::Error },
    #[error("stdout: {0}")]
    Stdout(std::io::Error),
}

/// What comes after `token`, and the file that `--config` names.
///
/// # Errors
/// [`Error::Usage`], or which value is none.
pub fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<(Command, Option<PathBuf>), Error> {
    let work = arguments.next().ok_or(Error::Usage)?;
    let (mut plain, mut config) = (Vec::new(), None);
    let mut flags: [(&str, Option<String>); 4] =
        [("--user", None), ("--principal", None), ("--expires", None), ("--scope", None)];
    while let Some(argument) = arguments.next() {
        let text = argument.into_string().map_err(|_| Error::Usage)?;
        if !text.starts_with('-') {
            plain.push(text);
            continue;
        }
        let value = arguments.next().ok_or(Error::Usage)?;
        if text == "--config" {
            config = Some(value.into());
            continue;
        }
        let flag = flags.iter_mut().find(|(name, _)| *name == text).ok_or(Error::Usage)?;
        if flag.1.replace(value.into_string().map_err(|_| Error::Usage)?).is_some() {
            return Err(Error::Usage);
        }
    }
    let [(_, user), (_, principal), (_, expires), (_, scope)] = flags;
    let command = match (work.to_str(), plain.as_slice(), user) {
        (Some("add"), [], Some(user)) => {
            let user = UnixUser::new(user)?;
            let own = PrincipalName::from(user.clone());
            let principal = principal.map_or(Ok(own), PrincipalName::new)?;
            let scopes = scope.map_or(Ok(vec![Scope::Chat]), |text| scopes(&text))?;
            return Ok((Command::Add { user, principal, expires, scopes }, config));
        }
        (Some("list"), [], None) => Command::List,
        (Some("revoke"), [id], None) => Command::Revoke(TokenId::new(id)?),
        _ => return Err(Error::Usage),
    };
    match (principal, expires, scope) {
        (None, None, None) => Ok((command, config)),
        _ => Err(Error::Usage),
    }
}

fn scopes(text: &str) -> Result<Vec<Scope>, Error> {
    let known = |word| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
    let mut scopes: Vec<Scope> =
        text.split(',').map(|word| known(word).ok_or(Error::Usage)).collect::<Result<_, _>>()?;
    scopes.sort_unstable();
    scopes.dedup();
    Ok(scopes)
}

/// # Errors
/// Why nothing was done.
pub fn run(command: Command, config: &Config) -> Result<(), Error> {
    if !geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let shelf = Shelf::open(&config.state)?;
    match command {
        Command::Add { user, principal, expires, scopes } => {
            let created = now();
            let expires = expires.map(|text| expiry(&text, created)).transpose();
            let expires = expires.map_err(Error::Expires)?;
            add(&shelf, config, (user, principal, scopes), created, expires)
        }
        Command::List => list(&shelf),
        Command::Revoke(id) => match shelf.change(|table| Ok(table.remove(&id)))? {
            true => Ok(()),
            false => Err(Error::Unknown(id)),
        },
    }
}

#[allow(clippy::print_stderr, reason = "stdout is the token's alone")]
fn add(
    shelf: &Shelf,
    config: &Config,
    (user, principal, scopes): (UnixUser, PrincipalName, Vec<Scope>),
    created: u64,
    expires: Option<u64>,
) -> Result<(), Error> {
    let text = TokenText::new(format!("syn-{}", random::<TEXT>()?))?;
    let id = TokenId::new(random::<ID>()?)?;
    let sha256 = Digest::of(&text);
    let token = Token { id: id.clone(), user, principal, scopes, sha256, created, expires };
    for doubt in doubts(config, &token) {
        eprintln!("warning: {doubt}");
    }
    let shown = line(&token, created);
    shelf.change(|table| table.add(token))?;
    eprint!("{shown}");
    let said = writeln!(std::io::stdout(), "{}", text.expose());
    said.map_err(|source| Error::Shown { id, source })
}

/// What would make it open nothing, as far as the file alone can tell.
fn doubts(config: &Config, token: &Token) -> Vec<String> {
    let mut doubts = Vec::new();
    let user = &token.user;
    if matches!(User::from_name(user.as_str()), Ok(None)) {
        doubts.push(format!("there is no account {user}"));
    }
    let rule = config.users.allow.iter().find(|rule| rule.name.as_ref() == Some(user));
    if token.principal.as_str() != user.as_str() && rule.is_some_and(|rule| !rule.shared) {
        doubts.push(format!(
            "policy does not say that {user} is shared: only principal {user} is let in"
        ));
    }
    doubts
}

fn list(shelf: &Shelf) -> Result<(), Error> {
    let (table, now) = (shelf.look()?, now());
    let lines: String = table.tokens().iter().map(|token| line(token, now)).collect();
    let heading = ["ID", "PRINCIPAL", "USER", "SCOPES", "CREATED", "EXPIRES"].map(str::to_owned);
    std::io::stdout().write_all((row(&heading) + &lines).as_bytes()).map_err(Error::Stdout)
}

/// Each field is of a type that holds nothing to escape.
fn line(token: &Token, now: u64) -> String {
    let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
    let expires = match token.expires.map(date) {
        None => "never".to_owned(),
        Some(date) if token.has_expired(now) => format!("{date} (has expired)"),
        Some(date) => date,
    };
    row(&[
        token.id.to_string(),
        token.principal.to_string(),
        token.user.to_string(),
        scopes.join(","),
        date(token.created),
        expires,
    ])
}

fn row([id, principal, user, scopes, created, expires]: &[String; 6]) -> String {
    format!("{id:<9} {principal:<17} {user:<17} {scopes:<18} {created:<11} {expires}\n")
}

fn random<const LENGTH: usize>() -> Result<String, Error> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    let character = |byte: &u8| ALPHABET.get(usize::from(byte & 31)).copied().map(char::from);
    Ok(bytes.iter().filter_map(character).collect())
}

/// A clock before 1970 makes everything that expires expired.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |since| since.as_secs())
}
