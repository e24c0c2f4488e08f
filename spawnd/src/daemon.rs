//! The loop: one thread, one poll(2), and whose turn each descriptor's news is. Nothing here or
//! below it blocks.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use proto::ids::SessionId;
use proto::limits;

use crate::audit::Audit;
use crate::connection::Broken;
use crate::doors::{Doors, Entrance};
use crate::family::Surroundings;
use crate::folder::{Folders, Owner};
use crate::gate::Gate;
use crate::homes::Homes;
use crate::lookup::Lookups;
use crate::news::Source;
use crate::pace::Pace;
use crate::policy::Policy;
use crate::recovery::Recovery;
use crate::scope::Scopes;
use crate::session::{Course, Kin, State, Table};
use crate::sweep::Sweeps;
use crate::{family, log, process, sys, undertaker};

/// Ending every session takes milliseconds; a process in uninterruptible sleep is not waited for
/// any longer than this.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// A claude that is ended writes its state down within a tenth of that; killed at once it leaves
/// locks and half files in its user's home.
const END_WITHIN: Duration = Duration::from_secs(2);
/// systemd and the journal take what waits for them in milliseconds, or not at all.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// While closing, survivors are looked for this often.
pub(crate) const CLOSING_LOOK: Duration = Duration::from_millis(20);
/// After a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("poll: {0}")]
    Poll(Errno),
    #[error("sessions did not end within {} s", CLOSE_WITHIN.as_secs())]
    Survivors,
}

/// What a daemon is given: made at start, kept to its end.
pub struct Ground {
    pub folders: Folders,
    pub homes: Homes,
    pub gate: Gate,
    /// The program that starts every session, by the file opened at start.
    pub launch: OwnedFd,
    /// spawnd.toml, if it can be read again.
    pub file: Option<PathBuf>,
    pub as_root: bool,
}

/// Everything that the daemon has.
pub struct Daemon {
    pub(crate) policy: Policy,
    pub(crate) pace: Pace,
    pub(crate) folders: Folders,
    pub(crate) homes: Homes,
    pub(crate) gate: Gate,
    pub(crate) launch: OwnedFd,
    pub(crate) file: Option<PathBuf>,
    pub(crate) as_root: bool,
    pub(crate) ceiling: u64,
    pub(crate) table: Table,
    /// When the first session's first process started: what is older was never a session's.
    pub(crate) oldest_start: u64,
    pub(crate) sweeps: Sweeps,
    pub(crate) lookups: Lookups,
    pub(crate) doors: Doors,
    pub(crate) audit: Audit,
    /// Parts of the sandbox whose lack was logged; launch knows about ten.
    pub(crate) missing: Vec<String>,
    /// One packet of the largest size that is allowed.
    pub(crate) buffer: Vec<u8>,
    pub(crate) scopes: Option<Scopes>,
    pub(crate) recovery: Recovery,
    pub(crate) signals: SignalFd,
    phase: Phase,
    /// How often systemd hears of us, and when it does next.
    pub(crate) watchdog: Option<(Duration, Instant)>,
    /// No connection is taken before.
    pub(crate) accept_at: Option<Instant>,
}

enum Phase {
    Serving,
    /// Every session is being ended; no new one begins.
    Closing {
        until: Instant,
    },
    /// Sessions in scopes go on without this process, once systemd and the journal have heard all.
    Leaving {
        until: Instant,
    },
}

impl Daemon {
    pub fn new(
        policy: Policy,
        pace: Pace,
        Ground { folders, homes, gate, launch, file, as_root }: Ground,
        doors: Doors,
        audit: Audit,
        signals: SignalFd,
    ) -> Self {
        let ceiling = process::mark_ceiling();
        Self {
            policy,
            pace,
            folders,
            homes,
            gate,
            launch,
            file,
            as_root,
            ceiling,
            table: Table::default(),
            oldest_start: u64::MAX,
            sweeps: Sweeps::default(),
            lookups: Lookups::default(),
            doors,
            audit,
            missing: Vec::new(),
            buffer: vec![0; limits::SPAWN_PACKET],
            signals,
            phase: Phase::Serving,
            scopes: None,
            recovery: Recovery::default(),
            watchdog: None,
            accept_at: None,
        }
    }

    /// systemd wants to hear at least this often that the loop turns.
    pub fn watch(&mut self, within: Option<Duration>) {
        self.watchdog = within.map(|within| (within / 3, Instant::now()));
    }

    /// Serves until it is told to end and every session has.
    ///
    /// # Errors
    /// [`Error`], when poll fails or something cannot be killed.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            self.expire(now);
            self.expire_lookups(now);
            self.expire_greetings(now);
            self.report(now);
            self.audit.advance(now);
            if self.is_over(now)? {
                if matches!(self.phase, Phase::Leaving { .. }) {
                    // The next spawnd hears on the very sockets that dropping would shut down.
                    std::mem::forget(self);
                }
                return Ok(());
            }
            for source in self.wait(now)? {
                self.serve(&source, Instant::now());
            }
        }
    }

    fn serve(&mut self, source: &Source, now: Instant) {
        match source {
            Source::Signals => self.read_signals(now),
            Source::Listener => self.accept(now),
            Source::Active => self.read_active(now),
            Source::Greeting(serial) => self.read_greeting(*serial, now),
            Source::Status(id) => self.read_status(id, now),
            Source::Inbox(id) => self.read_inbox(id, now),
            Source::Memory(id) => self.look_at_memory(id),
            Source::Child(id) => self.child_gone(id, now),
            Source::Lookup(id) => self.read_lookup(id, now),
        }
    }

    /// Ends every session, then the daemon. Sessions with scopes outlive it as a service: whether
    /// a restart or a stop is under way only systemd knows, whose unit ends them on a stop.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_closing() {
            return;
        }
        self.audit.settle(now);
        if self.scopes.is_some() && self.recovery.store.is_there() {
            log::info(format_args!("leaving; sessions stay"));
            self.phase = Phase::Leaving { until: now + LEAVE_WITHIN };
            return;
        }
        log::info(format_args!("ending every session"));
        self.phase = Phase::Closing { until: now + CLOSE_WITHIN };
        let live: Vec<SessionId> = self.table.live().map(|(id, _)| id.clone()).collect();
        for id in live {
            self.end(&id, now);
        }
    }

    /// Asks a claude to end; what is none yet is killed.
    fn end(&mut self, id: &SessionId, now: Instant) {
        match self.table.get_mut(id).map(|session| &mut session.state) {
            Some(State::Running(running)) => {
                // One that is gone already is reported by its exit.
                let _ = sys::pidfd::signal(running.child.pidfd.as_fd(), Signal::SIGTERM);
                running.course = Course::Stopping { kill_at: now + END_WITHIN };
            }
            Some(
                State::Starting(_) | State::Abandoned(_) | State::Ending(_) | State::Exited { .. },
            )
            | None => self.kill(id, now),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        !matches!(self.phase, Phase::Serving)
    }

    fn is_over(&mut self, now: Instant) -> Result<bool, Error> {
        let until = match self.phase {
            Phase::Serving => return Ok(false),
            Phase::Leaving { until } => {
                let heard = self.recovery.store.is_idle() && self.audit.is_idle();
                return Ok(heard || until <= now);
            }
            Phase::Closing { until } => until,
        };
        // The last proof: no child is left but sweeps, whoever it says it belongs to.
        let idle = self.table.live().next().is_none() && self.strike_strangers() == 0;
        if idle && self.sweeps.is_idle() {
            return Ok(true);
        }
        match now < until {
            true => Ok(false),
            false if idle => Ok(true),
            false => Err(Error::Survivors),
        }
    }

    fn strike_strangers(&self) -> usize {
        let claim = family::Claim { root: None, start: self.oldest_start, mark: 0 };
        let around = Surroundings { started: self.started(), ..Surroundings::default() };
        family::strike(&claim, &around)
    }

    /// What an orphan is compared with when it is judged for session `id`.
    pub(crate) fn surroundings(&self, id: &SessionId) -> Surroundings {
        let foreign = self.table.live().filter(|(other, _)| *other != id);
        Surroundings {
            started: self.started(),
            foreign_marks: foreign.filter_map(|(_, session)| session.mark()).collect(),
        }
    }

    fn started(&self) -> std::collections::HashSet<Pid> {
        let first = self.table.iter().filter_map(|(_, session)| session.child());
        let first = first.filter(|child| child.kin == Kin::Own);
        first
            .map(|child| child.pid)
            .chain(self.sweeps.pids())
            .chain(self.lookups.pids())
            .chain(undertaker::pids())
            .collect()
    }

    /// Folders of a daemon that was killed, and what may still run of its sessions.
    pub(crate) fn clear_leftovers(&mut self) {
        let mut leftovers = self.folders.leftovers();
        leftovers.retain(|(id, _)| {
            self.table.get(id).is_none() && !self.recovery.strangers.contains(id)
        });
        if leftovers.is_empty() {
            return;
        }
        let marks: std::collections::HashSet<u64> =
            leftovers.iter().map(|(id, _)| process::mark_of(id, self.ceiling)).collect();
        let survivors = process::all().into_iter().filter(|p| p.alive);
        for process in survivors {
            if process::mark(process.pid).is_some_and(|mark| marks.contains(&mark)) {
                log::warning(format_args!("killing pid {} of an earlier session", process.pid));
                family::kill(&process);
            }
        }
        for (session, owner) in leftovers {
            self.discard(session, owner);
        }
    }

    /// Does away with the folder of a session that is over or never began.
    pub(crate) fn discard(&mut self, session: SessionId, owner: Owner) {
        if !self.folders.remove_unfinished(&session) {
            self.sweeps.add(session, owner);
        }
    }

    fn read_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => self.collect(now),
                Ok(Ok(Signal::SIGHUP)) => self.reload(now),
                _ => self.close(now),
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        let Entrance::Listener(listener) = &self.doors.entrance else { return };
        match sys::message::accept(listener.as_fd()) {
            Ok(socket) => self.greet(socket, now),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warning(format_args!("accept: {error}"));
                // Out of descriptors the listener would stay readable and the loop spin.
                self.accept_at = Some(now + ACCEPT_PAUSE);
            }
        }
    }

    /// What systemd is to be told by the clock.
    fn report(&mut self, now: Instant) {
        self.accept_at = self.accept_at.filter(|at| now < *at);
        if let Some((every, next)) = self.watchdog.filter(|(_, next)| *next <= now) {
            self.watchdog = Some((every, next.max(now) + every));
            self.recovery.store.say("WATCHDOG=1");
        }
        if self.recovery.store.next_deadline().is_some_and(|at| at <= now) {
            self.recovery.store.flush(now);
        }
    }

    fn expire_greetings(&mut self, now: Instant) {
        let late = self.doors.greetings.extract_if(.., |greeting| greeting.deadline <= now);
        let late: Vec<u32> = late.map(|greeting| greeting.connection.peer).collect();
        for peer in late {
            self.left(peer, &Broken::Silent, now);
        }
    }
}
