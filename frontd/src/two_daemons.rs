//! `frontd serve --spawnd PATH`: with a spawnd that runs already.

use std::path::PathBuf;

use anyhow::Context;
use nix::unistd::{Uid, User};
use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::TerminalSize;

use crate::app::Site;
use crate::environment::Environment;
use crate::serve::{self, Listeners};
use crate::spawner::Address;

/// Runs until a signal; a lost spawnd is looked for again.
///
/// # Errors
/// Whatever keeps it from serving.
pub fn run(spawnd: PathBuf, user: Option<String>) -> anyhow::Result<()> {
    let environment = Environment::read()?;
    anyhow::ensure!(!Uid::effective().is_root(), "frontd serve does not run as root");
    let user = match user {
        Some(name) => User::from_name(&name)?.with_context(|| format!("no user {name}"))?,
        None => User::from_uid(Uid::effective())?.context("the calling user has no name")?,
    };
    let state = &environment.state;
    for folder in ["frontd", "run/bridge", "workspace"] {
        let path = state.as_path().join(folder);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    let site = Site {
        user: UnixUser::new(user.name)?,
        uid: user.uid.as_raw(),
        client_uid: Uid::current().as_raw(),
        default_workspace: AbsolutePath::new(format!("{state}/workspace"))?,
        terminal: TerminalSize::new(40, 120)?,
        policy_set_key: std::env::var_os("ANTHROPIC_API_KEY").is_some_and(|key| !key.is_empty()),
    };
    let listeners = Listeners::bind(&environment, &state.as_path().join("run/bridge/bridge.sock"))?;
    serve::block_on(serve::run(environment, site, listeners, Address::Path(spawnd)))
}
