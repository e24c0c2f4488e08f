//! From the command line and the environment to a daemon that is ready to serve. Refuses what is
//! unfit before a byte of a peer is read. The only part of the daemon that may block.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chown, geteuid};
use proto::ids::SessionId;

use crate::daemon::Daemon;
use crate::dev_policy::{self, Lookup};
use crate::folder::{self, Folders};
use crate::scope::{self, Scopes};
use crate::server::{Doors, Entrance};
use crate::store::{self, Store, What};
use crate::{log, sys};

pub const USAGE: &str = "usage: spawnd --fd N | spawnd --socket PATH | LISTEN_FDS=1 spawnd";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error("descriptor {number}: {source}")]
    Inherited { number: RawFd, source: std::io::Error },
    #[error("descriptor {0} is not a Unix socket of sequenced packets")]
    NotSeqpacket(RawFd),
    #[error("exactly one socket is expected of systemd, not {0}")]
    Activation(usize),
    #[error("socket {path}: {source}")]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("socket {0} is in use")]
    InUse(PathBuf),
    #[error("launch {path}: {source}")]
    Launch { path: PathBuf, source: std::io::Error },
    #[error("process set-up: {0}")]
    Process(#[from] Errno),
    #[error("/proc does not show this process: sessions could not be watched")]
    Proc,
    #[error(transparent)]
    Environment(#[from] dev_policy::Error),
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error(transparent)]
    Scope(#[from] scope::Error),
}

/// How peers reach us.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    Connected(RawFd),
    Path(PathBuf),
    Activated,
}

/// # Errors
/// [`Error::Usage`].
pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Access, Error> {
    let access = match (arguments.next(), arguments.next()) {
        (None, _) => Access::Activated,
        (Some(flag), Some(value)) if flag == "--fd" => {
            let number = value.to_str().and_then(|text| text.parse().ok()).ok_or(Error::Usage)?;
            Access::Connected(number)
        }
        (Some(flag), Some(value)) if flag == "--socket" => Access::Path(value.into()),
        (Some(_), _) => return Err(Error::Usage),
    };
    match arguments.next() {
        None => Ok(access),
        Some(_) => Err(Error::Usage),
    }
}

/// # Errors
/// The first thing that is unfit.
pub fn start(access: &Access, variable: Lookup<'_>) -> Result<Daemon, Error> {
    // First: what we inherit, before our own descriptors take the numbers.
    let inherited = inherit(access, variable)?;
    occupy_low_numbers()?;
    prove_proc()?;
    room_for_sessions()?;
    let signals = signals()?;
    let settings = dev_policy::settings(variable)?;
    let launch = File::open(&settings.launch)
        .map_err(|source| Error::Launch { path: settings.launch.clone(), source })?;
    // The state folder's mode is given in full; whatever is made later is ours alone unless said.
    umask(Mode::from_bits_truncate(0o022));
    let folders = Folders::open(&settings)?;
    umask(Mode::from_bits_truncate(0o077));
    let policy = dev_policy::policy(variable, &settings)?;
    let scopes = match &policy.scope {
        Some(_) => Some(Scopes::open(Path::new("/usr/bin/systemd-run"))?),
        None => {
            // Orphans of a session come to us, so that it can be seen to be over.
            prctl::set_child_subreaper(true)?;
            None
        }
    };
    let peers = [geteuid().as_raw(), settings.frontd_uid, 0];
    let mut stored = Vec::new();
    let doors = match inherited {
        Inherited::Connection(socket) => {
            let mut doors = Doors::new(Entrance::Single, peers);
            doors.greet(socket, Instant::now());
            doors
        }
        Inherited::Activation { listener, pieces } => {
            stored = pieces;
            Doors::new(Entrance::Listener(listener), peers)
        }
        Inherited::Nothing(path) => {
            Doors::new(Entrance::Listener(bound(&path, settings.frontd_uid)?), peers)
        }
    };
    let mut daemon = Daemon::new(policy, folders, launch.into(), settings.as_root, doors, signals);
    daemon.recover(scopes, Store::new(variable("NOTIFY_SOCKET").as_deref()), stored);
    daemon.watch(sd_notify::watchdog_enabled());
    Ok(daemon)
}

enum Inherited {
    Connection(OwnedFd),
    Activation { listener: OwnedFd, pieces: Vec<(SessionId, What, OwnedFd)> },
    Nothing(PathBuf),
}

fn inherit(access: &Access, variable: Lookup<'_>) -> Result<Inherited, Error> {
    match access {
        Access::Connected(number) => Ok(Inherited::Connection(inherited_socket(*number)?)),
        Access::Path(path) => Ok(Inherited::Nothing(path.clone())),
        Access::Activated => activation(store::inherited(variable)),
    }
}

/// One listener and what the store gives back; whatever else came is closed.
fn activation(passed: Vec<(String, OwnedFd)>) -> Result<Inherited, Error> {
    if passed.is_empty() {
        return Err(Error::Usage);
    }
    let (mut listeners, mut pieces) = (Vec::new(), Vec::new());
    for (name, fd) in passed {
        match store::piece(&name) {
            Some((session, what)) => pieces.push((session, what, fd)),
            None if is_listener(&fd) => listeners.push(fd),
            None => log::warning(format_args!("descriptor {name:?} of systemd is not ours")),
        }
    }
    match <[OwnedFd; 1]>::try_from(listeners) {
        Ok([listener]) => {
            let listener = prepared(listener, 3)?;
            Ok(Inherited::Activation { listener, pieces })
        }
        Err(listeners) => Err(Error::Activation(listeners.len())),
    }
}

fn is_listener(fd: &OwnedFd) -> bool {
    getsockopt(fd, sockopt::AcceptConn) == Ok(true)
}

/// An inherited descriptor is whatever the parent made of it: look, and make it non-blocking.
fn inherited_socket(number: RawFd) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Inherited { number, source };
    let socket = sys::descriptors::take_inherited(number).map_err(failed)?;
    prepared(socket, number)
}

fn prepared(socket: OwnedFd, number: RawFd) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Inherited { number, source };
    let kind = getsockopt(&socket, sockopt::SockType);
    let family = getsockname::<UnixAddr>(socket.as_raw_fd()).ok().and_then(|name| name.family());
    if kind != Ok(SockType::SeqPacket) || family != Some(AddressFamily::Unix) {
        return Err(Error::NotSeqpacket(number));
    }
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// launch gets its descriptors 3 to 5 by dup2: nothing that the fork needs may have these
/// numbers (see [`sys::exec`]). The files are never closed.
fn occupy_low_numbers() -> Result<(), Error> {
    loop {
        let file =
            File::open("/dev/null").map_err(|source| Error::Inherited { number: 3, source })?;
        if file.as_raw_fd() > sys::exec::PROGRAM {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// Six descriptors for each session, whatever the shell that started us allows by default.
fn room_for_sessions() -> Result<(), Error> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard)?)
}

/// A /proc of another pid namespace would make every look at a session wrong.
fn prove_proc() -> Result<(), Error> {
    let own = std::fs::read_link("/proc/self").map_err(|_| Error::Proc)?;
    let own = own.to_str().and_then(|text| text.parse().ok());
    if own == Some(std::process::id()) { Ok(()) } else { Err(Error::Proc) }
}

fn signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// A listener on `path`, for us, root and frontd's uid alone.
fn bound(path: &Path, frontd_uid: u32) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Socket { path: path.to_owned(), source: errno.into() };
    let name = UnixAddr::new(path).map_err(failed)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let seqpacket = || socket(AddressFamily::Unix, SockType::SeqPacket, flags, None);
    let listener = seqpacket().map_err(failed)?;
    match bind(listener.as_raw_fd(), &name) {
        Err(Errno::EADDRINUSE) => {
            let probe = seqpacket().map_err(failed)?;
            let is_socket =
                std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
            match connect(probe.as_raw_fd(), &name) {
                // A socket that nobody listens on is left of a daemon that was killed.
                Err(Errno::ECONNREFUSED) if is_socket => {}
                _ => return Err(Error::InUse(path.to_owned())),
            }
            nix::unistd::unlink(path).map_err(failed)?;
            bind(listener.as_raw_fd(), &name).map_err(failed)?;
        }
        result => result.map_err(failed)?,
    }
    if frontd_uid != geteuid().as_raw() && geteuid().is_root() {
        chown(path, Some(Uid::from_raw(frontd_uid)), None).map_err(failed)?;
    }
    listen(&listener, Backlog::new(8).map_err(failed)?).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Access, Error> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_names_one_way_in() {
        assert_eq!(parsed(&["--fd", "5"]).unwrap(), Access::Connected(5));
        assert_eq!(parsed(&["--socket", "/run/x"]).unwrap(), Access::Path("/run/x".into()));
        assert_eq!(parsed(&[]).unwrap(), Access::Activated);
        for bad in [&["--fd"][..], &["--fd", "x"], &["--fd", "5", "6"], &["-h"], &["x", "y"]] {
            assert!(matches!(parsed(bad), Err(Error::Usage)), "{bad:?}");
        }
    }

    #[test]
    fn an_inherited_descriptor_that_is_no_seqpacket_socket_is_refused() {
        let file = File::open("/dev/null").unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(file);
        assert!(matches!(inherited_socket(number), Err(Error::NotSeqpacket(_))));
        assert!(matches!(inherited_socket(1), Err(Error::Inherited { .. })));
        assert!(matches!(inherited_socket(4000), Err(Error::Inherited { .. })));
    }
}
