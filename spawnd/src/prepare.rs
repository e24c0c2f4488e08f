//! `spawnd home NAME`: a user's folders before the first session, so that the person can put the
//! CLI's login in place. They are made as that session would: by the same look-up of the account and
//! the same judgement of it.

use std::path::PathBuf;

use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use proto::ids::UnixUser;

use crate::command_line::Place;
use crate::config::Home;
use crate::folder::{self, Owner};
use crate::homes::Homes;
use crate::refusal::Refusal;
use crate::{lookup, policy, reading, server, settle, startup};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("only root makes users' folders")]
    NotRoot,
    #[error(transparent)]
    Reading(#[from] reading::Error),
    #[error(transparent)]
    Settle(#[from] settle::Error),
    #[error(transparent)]
    Startup(#[from] startup::Error),
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Answers which folders there are.
///
/// # Errors
/// What keeps that user from having any.
pub fn make_home(user: &UnixUser, file: PathBuf) -> Result<Vec<String>, Error> {
    if !geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let (mut config, trust) = reading::configuration(&Place::Path(file), None)?;
    // Those of spawnd's unit are not here, and not needed.
    config.users.allow.iter_mut().for_each(|rule| rule.credentials.clear());
    let policy = settle::policy(config, 0, None)?;
    startup::occupy_low_numbers()?;
    let launch = reading::launch(trust)?;
    umask(Mode::from_bits_truncate(0o022));
    let homes = Homes::open(&policy.config.state, true)?;
    let found = lookup::wait_for(&launch, user, policy.group_names())?;
    let whose = policy::whose(&policy, user, Some(&found), homes.owner(user), server::today());
    let (rule, account, _) = whose?;
    let owner = Owner { uid: account.uid.get(), gid: account.gid };
    Ok(homes.make(user, owner, rule.home == Home::Private)?)
}
