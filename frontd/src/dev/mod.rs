//! `frontd dev`: one command, no systemd. Binds, starts a spawnd of its own, gives up root if it
//! had it, serves. The end of either daemon ends the other and every session.

mod compose;
mod reach;
mod stage;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use tokio_seqpacket::UnixSeqpacket;

use crate::environment::Environment;
use crate::listeners::Listeners;
use crate::serve;
use crate::spawner::Address;
use stage::Stage;

/// Runs the pair until a signal or the end of spawnd.
///
/// # Errors
/// Whatever keeps it from serving, and a loss of spawnd.
pub fn run() -> anyhow::Result<()> {
    let environment = Environment::read()?;
    let stage = Stage::prepare(&environment)?;
    let listeners = Listeners::bind(&environment, &stage.bridge_socket)?;
    let (own_end, mut spawnd) = start_spawnd(&environment, &stage)?;
    if Uid::effective().is_root() {
        become_nobody_in_particular(stage.frontd_uid)?;
    }
    let site = stage.site()?;
    let served = serve::block_on(async move {
        let socket = UnixSeqpacket::try_from(own_end).context("the socket to spawnd")?;
        serve::run(environment, site, listeners, Address::Connected(socket)).await
    });
    // Our end of the pair is closed now: spawnd ends every session and exits.
    let status = spawnd.wait().context("wait for spawnd")?;
    served?;
    if !status.success() {
        bail!("spawnd: {status}");
    }
    Ok(())
}

/// Starts spawnd with one end of a fresh pair; the other is ours.
fn start_spawnd(environment: &Environment, stage: &Stage) -> anyhow::Result<(OwnedFd, Child)> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context("socketpair")?;
    nix::fcntl::fcntl(&ours, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    // The one descriptor that crosses the exec; closed here right after.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).context("keep the pair over exec")?;
    let program = beside_us("spawnd")?;
    let mut command = Command::new(&program);
    command.arg("--fd").arg(theirs.as_raw_fd().to_string());
    // Open until spawnd has been started.
    let composed = match &environment.spawnd_config {
        Some(file) => {
            command.arg("--config").arg(file);
            None
        }
        None => {
            let file = compose::file(stage)?;
            command.arg("--config-fd").arg(file.as_raw_fd().to_string());
            Some(file)
        }
    };
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    drop(composed);
    Ok((ours, child))
}

/// The sibling of our own executable.
fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("our own path")?;
    let path = own.parent().unwrap_or(Path::new("/")).join(name);
    if !path.is_file() {
        bail!("{} is missing: build the whole workspace", path.display());
    }
    Ok(path)
}

/// Root is given up for good: all three ids, no groups, and the proof.
fn become_nobody_in_particular(uid: u32) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).context("setgroups")?;
    setresgid(gid, gid, gid).context("setresgid")?;
    setresuid(uid, uid, uid).context("setresuid")?;
    if nix::unistd::setuid(Uid::from_raw(0)).is_ok() || Uid::effective().is_root() {
        bail!("root could be had back after it was given up");
    }
    Ok(())
}
