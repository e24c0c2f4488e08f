//! From the command line and the environment to a daemon that is ready to serve. Refuses what is
//! unfit before a byte of a peer is read. The only part of the daemon that may block.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, fchownat, geteuid};
use proto::ids::SessionId;

use crate::audit::{Audit, Sink};
use crate::command_line::{Access, Place, USAGE};
use crate::config::Source;
use crate::daemon::{Daemon, Ground};
use crate::doors::{Doors, Entrance, TurnedAway};
use crate::folder::{self, Folders};
use crate::gate::{self, Gate};
use crate::homes::Homes;
use crate::pace::Pace;
use crate::scope::{self, Scopes};
use crate::store::{self, Store, What};
use crate::{log, reading, sys, trust, undertaker};

/// Descriptors of a session: terminal, status pipe or notify socket, pidfd, and while it starts
/// what launch is given.
const PER_SESSION: u64 = 6;
/// Everything else: connections, sweeps, look-ups, and what waits for systemd.
const RESERVE: u64 = 256 + store::WAITING as u64;

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
    #[error("process set-up: {0}")]
    Process(#[from] Errno),
    #[error("/proc does not show this process: sessions could not be watched")]
    Proc,
    #[error(transparent)]
    Reading(#[from] reading::Error),
    #[error("not to be trusted: {0}")]
    Trust(#[from] trust::Error),
    #[error("launch, to be started again: {0}")]
    Undertaker(std::io::Error),
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
    #[error("audit record: {0}")]
    Audit(#[from] crate::audit::SinkError),
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error(transparent)]
    Scope(#[from] scope::Error),
    #[error(transparent)]
    Gate(#[from] gate::Error),
}

/// # Errors
/// The first thing that is unfit.
pub fn start(place: &Place, access: &Access) -> Result<Daemon, Error> {
    // What systemd stored may be more than the soft limit that it starts us with.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // First: what we inherit, before our own descriptors take the numbers.
    let inherited = inherit(access)?;
    let given = match place {
        Place::Path(_) => None,
        Place::Descriptor(number) => Some(taken(*number)?),
    };
    let as_root = geteuid().is_root();
    let (config, trust) = reading::configuration(place, given)?;
    // After the file was closed, whose number may be one of these.
    occupy_low_numbers()?;
    prove_proc()?;
    let signals = signals()?;
    room_for_sessions(config.limits.sessions.0)?;
    let (run, state, limits) = (config.run.clone(), config.state.clone(), &config.limits);
    let pace = Pace::new(limits.spawns_per_second.0, limits.spawn_burst.0, Instant::now());
    reading::warn_of_unknown(&config.users.allow);
    let (frontd_uid, launch) = (reading::frontd_uid(&config.frontd)?, reading::launch(trust)?);
    let (source, file) = match place {
        Place::Path(path) => (Source::File, std::path::absolute(path).ok()),
        Place::Descriptor(_) => (Source::Descriptor, None),
    };
    let policy = reading::settled(config, frontd_uid, trust, source)?;
    undertaker::employ(launch.as_fd()).map_err(Error::Undertaker)?;
    // The folders' modes are given in full; whatever is made later is ours alone unless said.
    umask(Mode::from_bits_truncate(0o022));
    let folders = Folders::open(&run, as_root)?;
    let (homes, gate) = (Homes::open(&state, as_root)?, Gate::open(&run, &state)?);
    let ground = Ground { folders, homes, gate, launch, file, as_root };
    umask(Mode::from_bits_truncate(0o077));
    let scopes = match policy.config.scopes {
        true => Some(Scopes::open(policy.config.programs.systemd_run().as_path())?),
        false => {
            // Orphans of a session come to us, so that it can be seen to be over.
            prctl::set_child_subreaper(true)?;
            None
        }
    };
    let peers = [geteuid().as_raw(), policy.frontd_uid, 0];
    let mut stored = Vec::new();
    let doors = match inherited {
        Inherited::Connection(socket) => {
            let mut doors = Doors::new(Entrance::Single, peers);
            doors.greet(socket, Instant::now())?;
            doors
        }
        Inherited::Activation { listener, pieces } => {
            stored = pieces;
            Doors::new(Entrance::Listener(listener), peers)
        }
        Inherited::Nothing(path) => {
            Doors::new(Entrance::Listener(bound(&path, policy.frontd_uid)?), peers)
        }
    };
    let sink = Sink::choose(log::under_journal())?;
    let limits = &policy.config.limits;
    let audit =
        Audit::new(sink, policy.config.audit, limits.refusals_per_second.0, limits.sessions.size());
    let mut daemon = Daemon::new(policy, pace, ground, doors, audit, signals);
    daemon.recover(scopes, Store::new(variable("NOTIFY_SOCKET").as_deref()), stored);
    daemon.watch(sd_notify::watchdog_enabled());
    Ok(daemon)
}

/// What systemd says to a service; nothing else is read of the environment here.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

enum Inherited {
    Connection(OwnedFd),
    Activation { listener: OwnedFd, pieces: Vec<(SessionId, What, OwnedFd)> },
    Nothing(PathBuf),
}

fn inherit(access: &Access) -> Result<Inherited, Error> {
    match access {
        Access::Connected(number) => Ok(Inherited::Connection(inherited_socket(*number)?)),
        Access::Path(path) => Ok(Inherited::Nothing(path.clone())),
        Access::Activated => activation(store::inherited(&variable)),
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

fn taken(number: RawFd) -> Result<OwnedFd, Error> {
    sys::descriptors::take_inherited(number).map_err(|source| Error::Inherited { number, source })
}

/// An inherited descriptor is whatever the parent made of it: look, and make it non-blocking.
fn inherited_socket(number: RawFd) -> Result<OwnedFd, Error> {
    prepared(taken(number)?, number)
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
pub(crate) fn occupy_low_numbers() -> Result<(), Error> {
    loop {
        let file =
            File::open("/dev/null").map_err(|source| Error::Inherited { number: 3, source })?;
        if file.as_raw_fd() > sys::exec::PROGRAM {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// Whatever the shell or unit that started us allows by default.
pub(crate) fn room_for_sessions(sessions: u64) -> Result<(), Error> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(sessions * PER_SESSION + RESERVE), hard)?)
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

/// A listener on `path`, for us, root and frontd's uid alone. As root only where nobody else could
/// put something in its place.
fn bound(path: &Path, frontd_uid: u32) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Socket { path: path.to_owned(), source: errno.into() };
    if geteuid().is_root() {
        let whole = std::path::absolute(path)
            .map_err(|source| Error::Socket { path: path.to_owned(), source })?;
        trust::prove_roots_folder(whole.parent().unwrap_or(&whole))?;
    }
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
        let (uid, flags) = (Some(Uid::from_raw(frontd_uid)), AtFlags::AT_SYMLINK_NOFOLLOW);
        fchownat(AT_FDCWD, path, uid, None, flags).map_err(failed)?;
    }
    listen(&listener, Backlog::new(8).map_err(failed)?).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_socket_is_bound_only_in_a_folder_that_is_roots_alone() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
        if !geteuid().is_root() {
            assert_ne!(variable("CI").as_deref(), Some("true"), "needs root");
            return eprintln!("SKIPPED: roots_socket_is_bound_only_… needs root");
        }
        let top = std::env::temp_dir().join(format!("socket-{}", std::process::id()));
        let inner = top.join("in");
        std::fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let socket = inner.join("s");
        bound(&socket, 4242).unwrap();
        assert_eq!(std::fs::symlink_metadata(&socket).unwrap().uid(), 4242);
        // The last folder, whose stickiness is no help; then one on the way.
        mode(&inner, 0o1777);
        assert!(matches!(bound(&inner.join("t"), 4242), Err(Error::Trust(_))));
        mode(&inner, 0o755);
        chown(&top, Some(4242), None).unwrap();
        assert!(matches!(bound(&inner.join("t"), 4242), Err(Error::Trust(_))));
        chown(&top, Some(0), None).unwrap();
        symlink("in", top.join("link")).unwrap();
        chown(&inner, Some(4242), None).unwrap();
        assert!(matches!(bound(&top.join("link/t"), 4242), Err(Error::Trust(_))));
        std::fs::remove_dir_all(&top).unwrap();
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
