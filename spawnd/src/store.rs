//! systemd's file descriptor store: what a session needs to outlive this process, handed over at
//! its start (sd_pid_notify_with_fds(3)) and taken back at ours, when every piece is looked at
//! again. What does not fit is left alone, never killed and never served.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, sendmsg,
    socket, sockopt,
};
use nix::unistd::Pid;
use proto::ids::{ConversationId, SessionId, UnixUser};
use serde::{Deserialize, Serialize};

use crate::sealed::{is_sealed, sealed};
use crate::{log, process, sys};

/// Facts of another version are not understood: their session is left alone.
const VERSION: u32 = 1;
/// A few hundred bytes; the bound is against surprises.
const FACTS: usize = 4096;
/// Six for each of some thousand sessions.
const MOST_INHERITED: u32 = 65_536;
/// What waits for a systemd that hangs: the pieces of some two hundred starts, each with a
/// descriptor. More must not starve the sessions that run.
pub const WAITING: usize = 1024;
/// systemd reads its socket in turns; until then it may be full.
const RETRY: Duration = Duration::from_millis(20);

/// One piece of a session in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Leader,
    Pidfd,
    Notify,
    Lock,
    /// Last of a start: with it the record is whole.
    Facts,
}

const ALL: [(What, &str); 5] = [
    (What::Leader, "leader"),
    (What::Pidfd, "pidfd"),
    (What::Notify, "notify"),
    (What::Lock, "lock"),
    (What::Facts, "facts"),
];

/// What is true of a stored session, and by what its pieces are known to belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub version: u32,
    pub session: SessionId,
    pub conversation: ConversationId,
    pub user: UnixUser,
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    /// When it started, in ticks.
    pub start: u64,
    /// The N of /dev/pts/N.
    pub pts: u32,
    pub resumed: bool,
    pub ready: Option<u32>,
}

impl Facts {
    pub const VERSION: u32 = VERSION;

    /// Sealed files alone: nobody can change what was read.
    fn read(fd: OwnedFd) -> Option<Self> {
        let sealed = is_sealed(&fd);
        let mut bytes = [0; FACTS];
        let len = File::from(fd).read_at(&mut bytes, 0).ok()?;
        let facts: Self = serde_json::from_slice(bytes.get(..len)?).ok()?;
        (sealed && facts.version == VERSION).then_some(facts)
    }
}

/// The way to systemd. Outside it, and without it, everything here does nothing.
#[derive(Default)]
pub struct Store {
    manager: Option<(OwnedFd, UnixAddr)>,
    /// What its socket did not take at once, in order.
    waiting: VecDeque<(String, Option<OwnedFd>)>,
    /// More came than may wait; that was logged.
    overflowed: bool,
    retry_at: Option<Instant>,
}

impl Store {
    /// `address`: $NOTIFY_SOCKET.
    pub fn new(address: Option<&str>) -> Self {
        let manager = address.and_then(|address| {
            let name = match address.strip_prefix('@') {
                Some(name) => UnixAddr::new_abstract(name.as_bytes()),
                None => UnixAddr::new(address),
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None);
            Some((socket.ok()?, name.ok()?))
        });
        Self { manager, ..Self::default() }
    }

    /// Is there anybody to keep things?
    pub fn is_there(&self) -> bool {
        self.manager.is_some()
    }

    pub fn keep(&mut self, session: &SessionId, what: What, fd: BorrowedFd<'_>) {
        // FDPOLL=0: else systemd drops a terminal whose other side hung up.
        let text = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={}\n", name(session, what));
        match fd.try_clone_to_owned() {
            Ok(copy) => self.send(text, Some(copy)),
            Err(error) => log::error(format_args!("session {session} is not stored: {error}")),
        }
    }

    pub fn keep_facts(&mut self, facts: &Facts) {
        match sealed("facts", facts) {
            Ok(fd) => self.keep(&facts.session, What::Facts, fd.as_fd()),
            Err(error) => log::error(format_args!("facts of {}: {error}", facts.session)),
        }
    }

    pub fn drop_piece(&mut self, session: &SessionId, what: What) {
        self.send(format!("FDSTOREREMOVE=1\nFDNAME={}\n", name(session, what)), None);
    }

    /// All of a session that is over. Facts go first: half a record is none.
    pub fn drop_session(&mut self, session: &SessionId) {
        for (what, _) in ALL.iter().rev() {
            self.drop_piece(session, *what);
        }
    }

    /// A line that waits already is not said twice.
    pub fn say(&mut self, line: &str) {
        let text = format!("{line}\n");
        if !self.waiting.iter().any(|(waiting, _)| *waiting == text) {
            self.push(text, None);
        }
    }

    /// What is lost costs no session: one that was not stored whole is left alone by the next
    /// spawnd, of one that was not removed the exit is told.
    fn send(&mut self, text: String, fd: Option<OwnedFd>) {
        if self.waiting.len() < WAITING {
            return self.push(text, fd);
        }
        if !std::mem::replace(&mut self.overflowed, true) {
            log::error(format_args!("systemd does not listen: sessions are not stored any more"));
        }
    }

    fn push(&mut self, text: String, fd: Option<OwnedFd>) {
        if self.manager.is_some() {
            self.waiting.push_back((text, fd));
            self.flush(Instant::now());
        }
    }

    /// Has systemd heard everything?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Sends what waits, as far as systemd takes it now.
    pub fn flush(&mut self, now: Instant) {
        self.retry_at = None;
        let Some((socket, address)) = &self.manager else { return };
        while let Some((text, fd)) = self.waiting.front() {
            match send(socket, address, text, fd.as_ref()) {
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.retry_at = Some(now + RETRY);
                    return;
                }
                Err(errno) => log::error(format_args!("systemd was not told {text:?}: {errno}")),
                Ok(()) => {}
            }
            self.waiting.pop_front();
        }
        self.overflowed = false;
    }
}

fn send(socket: &OwnedFd, address: &UnixAddr, text: &str, fd: Option<&OwnedFd>) -> nix::Result<()> {
    let parts = [std::io::IoSlice::new(text.as_bytes())];
    let raw: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &parts, rights, flags, Some(address)).map(drop)
}

fn name(session: &SessionId, what: What) -> String {
    let word = ALL.iter().find(|(found, _)| *found == what).map_or("", |(_, word)| *word);
    format!("{session}.{word}")
}

/// Whose piece has this name? Whatever is none of ours has none.
pub fn piece(name: &str) -> Option<(SessionId, What)> {
    let (session, word) = name.split_once('.')?;
    let (what, _) = ALL.iter().find(|(_, found)| *found == word)?;
    Some((SessionId::new(session).ok()?, *what))
}

/// What systemd passed to this process: its sockets, and what was stored. A number that is not
/// open, or a name too few, is logged and no reason to stay away.
pub fn inherited(variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, OwnedFd)> {
    let number = |name: &str| variable(name)?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(MOST_INHERITED);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat("unknown"));
    let taken = (3_i32..).zip(names).take(usize::try_from(count).unwrap_or(0));
    taken
        .filter_map(|(number, name)| {
            let above = |fd| match number > sys::exec::PROGRAM {
                true => Ok(fd),
                // A start of launch overwrites these, which must not fall free.
                false => sys::descriptors::moved_up(fd, sys::exec::PROGRAM + 1),
            };
            match sys::descriptors::take_inherited(number).and_then(above) {
                Ok(fd) => Some((name.to_owned(), fd)),
                Err(error) => {
                    log::warning(format_args!("descriptor {number}, {name:?}: {error}"));
                    None
                }
            }
        })
        .collect()
}

/// What was stored under a session's name, not looked at yet.
#[derive(Default)]
pub struct Pieces {
    fds: BTreeMap<What, OwnedFd>,
    facts: Option<Facts>,
}

/// Sorts the store's descriptors by session. Of two with one name the first counts, but facts that
/// say ready are newer than those that do not.
pub fn sort(stored: Vec<(SessionId, What, OwnedFd)>) -> BTreeMap<SessionId, Pieces> {
    let mut sorted: BTreeMap<SessionId, Pieces> = BTreeMap::new();
    for (session, what, fd) in stored {
        let pieces = sorted.entry(session).or_default();
        if what != What::Facts {
            pieces.fds.entry(what).or_insert(fd);
        } else if pieces.facts.as_ref().is_none_or(|known| known.ready.is_none()) {
            pieces.facts = Facts::read(fd).or(pieces.facts.take());
        }
    }
    sorted
}

/// Why a record is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("it names another session")]
    Session,
    #[error("a piece is missing")]
    Incomplete,
    #[error("it was not ready, and cannot be heard to be")]
    NeverReady,
    #[error("its process is another one")]
    Process,
    #[error("its process is not in its scope")]
    Scope,
    #[error("its terminal is another one")]
    Terminal,
    #[error("its socket is none")]
    Socket,
}

/// A session that may be served again.
pub struct Record {
    pub facts: Facts,
    pub leader: OwnedFd,
    pub pidfd: OwnedFd,
    /// `None` once it was ready.
    pub notify: Option<OwnedFd>,
    pub lock: OwnedFd,
}

impl Pieces {
    /// Without facts a start was cut short: nobody was told of that session.
    pub fn has_facts(&self) -> bool {
        self.facts.is_some()
    }

    /// Do the pieces belong together, and to `session`? A process that is gone may: its end is
    /// what there is to tell.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn verify(mut self, session: &SessionId) -> Result<Record, Mismatch> {
        let facts = self.facts.ok_or(Mismatch::Incomplete)?;
        if facts.session != *session {
            return Err(Mismatch::Session);
        }
        let mut take = |what| self.fds.remove(&what).ok_or(Mismatch::Incomplete);
        let (leader, pidfd, lock) = (take(What::Leader)?, take(What::Pidfd)?, take(What::Lock)?);
        let found = process::one(Pid::from_raw(facts.pid)).map(|process| process.start);
        match sys::pidfd::number(pidfd.as_fd()) {
            Some(gone) if gone < 0 => {}
            // Not waited for yet, so that what was found a moment ago was this process.
            Some(pid) if pid == facts.pid && found == Some(facts.start) => {}
            Some(_) | None => return Err(Mismatch::Process),
        }
        if sys::terminal::number(leader.as_fd()).ok() != Some(facts.pts) {
            return Err(Mismatch::Terminal);
        }
        let notify = match facts.ready {
            Some(_) => None,
            None => Some(take(What::Notify).map_err(|_| Mismatch::NeverReady)?),
        };
        if notify.as_ref().is_some_and(|fd| getsockopt(fd, sockopt::PassCred) != Ok(true)) {
            return Err(Mismatch::Socket);
        }
        Ok(Record { facts, leader, pidfd, notify, lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    fn facts(session: &SessionId) -> Facts {
        let request = crate::policy::tests::request();
        let me = process::one(nix::unistd::getpid()).unwrap();
        Facts {
            version: VERSION,
            session: session.clone(),
            conversation: request.conversation,
            user: request.user,
            uid: 1000,
            gid: 1000,
            pid: me.pid.as_raw(),
            start: me.start,
            pts: 0,
            resumed: false,
            ready: None,
        }
    }

    /// A whole and true record, and what to change in it.
    fn verdict(change: impl FnOnce(&mut Facts, &mut Pieces)) -> Result<(), Mismatch> {
        let session = SessionId::random();
        let leader: OwnedFd = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR).unwrap().into();
        let mut facts = facts(&session);
        facts.pts = sys::terminal::number(leader.as_fd()).unwrap();
        let flags = SockFlag::empty();
        let notify = socket(AddressFamily::Unix, SockType::Datagram, flags, None).unwrap();
        nix::sys::socket::setsockopt(&notify, sockopt::PassCred, &true).unwrap();
        let fds = [
            (What::Leader, leader),
            (What::Pidfd, sys::pidfd::open(nix::unistd::getpid()).unwrap()),
            (What::Notify, notify),
            (What::Lock, null()),
        ];
        let mut pieces = Pieces { fds: fds.into(), facts: None };
        change(&mut facts, &mut pieces);
        let stored = vec![(session.clone(), What::Facts, sealed("facts", &facts).unwrap())];
        pieces.facts = sort(stored).remove(&session).unwrap().facts;
        pieces.verify(&session).map(drop)
    }

    #[test]
    fn names_of_pieces_are_read_and_odd_ones_are_nobodys() {
        let session = SessionId::random();
        for (what, _) in ALL {
            assert_eq!(piece(&name(&session, what)), Some((session.clone(), what)));
        }
        for odd in ["", ".", "stored", "synthesis-spawnd.socket", "x.leader", "..facts"] {
            assert_eq!(piece(odd), None);
        }
        assert_eq!(piece(&format!("{session}.leader.x")), None);
        assert_eq!(piece(&format!("{session}.")), None);
    }

    #[test]
    fn a_whole_record_is_served_and_a_ready_one_needs_no_socket() {
        assert_eq!(verdict(|_, _| {}), Ok(()));
        let ready = verdict(|facts, pieces| {
            facts.ready = Some(7);
            pieces.fds.remove(&What::Notify);
        });
        assert_eq!(ready, Ok(()));
    }

    #[test]
    fn each_piece_that_does_not_fit_is_a_mismatch() {
        assert_eq!(verdict(|f, _| f.session = SessionId::random()), Err(Mismatch::Session));
        assert_eq!(verdict(|f, _| f.start += 1), Err(Mismatch::Process));
        assert_eq!(verdict(|f, _| f.pid = 1), Err(Mismatch::Process));
        assert_eq!(verdict(|f, _| f.pts += 1), Err(Mismatch::Terminal));
        assert_eq!(
            verdict(|_, p| drop(p.fds.insert(What::Leader, null()))),
            Err(Mismatch::Terminal)
        );
        assert_eq!(verdict(|_, p| drop(p.fds.insert(What::Pidfd, null()))), Err(Mismatch::Process));
        assert_eq!(verdict(|_, p| drop(p.fds.insert(What::Notify, null()))), Err(Mismatch::Socket));
        assert_eq!(verdict(|_, p| drop(p.fds.remove(&What::Lock))), Err(Mismatch::Incomplete));
        assert_eq!(verdict(|f, _| f.version = 2), Err(Mismatch::Incomplete));
    }

    #[test]
    fn a_dead_process_is_an_exit_to_tell() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let pidfd = sys::pidfd::open(pid).unwrap();
        child.wait().unwrap();
        assert_eq!(verdict(|_, pieces| drop(pieces.fds.insert(What::Pidfd, pidfd))), Ok(()));
    }

    #[test]
    fn facts_that_anybody_could_write_are_none() {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        use std::io::Write as _;
        let session = SessionId::random();
        let mut open = File::from(memfd_create("facts", MFdFlags::MFD_CLOEXEC).unwrap());
        open.write_all(&serde_json::to_vec(&facts(&session)).unwrap()).unwrap();
        let unsealed = vec![(session.clone(), What::Facts, open.into())];
        assert!(!sort(unsealed).remove(&session).unwrap().has_facts());
        let foreign = vec![(session.clone(), What::Facts, null())];
        assert!(!sort(foreign).remove(&session).unwrap().has_facts());
    }

    #[test]
    fn the_newer_facts_count_in_any_order() {
        let session = SessionId::random();
        let old = facts(&session);
        let new = Facts { ready: Some(9), ..old.clone() };
        for pair in [[&old, &new], [&new, &old]] {
            let stored = pair
                .map(|facts| (session.clone(), What::Facts, sealed("facts", &facts).unwrap()))
                .into();
            assert_eq!(sort(stored).remove(&session).unwrap().facts, Some(new.clone()));
        }
    }

    #[test]
    fn nothing_is_said_outside_systemd() {
        let mut store = Store::new(None);
        store.keep(&SessionId::random(), What::Lock, null().as_fd());
        assert!(store.waiting.is_empty() && store.next_deadline().is_none());
    }

    #[test]
    fn what_waits_for_systemd_is_bounded_and_a_line_waits_once() {
        let path = std::env::temp_dir().join(format!("hung-{}", std::process::id()));
        let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let mut store = Store::new(path.to_str());
        for _ in 0..2 * WAITING {
            store.drop_piece(&SessionId::random(), What::Lock);
        }
        assert!(store.waiting.len() == WAITING && store.overflowed);
        for _ in 0..9 {
            store.say("WATCHDOG=1");
        }
        assert_eq!(store.waiting.len(), WAITING + 1);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_sent_later() {
        let path = std::env::temp_dir().join(format!("manager-{}", std::process::id()));
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let mut store = Store::new(path.to_str());
        let mut said = 0;
        while store.next_deadline().is_none() {
            store.say("WATCHDOG=1");
            said += 1;
        }
        let mut heard = 0;
        while heard < said {
            manager.recv(&mut [0; 64]).unwrap();
            heard += 1;
            store.flush(Instant::now());
        }
        assert!(store.waiting.is_empty() && store.next_deadline().is_none());
        std::fs::remove_file(&path).unwrap();
    }
}
