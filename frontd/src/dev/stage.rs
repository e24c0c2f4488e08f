//! The folders and facts that `frontd dev` needs before it starts anything.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};
use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::{Proof, TerminalSize};

use super::{compose, reach};
use crate::app::{Access, Site};
use crate::client::Runner;
use crate::environment::Environment;

/// frontd's uid when it was started as root and no `synthesis` user exists: one that no Debian
/// range hands out (dynamic users end at 65519, nobody is 65534).
const FRONTD_UID: u32 = 65533;
/// Who sessions run as when started as root, the first that exists.
const SESSION_USERS: [&str; 2] = ["synthesis-claude", "nobody"];
/// Cells of every session's terminal: the CLI's dialogs fit without wrapping.
const TERMINAL: (u16, u16) = (40, 120);

pub(super) struct Stage {
    pub(super) frontd_uid: u32,
    pub(super) bridge_socket: PathBuf,
    /// As claude's user can execute it.
    pub(super) channel: PathBuf,
    /// Likewise; `None`: none was found.
    pub(super) claude: Option<PathBuf>,
    pub(super) as_root: bool,
    pub(super) session_user: User,
    /// Of claude's user.
    pub(super) home: AbsolutePath,
    pub(super) state: AbsolutePath,
    client_uid: u32,
}

impl Stage {
    /// Makes the folders, as root with the owners that keep the parts apart.
    ///
    /// # Errors
    /// Names the folder or user that is wrong.
    pub(super) fn prepare(environment: &Environment) -> anyhow::Result<Self> {
        let as_root = Uid::effective().is_root();
        let (session_user, frontd_uid) = if as_root {
            let frontd = User::from_name("synthesis")?.map_or(FRONTD_UID, |user| user.uid.as_raw());
            (session_user()?, frontd)
        } else {
            let mut own =
                User::from_uid(Uid::effective())?.context("the calling user has no name")?;
            own.gid = nix::unistd::getegid();
            (own, Uid::effective().as_raw())
        };
        let state = environment.state.as_path();
        let folder_mode = if as_root { 0o755 } else { 0o700 };
        make_folder(state, folder_mode)?;
        if as_root {
            reach::only_root_can_change(state)?;
        }
        make_folder(&state.join("run/bridge"), folder_mode)?;
        make_folder(&state.join("run"), folder_mode)?;
        let own = state.join("frontd");
        make_folder(&own, 0o700)?;
        if as_root {
            chown(&own, Some(frontd_uid), Some(frontd_uid))?;
            reach::for_everyone(state).context("sessions could not reach the state folder")?;
        }
        let channel = super::beside_us("channel")?;
        let claude = environment.claude.clone().or_else(|| reach::on_path("claude"));
        let (channel, claude) = if as_root {
            let bin = state.join("bin");
            make_folder(&bin, 0o755)?;
            let claude = claude.map(|claude| reach::reachable(&claude, &bin)).transpose()?;
            (reach::reachable(&channel, &bin)?, claude)
        } else {
            (channel, claude)
        };
        give_folder(&state.join("workspace"), &session_user)?;
        let home = if as_root {
            give_folder(&state.join("home"), &session_user)?;
            state.join("home")
        } else {
            std::env::var_os("HOME").map_or_else(|| session_user.dir.clone(), PathBuf::from)
        };
        Ok(Self {
            frontd_uid,
            bridge_socket: state.join("run/bridge/bridge.sock"),
            channel,
            claude,
            as_root,
            home: compose::absolute(&home)?,
            session_user,
            client_uid: Uid::current().as_raw(),
            state: environment.state.clone(),
        })
    }

    /// What the server needs to know of it.
    ///
    /// # Errors
    /// When a name or path is not of the form that the wire takes.
    pub(super) fn site(&self) -> anyhow::Result<Site> {
        let (rows, columns) = TERMINAL;
        let runner = Runner {
            user: UnixUser::new(self.session_user.name.clone())?,
            uid: self.session_user.uid.as_raw(),
            workspace: AbsolutePath::new(format!("{}/workspace", self.state))?,
            proof: Proof::None,
        };
        Ok(Site {
            access: Access::local(self.client_uid, runner),
            terminal: TerminalSize::new(rows, columns)?,
            policy_set_key: std::env::var_os("ANTHROPIC_API_KEY")
                .is_some_and(|key| !key.is_empty()),
        })
    }
}

impl Stage {
    /// Accounts without rights have nologin, which claude's Bash tool could not use.
    pub(super) fn shell(&self) -> &str {
        let shell =
            self.session_user.shell.to_str().filter(|shell| {
                !self.as_root && shell.starts_with('/') && !shell.ends_with("nologin")
            });
        shell.unwrap_or("/bin/sh")
    }
}

fn session_user() -> anyhow::Result<User> {
    for name in SESSION_USERS {
        if let Some(user) = User::from_name(name)? {
            if user.uid.is_root() || user.gid.as_raw() == 0 {
                bail!("{name} has the rights of root");
            }
            return Ok(user);
        }
    }
    bail!("none of the users {SESSION_USERS:?} exists")
}

/// Makes a folder, or checks that the one there is ours (not a link, not another user's).
fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    let shown = path.display();
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.with_context(|| format!("make the folder {shown}"))?;
    let found = fs::symlink_metadata(path).with_context(|| format!("look at {shown}"))?;
    let own = Uid::effective().as_raw();
    if !found.is_dir() || (found.uid() != own && !Uid::effective().is_root()) {
        bail!("{shown} is not a folder of this user");
    }
    // Not by umask's grace: the mode is part of who may reach whom.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {shown}"))
}

/// A folder of claude's user in one of ours.
fn give_folder(path: &Path, user: &User) -> anyhow::Result<()> {
    let shown = path.display();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the folder {shown}"))?;
    let found = fs::symlink_metadata(path).with_context(|| format!("look at {shown}"))?;
    let (owner, wanted) = (found.uid(), user.uid.as_raw());
    if !found.is_dir() || ![wanted, Uid::effective().as_raw()].contains(&owner) {
        bail!("{shown} is not a folder of {}", user.name);
    }
    if owner != wanted {
        chown(path, Some(wanted), Some(user.gid.as_raw()))
            .with_context(|| format!("give {shown} to {}", user.name))?;
    }
    Ok(())
}
