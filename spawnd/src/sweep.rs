//! Emptying the folders of ended sessions: `launch --sweep`, as the session's user, a few at a
//! time and under a deadline. spawnd itself only removes the emptied name.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
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
/// What was in the way of a sweep (a tool that was just dying, a lack of processes) may be gone.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Sweeps {
    waiting: VecDeque<Folder>,
    running: Vec<Sweep>,
}

struct Folder {
    session: SessionId,
    owner: Owner,
    /// When to try for the second time; `None`: this is the first.
    again_at: Option<Instant>,
}

struct Sweep {
    folder: Folder,
    pid: Pid,
    pidfd: OwnedFd,
    deadline: Instant,
}

impl Sweeps {
    pub fn add(&mut self, session: SessionId, owner: Owner) {
        self.waiting.push_back(Folder { session, owner, again_at: None });
    }

    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.running.iter().map(|sweep| sweep.pid)
    }

    /// Is this session's folder still to be removed?
    pub fn holds(&self, session: &SessionId) -> bool {
        let running = self.running.iter().map(|sweep| &sweep.folder);
        self.waiting.iter().chain(running).any(|folder| folder.session == *session)
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let again = self.waiting.iter().filter_map(|folder| folder.again_at);
        // A second try waits for its turn when all places are taken: a sweep that ends wakes us.
        let again = again.filter(|_| self.running.len() < AT_ONCE);
        self.running.iter().map(|sweep| sweep.deadline).chain(again).min()
    }

    /// Starts what may run, ends what took too long.
    pub fn advance(&mut self, folders: &Folders, launch: &OwnedFd, now: Instant) {
        for late in self.running.iter_mut().filter(|sweep| sweep.deadline <= now) {
            log::warning(format_args!("sweep of session {} takes too long", late.folder.session));
            // It is reaped soon; until then no second signal is due.
            late.deadline = now + WITHIN;
            let _ = sys::pidfd::signal(late.pidfd.as_fd(), Signal::SIGKILL);
        }
        while self.running.len() < AT_ONCE {
            let is_due = |folder: &Folder| folder.again_at.is_none_or(|at| at <= now);
            let Some(place) = self.waiting.iter().position(is_due) else { break };
            let Some(folder) = self.waiting.remove(place) else { break };
            match start(folders, launch, &folder.session, folder.owner) {
                Ok((pid, pidfd)) => {
                    self.running.push(Sweep { folder, pid, pidfd, deadline: now + WITHIN });
                }
                Err(error) => self.failed(folder, &error, now),
            }
        }
    }

    /// If `pid` was a sweep: removes the emptied name.
    pub fn ended(&mut self, folders: &Folders, pid: Pid, now: Instant) -> bool {
        let Some(place) = self.running.iter().position(|sweep| sweep.pid == pid) else {
            return false;
        };
        let sweep = self.running.swap_remove(place);
        if let Err(errno) = folders.remove(&sweep.folder.session) {
            self.failed(sweep.folder, &errno.into(), now);
        }
        true
    }

    /// Once more, then the folder is left to the next start.
    fn failed(&mut self, mut folder: Folder, error: &std::io::Error, now: Instant) {
        log::warning(format_args!("folder of session {} is left: {error}", folder.session));
        if folder.again_at.is_none() {
            folder.again_at = Some(now + AGAIN_AFTER);
            self.waiting.push_back(folder);
        }
    }
}

fn start(
    folders: &Folders,
    launch: &OwnedFd,
    session: &SessionId,
    owner: Owner,
) -> std::io::Result<(Pid, OwnedFd)> {
    let mut command = spawn::beside(launch.as_fd(), "--sweep");
    command.arg(folders.path_of(session).as_path());
    command.args([owner.uid.to_string(), owner.gid.to_string()]);
    sys::exec::with(&mut command, Vec::new());
    let pid = spawn::pid_of(&command.spawn()?);
    Ok((pid, sys::pidfd::open(pid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sweep_is_tried_once_more_after_a_pause() {
        let (mut sweeps, now) = (Sweeps::default(), Instant::now());
        let session = SessionId::random();
        let error = || std::io::Error::from_raw_os_error(libc::ENOTEMPTY);
        let owner = Owner { uid: 1, gid: 1 };
        let folder = Folder { session: session.clone(), owner, again_at: None };
        sweeps.failed(folder, &error(), now);
        assert_eq!(sweeps.next_deadline(), Some(now + AGAIN_AFTER));
        assert!(sweeps.holds(&session));
        let folder = sweeps.waiting.pop_front().unwrap();
        sweeps.failed(folder, &error(), now);
        assert!(sweeps.is_idle() && !sweeps.holds(&session));
    }
}
