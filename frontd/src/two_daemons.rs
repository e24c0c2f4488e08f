//! `frontd serve`: with a spawnd that runs already. Under systemd for many users; by hand for one.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::unistd::{Uid, User};
use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::{Proof, TerminalSize};

use crate::app::{Access, Site};
use crate::client::Runner;
use crate::config::AuthMode;
use crate::environment::Environment;
use crate::listeners::Listeners;
use crate::serve;
use crate::spawner::Address;

/// The bridge of an installed server.
const BRIDGE: &str = "/run/synthesis/bridge/bridge.sock";

/// Runs until a signal; a lost spawnd is looked for again.
///
/// # Errors
/// Whatever keeps it from serving.
pub fn run(spawnd: PathBuf, user: Option<String>) -> anyhow::Result<()> {
    let environment = Environment::read()?;
    ensure!(!Uid::effective().is_root(), "frontd serve does not run as root");
    let socket = environment.config.bridge.socket.as_ref().map(AbsolutePath::as_path);
    let activated = Listeners::activated(socket.unwrap_or(Path::new(BRIDGE)))?;
    let default = if activated.is_some() { AuthMode::Required } else { AuthMode::Local };
    let state = &environment.state;
    make(state, "frontd")?;
    let access = match environment.config.auth.mode.unwrap_or(default) {
        AuthMode::Required => {
            ensure!(
                user.is_none(),
                "--user is for `auth.mode = \"local\"`: tokens name their users"
            );
            Access::Required
        }
        AuthMode::Local => {
            make(state, "workspace")?;
            Access::local(Uid::current().as_raw(), runner(state, user)?)
        }
    };
    let listeners = match activated {
        Some(listeners) => listeners,
        None => {
            let own = state.as_path().join("run/bridge/bridge.sock");
            if socket.is_none() {
                make(state, "run/bridge")?;
            }
            Listeners::bind(&environment, socket.unwrap_or(&own))?
        }
    };
    // The session's environment is policy's: a key in it was meant.
    let site = Site { access, terminal: TerminalSize::new(40, 120)?, policy_set_key: true };
    serve::block_on(serve::run(environment, site, listeners, Address::Path(spawnd)))
}

fn make(state: &AbsolutePath, folder: &str) -> anyhow::Result<()> {
    let path = state.as_path().join(folder);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())
}

fn runner(state: &AbsolutePath, user: Option<String>) -> anyhow::Result<Runner> {
    let user = match user {
        Some(name) => User::from_name(&name)?.with_context(|| format!("no user {name}"))?,
        None => User::from_uid(Uid::effective())?.context("the calling user has no name")?,
    };
    Ok(Runner {
        user: UnixUser::new(user.name)?,
        uid: user.uid.as_raw(),
        workspace: AbsolutePath::new(format!("{state}/workspace"))?,
        proof: Proof::None,
    })
}
