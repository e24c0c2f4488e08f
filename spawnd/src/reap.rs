//! Ends: a start that did not come about, an exit, and the proof that nothing of a session is
//! left, before which its exit is not told.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::ids::SessionId;
use proto::spawn::{Answer, Event, ExitCause, ListedState, Usage};

use crate::audit::Kind;
use crate::daemon::Daemon;
use crate::family::Claim;
use crate::refusal::Refusal;
use crate::session::{
    Containment, Course, Ending, Kin, Outcome, Readiness, Running, Session, Starting, State, number,
};
use crate::status::{Progress, Started};
use crate::sys::wait;
use crate::{family, log, notify, spawn, sys, undertaker};

/// A killed process needs a moment to be gone; then it is looked for again.
pub const AGAIN: Duration = Duration::from_millis(200);
const FIRST_LOOK: Duration = Duration::from_millis(2);
const SLOWEST_LOOK: Duration = Duration::from_millis(500);

impl Daemon {
    /// launch has written, or ended, or become claude.
    pub(crate) fn read_status(&mut self, id: &SessionId, now: Instant) {
        let Some(session) = self.table.get_mut(id) else { return };
        let State::Starting(starting) = &mut session.state else { return };
        let started = match starting.status.read() {
            Progress::Walking => return,
            Progress::Ended(started) => started,
        };
        let pid = starting.child.pid;
        let entered = match (started, &mut session.containment) {
            // systemd-run failed, or died on the way: launch says something.
            (Err(Refusal::LaunchSilent), Containment::Scope(_)) => Err(Refusal::Scope),
            (Ok(started), Containment::Scope(scope)) => scope.enter(pid).map(|()| started),
            (started, Containment::Family { .. } | Containment::Scope(_)) => started,
        };
        match entered {
            Ok(started) => self.run_on(id, started),
            Err(refusal) => self.abandon(id, &refusal, now),
        }
    }

    /// Starting → Running.
    fn run_on(&mut self, id: &SessionId, Started { resumed, missing }: Started) {
        let Some(mut session) = self.table.take(id) else { return };
        self.tell_missing(missing);
        let origin = match session.state {
            State::Starting(Starting { child, leader, inbox, origin, .. }) => {
                session.state = State::Running(Running {
                    child,
                    leader,
                    resumed,
                    readiness: Readiness::Awaited(inbox),
                    course: Course::Onward,
                });
                origin
            }
            State::Running(_) | State::Abandoned(_) | State::Ending(_) | State::Exited { .. } => {
                self.table.insert(id.clone(), session);
                return;
            }
        };
        // Before anybody is told of the session: it must not be lost with this process.
        self.recovery.keep(id, &session);
        if let State::Running(running) = &session.state {
            let pid = number(running.child.pid);
            let message = format!("session {id} started: pid {pid}, resumed {resumed}");
            self.record(session.entry(Kind::Started, message, id).pid(pid));
            let answer = Answer::Started { session: id.clone(), pid, resumed };
            self.answer(origin, answer, Some(&running.leader));
        }
        self.table.insert(id.clone(), session);
    }

    /// What a best-effort sandbox lacks is the same for every session: said once.
    fn tell_missing(&mut self, missing: Vec<String>) {
        for part in missing {
            if !self.missing.contains(&part) {
                log::warning(format_args!("sessions run without {part:?}"));
                self.missing.push(part);
            }
        }
    }

    /// Starting → Abandoned: refused, and whatever runs is killed.
    fn abandon(&mut self, id: &SessionId, refusal: &Refusal, now: Instant) {
        self.strike(id);
        let Some(mut session) = self.table.take(id) else { return };
        self.unlock(&mut session);
        let about = session.entry(Kind::Refused, "start failed", id);
        session.state = match session.state {
            State::Starting(Starting { child, origin, .. }) => {
                self.refuse(origin, refusal, about);
                State::Abandoned(child)
            }
            other @ (State::Running(_)
            | State::Abandoned(_)
            | State::Ending(_)
            | State::Exited { .. }) => other,
        };
        self.table.insert(id.clone(), session);
        self.collect(now);
    }

    /// Waits for every child that ended.
    pub(crate) fn collect(&mut self, now: Instant) {
        while let Some(pid) = wait::next_ended() {
            let session = self.table.of_child(pid);
            if let Some(id) = &session {
                // Once it is waited for, nothing shows its scope any more, which goes then, and the
                // counter with it.
                self.read_status(id, now);
                self.look_at_memory(id);
            }
            match (wait::reap(pid), session) {
                (Ok(ended), Some(id)) => {
                    self.first_process_gone(&id, ended.cause, ended.usage, now);
                }
                (Ok(_), None) => {
                    if !self.lookups.ended(pid) && !undertaker::ended(pid) {
                        // Else an adopted orphan, of which waiting for it was all.
                        self.sweeps.ended(&self.folders, pid, now);
                    }
                }
                // What the status said led to the same end.
                (Err(error), _) if error.raw_os_error() == Some(libc::ECHILD) => {}
                (Err(error), _) => {
                    log::error(format_args!("wait: {error}"));
                    break;
                }
            }
        }
        for id in self.ending() {
            self.look(&id, now);
        }
    }

    /// The first process of a session is gone, whoever waits for it.
    pub(crate) fn child_gone(&mut self, id: &SessionId, now: Instant) {
        self.look_at_memory(id);
        match self.table.get(id).and_then(Session::child).map(|child| child.kin) {
            Some(Kin::Own) => self.collect(now),
            Some(Kin::Taken) => {
                self.first_process_gone(id, ExitCause::Unknown {}, Usage::default(), now);
                self.look(id, now);
            }
            None => {}
        }
    }

    pub(crate) fn look_at_memory(&mut self, id: &SessionId) {
        match self.table.get_mut(id).map(|session| &mut session.containment) {
            Some(Containment::Scope(scope)) => scope.look_at_memory(),
            Some(Containment::Family { .. }) | None => {}
        }
    }

    /// launch or claude is gone.
    fn first_process_gone(&mut self, id: &SessionId, cause: ExitCause, usage: Usage, now: Instant) {
        // A claude that ended at once may have left its good news unread.
        self.read_status(id, now);
        let Some(mut session) = self.table.take(id) else { return };
        let outcome = match &session.state {
            State::Running(running) => {
                let unasked = matches!(running.course, Course::Onward);
                let cause = judged(cause, &session.containment, unasked);
                let resumed = running.resumed;
                let pid = number(running.child.pid);
                let ready = match running.readiness {
                    Readiness::Ready(pid) => Some(pid),
                    Readiness::Awaited(_) => None,
                };
                Outcome::Exit { cause, usage, last: ListedState::Running { pid, resumed, ready } }
            }
            State::Starting(starting) => {
                // Ended without closing its status pipe: somebody else holds it.
                let origin = starting.origin;
                let about = session.entry(Kind::Refused, "start failed", id);
                self.refuse(origin, &Refusal::LaunchSilent, about);
                self.unlock(&mut session);
                Outcome::Nothing
            }
            State::Abandoned(_) | State::Ending(_) | State::Exited { .. } => Outcome::Nothing,
        };
        session.state = State::Ending(Ending { outcome, look_at: now, pause: FIRST_LOOK });
        self.table.insert(id.clone(), session);
    }

    fn ending(&self) -> Vec<SessionId> {
        let ending = self.table.iter().filter(|(_, s)| matches!(s.state, State::Ending(_)));
        ending.map(|(id, _)| id.clone()).collect()
    }

    /// Kills what is left of an ending session; when nothing is, its end is told.
    fn look(&mut self, id: &SessionId, now: Instant) {
        let Some(Session { state: State::Ending(_), .. }) = self.table.get(id) else { return };
        let left = self.strike(id);
        let Some(session) = self.table.get_mut(id) else { return };
        let State::Ending(ending) = &mut session.state else { return };
        if left {
            ending.look_at = now + ending.pause;
            ending.pause = (ending.pause * 2).min(SLOWEST_LOOK);
            return;
        }
        let outcome = ending.outcome.clone();
        let Some(mut session) = self.table.take(id) else { return };
        self.unlock(&mut session);
        self.recovery.drop_session(id, &session);
        self.discard(id.clone(), session.owner);
        if let Outcome::Exit { cause, usage, last: _ } = outcome {
            let message = format!("session {id} is over: {cause}");
            self.record(session.entry(Kind::Exit, message, id).exit(cause, usage));
            self.table.keep_exit(id.clone(), session, cause, usage);
            self.tell(Event::Exited { session: id.clone(), cause, usage });
        }
    }

    /// Does what is due by the clock.
    pub(crate) fn expire(&mut self, now: Instant) {
        let due = |s: &Session| s.next_deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<SessionId> =
            self.table.iter().filter(|(_, s)| due(s)).map(|(id, _)| id.clone()).collect();
        for id in due {
            // News that is already here beats the clock.
            self.read_status(&id, now);
            match self.table.get(&id).map(|s| &s.state) {
                Some(State::Starting(starting)) if starting.deadline <= now => {
                    let refusal = Refusal::Deadline(spawn::START_WITHIN.as_secs());
                    self.abandon(&id, &refusal, now);
                }
                Some(State::Running(Running { course: Course::Stopping { kill_at }, .. }))
                    if *kill_at <= now =>
                {
                    log::info(format_args!("session {id} is killed"));
                    self.kill(&id, now);
                }
                Some(State::Ending(_)) => self.look(&id, now),
                Some(
                    State::Starting(_)
                    | State::Running(_)
                    | State::Abandoned(_)
                    | State::Exited { .. },
                )
                | None => {}
            }
        }
        self.sweeps.advance(&self.folders, &self.launch, now);
    }

    /// Kills everything of a session that runs or starts. Its exit follows.
    pub(crate) fn kill(&mut self, id: &SessionId, now: Instant) {
        self.strike(id);
        let Some(session) = self.table.get_mut(id) else { return };
        if let State::Running(running) = &mut session.state {
            running.course = Course::Stopping { kill_at: now + AGAIN };
        }
    }

    /// SIGKILL to everything of a session. Was there anything left?
    fn strike(&mut self, id: &SessionId) -> bool {
        let Some(session) = self.table.get(id) else { return false };
        match &session.containment {
            Containment::Family { mark } => {
                let root = session.child().map(|child| child.pid);
                let claim = Claim { root, start: session.start, mark: *mark };
                family::strike(&claim, &self.surroundings(id)) > 0
            }
            Containment::Scope(scope) => {
                if let Some(child) = session.child() {
                    // It may be on its way into the scope; gone is as good.
                    let _ = sys::pidfd::signal(child.pidfd.as_fd(), Signal::SIGKILL);
                }
                let over = scope.is_over();
                if !over {
                    scope.strike();
                }
                !over
            }
        }
    }

    /// The conversation may have another claude.
    fn unlock(&self, session: &mut Session) {
        if let Some(lock) = session.lock.take() {
            self.folders.locks.release(session.owner.uid, session.conversation, lock);
        }
    }

    /// Something came on the notify socket of a session.
    pub(crate) fn read_inbox(&mut self, id: &SessionId, now: Instant) {
        let Some(session) = self.table.get_mut(id) else { return };
        let State::Running(running) = &mut session.state else { return };
        let Readiness::Awaited(inbox) = &mut running.readiness else { return };
        let (uid, claude, within) = (session.owner.uid, running.child.pid, &session.containment);
        let accepts = |sender| notify::is_of_session(sender, uid, claude, within);
        if let Some(pid) = inbox.read(now, accepts) {
            running.readiness = Readiness::Ready(pid);
            self.recovery.keep_ready(id, session);
            let message = format!("session {id} is ready");
            self.record(self.of_session(Kind::Ready, message, id).pid(pid));
            self.tell(Event::Ready { session: id.clone(), pid });
        }
    }
}

/// Out of memory is said only when the kernel counted a kill and claude ended by one, or nobody
/// knows how it ended.
fn judged(cause: ExitCause, containment: &Containment, unasked: bool) -> ExitCause {
    match (cause, containment) {
        (
            ExitCause::Signal { signal: libc::SIGKILL } | ExitCause::Unknown {},
            Containment::Scope(scope),
        ) if scope.ran_out_of_memory(unasked) => ExitCause::Oom {},
        (cause, Containment::Scope(_) | Containment::Family { .. }) => cause,
    }
}
