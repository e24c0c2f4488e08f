//! Look-ups of accounts under way: each a `launch --account`, for a directory server may take its
//! time and spawnd's loop has none. A request waits here, outside the table of sessions, until
//! its account is known; [`crate::policy`] judges it then.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, pipe2};
use proto::ids::{AbsolutePath, ConversationId, SessionId, UnixUser};
use proto::spawn::Spawn;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::session::Origin;
use crate::{spawn, sys};

const WITHIN: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 64;
/// Bytes of an answer: the kernel knows at most 65,536 groups of one process.
const LIMIT: usize = 1024 * 1024;

/// What `launch --account` says, on one line of descriptor 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// `None`: there is no account of this name.
    pub entry: Option<Entry>,
    /// Every group of the account.
    pub member_of: Vec<u32>,
    /// The numbers of the groups that were asked about; an unknown one is missing.
    pub gids: BTreeMap<String, u32>,
    /// login.defs(5): which uids are people's.
    pub uid_min: u32,
    pub uid_max: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub uid: u32,
    pub gid: u32,
    /// The name of `gid`.
    pub group: Option<String>,
    pub home: AbsolutePath,
    /// Where `home` leads.
    pub real_home: AbsolutePath,
    pub shell: String,
    /// The first day on which it is no longer valid, counted from 1970.
    pub expires: Option<i64>,
}

/// Looks an account up and waits for it: for root's own hands, never for the daemon.
///
/// # Errors
/// The step that failed.
pub fn wait_for<'a>(
    launch: &OwnedFd,
    user: &UnixUser,
    groups: impl Iterator<Item = &'a str>,
) -> Result<Found, Refusal> {
    let (mut child, pipe) = begin(launch, user, groups).map_err(failed)?;
    let mut bytes = Vec::new();
    std::fs::File::from(pipe).take(LIMIT as u64).read_to_end(&mut bytes).map_err(failed)?;
    child.wait().map_err(failed)?;
    let garbled = |_| Refusal::Lookup { user: user.clone(), why: "failed" };
    serde_json::from_slice(&bytes).map_err(garbled)
}

/// The child, and where its answer comes.
fn begin<'a>(
    launch: &OwnedFd,
    user: &UnixUser,
    groups: impl Iterator<Item = &'a str>,
) -> std::io::Result<(Child, OwnedFd)> {
    let (pipe, answer) = pipe2(OFlag::O_CLOEXEC)?;
    let mut command = spawn::beside(launch.as_fd(), "--account");
    command.arg(user.as_str()).args(groups);
    sys::exec::with(&mut command, vec![answer]);
    // The command, which goes with this call, holds our copy of the pipe's other end.
    Ok((command.spawn()?, pipe))
}

fn failed(error: std::io::Error) -> Refusal {
    Refusal::Start { step: "account look-up", errno: error.raw_os_error().unwrap_or(0) }
}

#[derive(Default)]
pub struct Lookups {
    running: Vec<Lookup>,
}

struct Lookup {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
    /// `None`: it was answered.
    asking: Option<Asking>,
}

/// A request that waits.
pub struct Asking {
    pub request: Box<Spawn>,
    pub origin: Origin,
    pipe: OwnedFd,
    bytes: Vec<u8>,
    deadline: Instant,
}

impl Lookups {
    /// # Errors
    /// When the session or its conversation already waits here.
    pub fn admit(
        &self,
        session: &SessionId,
        conversation: ConversationId,
        user: &UnixUser,
    ) -> Result<(), Refusal> {
        for waiting in self.asking().map(|asking| &asking.request) {
            if waiting.session == *session {
                return Err(Refusal::SessionUsed(session.clone()));
            }
            if waiting.conversation == conversation && waiting.user == *user {
                let session = waiting.session.clone();
                return Err(Refusal::ConversationRuns { conversation, session });
            }
        }
        Ok(())
    }

    /// Starts the look-up of a request's user. `groups` are those whose numbers are wanted.
    ///
    /// # Errors
    /// When too many run, or the step that failed.
    pub fn start<'a>(
        &mut self,
        launch: &OwnedFd,
        groups: impl Iterator<Item = &'a str>,
        (request, origin): (Box<Spawn>, Origin),
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.running.len() >= AT_ONCE {
            return Err(Refusal::Lookups);
        }
        let (child, pipe) = begin(launch, &request.user, groups).map_err(failed)?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        let pid = spawn::pid_of(&child);
        let pidfd = sys::pidfd::open(pid).map_err(failed)?;
        let (bytes, deadline) = (Vec::new(), now + WITHIN);
        let asking = Some(Asking { request, origin, pipe, bytes, deadline });
        self.running.push(Lookup { pid, pidfd, reaped: false, asking });
        Ok(())
    }

    /// Reads what came for a session's look-up; the request and its answer when that is whole.
    pub fn read(&mut self, session: &SessionId) -> Option<(Asking, Result<Found, Refusal>)> {
        let is_it = |lookup: &&mut Lookup| {
            lookup.asking.as_ref().is_some_and(|asking| asking.request.session == *session)
        };
        let lookup = self.running.iter_mut().find(is_it)?;
        let asking = lookup.asking.as_mut()?;
        let garbled = Refusal::Lookup { user: asking.request.user.clone(), why: "failed" };
        let mut part = [0; 4096];
        let found = loop {
            match nix::unistd::read(&asking.pipe, &mut part) {
                Ok(0) => break serde_json::from_slice(&asking.bytes).map_err(|_| garbled),
                Ok(len) => asking.bytes.extend(part.iter().take(len)),
                Err(Errno::EAGAIN) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => break Err(garbled),
            }
            if asking.bytes.len() > LIMIT {
                break Err(garbled);
            }
        };
        let asking = lookup.asking.take()?;
        self.clear();
        Some((asking, found))
    }

    /// Those that took too long; their processes are killed.
    pub fn expired(&mut self, now: Instant) -> Vec<(Asking, Refusal)> {
        let late = |lookup: &mut Lookup| {
            let asking = lookup.asking.take_if(|asking| asking.deadline <= now)?;
            let _ = sys::pidfd::signal(lookup.pidfd.as_fd(), Signal::SIGKILL);
            let user = asking.request.user.clone();
            Some((asking, Refusal::Lookup { user, why: "takes too long" }))
        };
        self.running.iter_mut().filter_map(late).collect()
    }

    /// Was `pid` one of them? Its answer may still have to be read.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let found = self.running.iter_mut().find(|lookup| lookup.pid == pid && !lookup.reaped);
        let is_one = found.map(|lookup| lookup.reaped = true).is_some();
        self.clear();
        is_one
    }

    /// One that cannot be killed is still there, and counts.
    fn clear(&mut self) {
        self.running.retain(|lookup| !lookup.reaped || lookup.asking.is_some());
    }

    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.running.iter().filter(|lookup| !lookup.reaped).map(|lookup| lookup.pid)
    }

    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, SessionId)> {
        self.asking().map(|asking| (asking.pipe.as_fd(), asking.request.session.clone()))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.asking().map(|asking| asking.deadline).min()
    }

    fn asking(&self) -> impl Iterator<Item = &Asking> {
        self.running.iter().filter_map(|lookup| lookup.asking.as_ref())
    }
}
