//! Who asks: credentials are verified here, and grants given and taken back. What somebody who was
//! proved may do is [`crate::policy`]'s.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;
use proto::ids::{AbsolutePath, Grant, Secret};
use proto::spawn::{Credential, Proof, Scope, Who};

use crate::folder;
use crate::grant::{Seal, Subject};
use crate::policy::Policy;
use crate::proof::{self, Evidence};
use crate::refusal::Refusal;
use crate::token::command::now;
use crate::token::shelf::{self, Shelf};
use crate::undertaker::Foreign;

const KEY: &str = "grants.key";
/// Where clients come in whom the kernel names; systemd binds it, in root's folder.
const DOOR: &str = "http.sock";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error(transparent)]
    Shelf(#[from] shelf::Error),
    #[error("{path}: {source}")]
    Key { path: String, source: std::io::Error },
    #[error(
        "{0} is not what spawnd made: it must be a file of 64 digits that only root can read; without it a new one is made"
    )]
    Unfit(String),
    #[error("this boot's id: {0}")]
    Boot(std::io::Error),
}

pub struct Gate {
    seal: Seal,
    shelf: Shelf,
    door: PathBuf,
}

impl Gate {
    /// Start only: blocks. `run` and `state` are as in spawnd.toml.
    ///
    /// # Errors
    /// What is wrong with the key, or with a folder.
    pub fn open(run: &AbsolutePath, state: &AbsolutePath) -> Result<Self, Error> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let seal = Seal::new(key(run)?, boot.map_err(Error::Boot)?.trim().to_owned());
        Ok(Self { seal, shelf: Shelf::open(state)?, door: run.as_path().join(DOOR) })
    }

    /// Who is behind a credential. Only that of a peer has a socket. Policy is judged in full at
    /// each start; here only what it says of a token without a look-up.
    ///
    /// # Errors
    /// Why nobody is.
    pub fn verify(
        &mut self,
        credential: &Credential,
        socket: Option<&Foreign>,
        policy: &Policy,
    ) -> Result<(Who, Grant), Refusal> {
        let not_proved = Refusal::NotProved;
        let (who, subject) = match (credential, socket) {
            (Credential::Token { token }, _) => {
                let table = self.shelf.table().ok_or(not_proved("tokens cannot be judged now"))?;
                let token = table.of_text(token).ok_or(not_proved("unknown token"))?;
                if token.has_expired(now()) {
                    return Err(Refusal::TokenExpired(token.id.clone()));
                }
                policy.admits(token).map_err(not_proved)?;
                let who = Who::Token {
                    id: token.id.clone(),
                    principal: token.principal.clone(),
                    user: token.user.clone(),
                    scopes: token.scopes.clone(),
                };
                (who, Subject::Token(token.id.clone()))
            }
            (Credential::Peer {}, Some(socket)) => {
                let uid = proof::examine(socket.as_fd(), &self.door).map_err(not_proved)?;
                (Who::Peer { uid }, Subject::Peer(uid))
            }
            (Credential::Peer {}, None) => return Err(not_proved("no socket came with it")),
        };
        let grant = self.seal.grant(&subject, since_boot());
        Ok((who, grant))
    }

    /// What the proof of a spawn is worth now.
    pub fn evidence(&mut self, proof: &Proof) -> Evidence {
        let grant = match proof {
            Proof::None => return Evidence::None,
            Proof::Grant { grant } => grant,
        };
        let id = match self.seal.check(grant, since_boot()) {
            Ok(Subject::Peer(uid)) => return Evidence::Peer(uid),
            Ok(Subject::Token(id)) => id,
            Err(why) => return Evidence::Unfit(why),
        };
        let Some(table) = self.shelf.table() else {
            return Evidence::Unfit("tokens cannot be judged now");
        };
        match table.of_id(&id) {
            None => Evidence::Unfit("the token was revoked"),
            Some(token) if token.has_expired(now()) => Evidence::Unfit("the token has expired"),
            Some(token) if !token.scopes.contains(&Scope::Chat) => {
                Evidence::Unfit("the token does not open chat")
            }
            Some(token) => Evidence::Token(Box::new(token.clone())),
        }
    }
}

/// Since the kernel's start, in whole seconds, suspend included.
fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(|time| time.tv_sec());
    // A clock that cannot be read makes every grant an expired one.
    time.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(u64::MAX)
}

/// The key of an earlier spawnd, whose grants stay good, or a new one.
fn key(run: &AbsolutePath) -> Result<Secret, Error> {
    let path = || format!("{run}/{KEY}");
    let failed = |source: std::io::Error| Error::Key { path: path(), source };
    let top = folder::own_tree(run, 0o700)?;
    let ours = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match openat(&top, KEY, flags, Mode::empty()) {
        Ok(file) => {
            let found = fstat(&file).map_err(|errno| failed(errno.into()))?;
            let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
            let mine = found.st_uid == geteuid().as_raw() && found.st_mode & 0o077 == 0;
            let mut text = String::new();
            let read = File::from(file).take(65).read_to_string(&mut text);
            match (mine && kind == SFlag::S_IFREG && read.is_ok(), Secret::new(text)) {
                (true, Ok(key)) => Ok(key),
                (true, Err(_)) | (false, _) => Err(Error::Unfit(path())),
            }
        }
        Err(nix::errno::Errno::ENOENT) => {
            let key = Secret::random();
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
            let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let new = openat(&top, "grants.new", flags, ours).map_err(|e| failed(e.into()))?;
            fchmod(&new, ours).map_err(|errno| failed(errno.into()))?;
            File::from(new).write_all(key.expose().as_bytes()).map_err(failed)?;
            renameat(&top, "grants.new", &top, KEY).map_err(|errno| failed(errno.into()))?;
            Ok(key)
        }
        Err(errno) => Err(failed(errno.into())),
    }
}
