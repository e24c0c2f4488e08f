//! Ends: a start that did not come about, an exit, and the proof that nothing of a session is
//! left, before which its exit is not told.

use std::time::{Duration, Instant};

use proto::ids::SessionId;
use proto::spawn::{Answer, Event, ListedState};

use crate::audit::{Entry, Kind};
use crate::daemon::Daemon;
use crate::refusal::Refusal;
use crate::session::{
    Course, Ending, Outcome, Readiness, Running, Session, Starting, State, number,
};
use crate::status::{Progress, Started};
use crate::sys::wait::{self, Ended};
use crate::{family, log, notify, spawn};

/// A killed process needs a moment to be gone; then it is looked for again.
pub const AGAIN: Duration = Duration::from_millis(200);
const FIRST_LOOK: Duration = Duration::from_millis(2);
const SLOWEST_LOOK: Duration = Duration::from_millis(500);

impl Daemon {
    /// launch has written, or ended, or become claude.
    pub(crate) fn read_status(&mut self, id: &SessionId, now: Instant) {
        let Some(Session { state: State::Starting(starting), .. }) = self.table.get_mut(id) else {
            return;
        };
        match starting.status.read() {
            Progress::Walking => {}
            Progress::Ended(Ok(started)) => self.run_on(id, started),
            Progress::Ended(Err(refusal)) => self.abandon(id, &refusal, now),
        }
    }

    /// Starting → Running.
    fn run_on(&mut self, id: &SessionId, Started { resumed, missing }: Started) {
        let Some(mut session) = self.table.take(id) else { return };
        session.state = match session.state {
            State::Starting(Starting { child, leader, inbox, origin, .. }) => {
                let pid = number(child.pid);
                self.tell_missing(missing);
                let message = format!("session {id} started: pid {pid}, resumed {resumed}");
                let entry = Entry::new(Kind::Started, message).session(id).pid(pid);
                self.record(entry.conversation(session.conversation).user(&session.user));
                let answer = Answer::Started { session: id.clone(), pid, resumed };
                self.answer(origin, answer, Some(&leader));
                State::Running(Running {
                    child,
                    leader,
                    resumed,
                    readiness: Readiness::Awaited(inbox),
                    course: Course::Onward,
                })
            }
            other @ (State::Running(_)
            | State::Abandoned(_)
            | State::Ending(_)
            | State::Exited { .. }) => other,
        };
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
        let around = self.surroundings(id);
        let Some(mut session) = self.table.take(id) else { return };
        family::strike(&session.claim(), &around);
        session.state = match session.state {
            State::Starting(Starting { child, origin, .. }) => {
                let about = Entry::new(Kind::Refused, "start failed").session(id);
                let about = about.conversation(session.conversation).user(&session.user);
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
        loop {
            match wait::next_ended() {
                Ok(None) => break,
                Ok(Some(ended)) => {
                    if let Some(id) = self.table.of_child(ended.pid) {
                        self.first_process_gone(&id, ended, now);
                    } else if !self.lookups.ended(ended.pid) {
                        // Else an adopted orphan, of which waiting for it was all.
                        self.sweeps.ended(&self.folders, ended.pid);
                    }
                }
                Err(error) => {
                    log::error(format_args!("wait: {error}"));
                    break;
                }
            }
        }
        for id in self.ending() {
            self.look(&id, now);
        }
    }

    /// launch or claude was waited for.
    fn first_process_gone(&mut self, id: &SessionId, ended: Ended, now: Instant) {
        // A claude that ended at once may have left its good news unread.
        self.read_status(id, now);
        let Some(mut session) = self.table.take(id) else { return };
        let outcome = match &session.state {
            State::Running(running) => {
                let (cause, usage) = (ended.cause, ended.usage);
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
                let about = Entry::new(Kind::Refused, "start failed").session(id);
                let about = about.conversation(session.conversation).user(&session.user);
                self.refuse(origin, &Refusal::LaunchSilent, about);
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
        let around = self.surroundings(id);
        let Some(session) = self.table.get_mut(id) else { return };
        let claim = session.claim();
        let State::Ending(ending) = &mut session.state else { return };
        if family::strike(&claim, &around) > 0 {
            ending.look_at = now + ending.pause;
            ending.pause = (ending.pause * 2).min(SLOWEST_LOOK);
            return;
        }
        let outcome = ending.outcome.clone();
        let Some(session) = self.table.take(id) else { return };
        self.discard(id.clone(), session.owner);
        if let Outcome::Exit { cause, usage, last: _ } = outcome {
            let message = format!("session {id} is over: {cause}");
            let entry = Entry::new(Kind::Exit, message).session(id).exit(cause, usage);
            self.record(entry.conversation(session.conversation).user(&session.user));
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
        let around = self.surroundings(id);
        let Some(session) = self.table.get_mut(id) else { return };
        family::strike(&session.claim(), &around);
        if let State::Running(running) = &mut session.state {
            running.course = Course::Stopping { kill_at: now + AGAIN };
        }
    }

    /// Something came on the notify socket of a session.
    pub(crate) fn read_inbox(&mut self, id: &SessionId, now: Instant) {
        let Some(session) = self.table.get_mut(id) else { return };
        let State::Running(running) = &mut session.state else { return };
        let Readiness::Awaited(inbox) = &mut running.readiness else { return };
        let (uid, claude) = (session.owner.uid, running.child.pid);
        let accepts = |sender| notify::is_of_session(sender, uid, claude);
        if let Some(pid) = inbox.read(now, accepts) {
            running.readiness = Readiness::Ready(pid);
            let message = format!("session {id} is ready");
            self.record(self.of_session(Kind::Ready, message, id).pid(pid));
            self.tell(Event::Ready { session: id.clone(), pid });
        }
    }
}
