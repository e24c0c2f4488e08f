//! What the loop sleeps on: every descriptor that may bring news, whose it is, and when time alone
//! changes something.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::ids::SessionId;

use crate::daemon::{CLOSING_LOOK, Daemon, Error};
use crate::doors::Entrance;
use crate::session::{Containment, Readiness, State};

/// Whose news a descriptor brings.
pub(crate) enum Source {
    Signals,
    Listener,
    Active,
    Greeting(u64),
    Status(SessionId),
    Inbox(SessionId),
    Memory(SessionId),
    Child(SessionId),
    Lookup(SessionId),
}

impl Daemon {
    /// Sleeps until there is news or something is due; says whose news, in the order in which it
    /// is served: a peer that left makes room before the next one's hello is read.
    pub(crate) fn wait(&self, now: Instant) -> Result<Vec<Source>, Error> {
        let sources = self.sources(now);
        let flags = |source: &Source| match source {
            Source::Memory(_) => PollFlags::POLLPRI,
            Source::Signals
            | Source::Listener
            | Source::Active
            | Source::Greeting(_)
            | Source::Status(_)
            | Source::Inbox(_)
            | Source::Lookup(_)
            | Source::Child(_) => PollFlags::POLLIN,
        };
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(fd, source)| PollFd::new(*fd, flags(source))).collect();
        match poll(&mut fds, self.timeout(now)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Poll(errno)),
        }
        let news: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let sources = sources.into_iter().zip(news);
        Ok(sources.filter(|(_, news)| *news).map(|((_, source), _)| source).collect())
    }

    fn sources(&self, now: Instant) -> Vec<(BorrowedFd<'_>, Source)> {
        let mut sources = vec![(self.signals.as_fd(), Source::Signals)];
        sources.extend(self.doors.active.iter().map(|c| (c.as_fd(), Source::Active)));
        if let Entrance::Listener(listener) = &self.doors.entrance
            && self.accept_at.is_none_or(|at| at <= now)
        {
            sources.push((listener.as_fd(), Source::Listener));
        }
        for greeting in &self.doors.greetings {
            let connection = &greeting.connection;
            sources.push((connection.as_fd(), Source::Greeting(connection.serial)));
        }
        let lookups = self.lookups.sources();
        sources.extend(lookups.map(|(pipe, id)| (pipe, Source::Lookup(id))));
        for (id, session) in self.table.live() {
            if let Some(child) = session.child() {
                // First, for it may be gone with the group when the child was waited for.
                if let Containment::Scope(scope) = &session.containment {
                    let events = scope.memory_events();
                    sources.extend(events.map(|fd| (fd, Source::Memory(id.clone()))));
                }
                sources.push((child.pidfd.as_fd(), Source::Child(id.clone())));
            }
            match &session.state {
                State::Starting(starting) => {
                    sources.push((starting.status.as_fd(), Source::Status(id.clone())));
                }
                State::Running(running) => match &running.readiness {
                    Readiness::Awaited(inbox) if inbox.listens(now) => {
                        sources.push((inbox.as_fd(), Source::Inbox(id.clone())));
                    }
                    Readiness::Awaited(_) | Readiness::Ready(_) => {}
                },
                State::Abandoned(_) | State::Ending(_) | State::Exited { .. } => {}
            }
        }
        sources
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let sessions = self.table.live().filter_map(|(_, session)| session.next_deadline());
        let greetings = self.doors.greetings.iter().map(|greeting| greeting.deadline);
        let work = self.sweeps.next_deadline().into_iter().chain(self.lookups.next_deadline());
        let closing = self.is_closing().then(|| now + CLOSING_LOOK);
        let own = [
            self.recovery.store.next_deadline(),
            self.watchdog.map(|(_, next)| next),
            self.accept_at,
            self.audit.next_deadline(),
            closing,
        ];
        let next = sessions.chain(greetings).chain(work).chain(own.into_iter().flatten()).min();
        match next {
            None => PollTimeout::NONE,
            Some(next) => {
                // Rounded up, or the last millisecond would spin.
                let wait = next.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        }
    }
}
