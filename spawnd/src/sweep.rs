//! Emptying the folders of ended sessions: `launch --sweep`, as the session's user, a few at a
//! time and under a deadline. spawnd itself only removes the emptied name.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use proto::ids::SessionId;

use crate::folder::{Folders, Owner};
use crate::{log, spawn, sys};

/// A session's folder holds a debug log, two small files and what its tools left in tmp.
const WITHIN: Duration = Duration::from_secs(10);
/// Many sessions may end at once; sweeping is not urgent.
const AT_ONCE: usize = 4;

#[derive(Default)]
pub struct Sweeps {
    waiting: VecDeque<(SessionId, Owner)>,
    running: Vec<Sweep>,
}

struct Sweep {
    session: SessionId,
    pid: Pid,
    pidfd: OwnedFd,
    deadline: Instant,
}

impl Sweeps {
    pub fn add(&mut self, session: SessionId, owner: Owner) {
        self.waiting.push_back((session, owner));
    }

    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.running.iter().map(|sweep| sweep.pid)
    }

    /// Is this session's folder still to be removed?
    pub fn holds(&self, session: &SessionId) -> bool {
        self.waiting.iter().any(|(waiting, _)| waiting == session)
            || self.running.iter().any(|sweep| sweep.session == *session)
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.running.iter().map(|sweep| sweep.deadline).min()
    }

    /// Starts what may run, ends what took too long.
    pub fn advance(&mut self, folders: &Folders, launch: &OwnedFd, now: Instant) {
        for late in self.running.iter_mut().filter(|sweep| sweep.deadline <= now) {
            log::warning(format_args!("sweep of session {} takes too long", late.session));
            // It is reaped soon; until then no second signal is due.
            late.deadline = now + WITHIN;
            let _ = sys::pidfd::signal(late.pidfd.as_fd(), Signal::SIGKILL);
        }
        while self.running.len() < AT_ONCE {
            let Some((session, owner)) = self.waiting.pop_front() else { break };
            match start(folders, launch, &session, owner) {
                Ok((pid, pidfd)) => {
                    self.running.push(Sweep { session, pid, pidfd, deadline: now + WITHIN });
                }
                Err(error) => log::error(format_args!("sweep of session {session}: {error}")),
            }
        }
    }

    /// If `pid` was a sweep: removes the emptied name.
    pub fn ended(&mut self, folders: &Folders, pid: Pid) -> bool {
        let Some(place) = self.running.iter().position(|sweep| sweep.pid == pid) else {
            return false;
        };
        let sweep = self.running.swap_remove(place);
        if let Err(errno) = folders.remove(&sweep.session) {
            log::warning(format_args!("folder of session {} is left: {errno}", sweep.session));
        }
        true
    }
}

fn start(
    folders: &Folders,
    launch: &OwnedFd,
    session: &SessionId,
    owner: Owner,
) -> std::io::Result<(Pid, OwnedFd)> {
    let mut command = Command::new(spawn::by_descriptor(launch));
    command.arg0("launch").arg("--sweep").arg(folders.path_of(session).as_path());
    command.args([owner.uid.to_string(), owner.gid.to_string()]);
    command.env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::exec::with_nothing(&mut command);
    let pid = spawn::pid_of(&command.spawn()?);
    Ok((pid, sys::pidfd::open(pid)?))
}
