//! From a message that waits to a claude that is ready for it, or a failure that says why not.

use std::time::Instant;

use proto::ids::SessionId;
use proto::spawn::RefusalCode;

use super::{Action, Gate, Machine, RECEIPT_PATIENCE, State, WATCH_EVERY, finish};
use crate::run::{Event, Failure, FailureKind, Outcome, Status};
use crate::session::diagnosis;
use crate::session::pool::NoSlot;
use crate::session::turn::{Pending, Phase, Turn, Work};

impl Machine {
    /// Does what the queue asks for and the state allows.
    pub(super) fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        match &self.state {
            State::Cold => {
                if let Some(first) = self.queue.front() {
                    if first.prompt.fresh && self.renewed != Some(first.run) {
                        self.renewed = Some(first.run);
                        out.push(Action::Renew);
                    }
                    self.state = State::Waiting;
                    out.push(Action::AcquireSlot);
                }
            }
            State::Ready { process, .. } => {
                let process = process.clone();
                self.settle(process, now, out);
            }
            State::Waiting
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Busy { .. }
            | State::Stopping { .. } => {}
        }
    }

    /// claude is idle: the next message, or rest. The one place that pushes.
    pub(super) fn settle(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        if self.adoption.is_some() {
            let deadline = now + WATCH_EVERY;
            self.state = State::Busy { process, work: Work::Foreign, deadline };
            return;
        }
        let begins_anew = |first: &Pending| first.prompt.fresh && self.renewed != Some(first.run);
        if !self.attached && self.queue.front().is_some_and(begins_anew) {
            // Its conversation is another: it waits for a process without this one's memory.
            self.stop(process, now, out);
            return;
        }
        match self.queue.pop_front() {
            Some(pending) => {
                self.turns += 1;
                self.latest = [Some(pending.run), self.latest[0]];
                self.tell_positions(0, out);
                out.push(Action::Run(pending.run, Event::Status(Status::Pushed)));
                out.push(Action::Push(pending.clone()));
                let (mut turn, mut patience) = (Turn::new(pending), RECEIPT_PATIENCE);
                if self.attached {
                    // The first version has no receipts.
                    (turn.phase, patience) = (Phase::Working, WATCH_EVERY);
                }
                let work = Work::Ours(turn);
                self.state = State::Busy { process, work, deadline: now + patience };
            }
            None => self.state = State::Ready { process, since: now },
        }
    }

    /// Those that wait from that place on hear how many come first, when that has changed.
    pub(super) fn tell_positions(&self, from: usize, out: &mut Vec<Action>) {
        let waiting = self.queue.iter().enumerate().skip(from);
        out.extend(waiting.map(|(position, pending)| {
            Action::Run(pending.run, Event::Status(Status::Queued { position }))
        }));
    }

    pub(super) fn slot_granted(&mut self, out: &mut Vec<Action>) {
        if self.queue.is_empty() || !matches!(self.state, State::Waiting) {
            if matches!(self.state, State::Waiting) {
                self.state = State::Cold;
            }
            out.push(Action::ReleaseSlot);
            return;
        }
        if let Some(first) = self.queue.front() {
            out.push(Action::Run(first.run, Event::Status(Status::Preparing)));
        }
        let process = SessionId::random();
        self.owned = true;
        self.attached = false;
        self.turns = 0;
        self.state = State::Spawning { process: process.clone() };
        out.push(Action::Spawn(process));
    }

    pub(super) fn slot_denied(&mut self, why: NoSlot, out: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting) {
            self.state = State::Cold;
            let (kind, message) = match why {
                NoSlot::All => (FailureKind::NoSlot, "every claude process is busy"),
                NoSlot::Own => {
                    (FailureKind::TooManyProcesses, "every claude process of this client is busy")
                }
            };
            let failure = Failure::new(kind, message);
            self.fail_queue(&failure, out);
        }
    }

    pub(super) fn refused(
        &mut self,
        code: RefusalCode,
        text: &str,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if !matches!(self.state, State::Spawning { .. }) {
            return;
        }
        let failure = diagnosis::of_refusal(code, text);
        self.state = State::Cold;
        out.push(Action::ReleaseSlot);
        self.fail_start(failure, out);
        self.advance(now, out);
    }

    pub(super) fn pass_gate(
        &mut self,
        pass: impl FnOnce(&mut Gate),
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if let Some(adoption) = &mut self.adoption {
            pass(&mut adoption.gate);
            if adoption.gate.is_open() {
                self.resume(now, out);
            }
        } else if let State::Starting { gate, .. } = &mut self.state {
            pass(gate);
            if gate.is_open() {
                self.settle(process, now, out);
            }
        }
    }

    pub(super) fn cannot_start(
        &mut self,
        failure: Failure,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if matches!(self.state, State::Starting { .. }) {
            self.fail_start(failure, out);
            self.stop(process, now, out);
        }
    }

    /// A lasting cause fails everything that waits, a passing one only the message at the head:
    /// the next may have better luck with a fresh process.
    pub(super) fn fail_start(&mut self, failure: Failure, out: &mut Vec<Action>) {
        match failure.kind {
            FailureKind::StartFailed | FailureKind::ProcessEnded | FailureKind::OutOfMemory => {
                if let Some(pending) = self.queue.pop_front() {
                    out.push(finish(pending.run, Outcome::Failed { error: failure }));
                }
            }
            FailureKind::NoSlot
            | FailureKind::TooManyProcesses
            | FailureKind::CannotStart(_)
            | FailureKind::WorkspaceNotAllowed
            | FailureKind::WorkspaceUnusable
            | FailureKind::NotReceived
            | FailureKind::ModelError
            | FailureKind::AnswerLost
            | FailureKind::TooLong
            | FailureKind::StoreFull
            | FailureKind::Stopping => self.fail_queue(&failure, out),
        }
    }

    pub(super) fn fail_queue(&mut self, failure: &Failure, out: &mut Vec<Action>) {
        for pending in self.queue.drain(..) {
            out.push(finish(pending.run, Outcome::Failed { error: failure.clone() }));
        }
    }
}
