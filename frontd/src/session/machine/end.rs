//! Endings: a run that is given up, a process that is stopped or gone, a deadline that passed.

use std::time::Instant;

use proto::ids::SessionId;
use proto::spawn::{ExitCause, Signal};

use super::{Action, ESC_PATIENCE, Machine, STOP_PATIENCE, State, WATCH_EVERY, finish};
use crate::run::{Event, Failure, FailureKind, Outcome, RunId, Status};
use crate::session::diagnosis;
use crate::session::turn::{Phase, Turn, Work};

impl Machine {
    pub(super) fn drop_queued(&mut self, run: RunId, out: &mut Vec<Action>) -> bool {
        let Some(place) = self.queue.iter().position(|pending| pending.run == run) else {
            return false;
        };
        self.queue.remove(place);
        out.push(finish(run, Outcome::Aborted));
        self.tell_positions(place, out);
        true
    }

    pub(super) fn abort(&mut self, run: RunId, now: Instant, out: &mut Vec<Action>) {
        if self.drop_queued(run, out) {
            return;
        }
        let attached = self.attached;
        let State::Busy { work: Work::Ours(turn), deadline, .. } = &mut self.state else { return };
        if turn.pending.run != run {
            return;
        }
        match turn.phase {
            Phase::Answered | Phase::Aborting { .. } => {}
            Phase::Pushed | Phase::Working => {
                turn.phase = Phase::Aborting { presses: 1 };
                *deadline = now + ESC_PATIENCE;
                out.push(Action::Run(run, Event::Status(Status::Aborting)));
                // Twice Esc is another key: an adopted process gets it when it is ready.
                if !attached && self.adoption.is_none() {
                    out.extend([Action::PressEsc, Action::AwaitIdle]);
                }
            }
        }
    }

    /// A process that is being started is stopped as soon as it comes to rest.
    pub(super) fn discard(&mut self, now: Instant, out: &mut Vec<Action>) {
        for pending in self.queue.drain(..) {
            out.push(finish(pending.run, Outcome::Aborted));
        }
        let process = match &mut self.state {
            State::Cold | State::Waiting | State::Spawning { .. } | State::Stopping { .. } => {
                return;
            }
            State::Starting { process, .. } | State::Ready { process, .. } => process.clone(),
            State::Busy { process, work, .. } => {
                if let Work::Ours(turn) = work
                    && turn.phase != Phase::Answered
                {
                    out.push(finish(turn.pending.run, Outcome::Aborted));
                }
                process.clone()
            }
        };
        self.stop(process, now, out);
    }

    pub(super) fn channel_gone(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        match &self.state {
            State::Cold | State::Waiting | State::Spawning { .. } | State::Stopping { .. } => {}
            State::Starting { .. } => {
                let failure = Failure::new(FailureKind::StartFailed, "the channel process ended");
                self.cannot_start(failure, process, now, out);
            }
            State::Ready { .. } => self.stop(process, now, out),
            State::Busy { work, .. } => match work {
                // What an adopted process's channel had to tell went down with it.
                Work::Ours(turn) if turn.phase == Phase::Pushed && self.adoption.is_none() => {
                    let pending = turn.pending.clone();
                    self.send_again(pending, process, now, out);
                }
                Work::Ours(turn) => {
                    let mut turn = turn.clone();
                    let message = "the session's channel process ended during the turn";
                    turn.cut_short(Failure::new(FailureKind::ProcessEnded, message), out);
                    self.stop(process, now, out);
                }
                Work::Foreign => self.stop(process, now, out),
            },
        }
    }

    pub(super) fn stop(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        if self.attached {
            self.attached = false;
            self.state = State::Cold;
            out.push(Action::Detach(process));
            self.advance(now, out);
            return;
        }
        self.adoption = None;
        out.push(Action::Signal(process.clone(), Signal::Term));
        self.state = State::Stopping { process, deadline: now + STOP_PATIENCE };
    }

    pub(super) fn exited(
        &mut self,
        process: SessionId,
        cause: ExitCause,
        screen: &str,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.adoption = None;
        match std::mem::replace(&mut self.state, State::Cold) {
            State::Cold | State::Waiting | State::Ready { .. } | State::Stopping { .. } => {}
            State::Spawning { .. } | State::Starting { .. } => {
                self.fail_start(diagnosis::of_exit(cause, screen), out);
            }
            State::Busy { work: Work::Ours(mut turn), .. } => {
                turn.cut_short(diagnosis::of_death(cause), out);
            }
            State::Busy { work: Work::Foreign, .. } => {}
        }
        out.extend([Action::Forget(process), Action::ReleaseSlot]);
        self.advance(now, out);
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.state {
            State::Cold | State::Waiting | State::Spawning { .. } => {}
            State::Starting { process, .. } => {
                let process = process.clone();
                let message = "claude was not ready in time";
                let failure = Failure::new(FailureKind::StartFailed, message);
                self.cannot_start(failure, process, now, out);
            }
            State::Ready { process, .. } => {
                let process = process.clone();
                self.stop(process, now, out);
            }
            State::Stopping { process, deadline } => {
                out.push(Action::Signal(process.clone(), Signal::Kill));
                *deadline = now + STOP_PATIENCE;
            }
            State::Busy { .. } if self.adoption.is_some() => self.give_up_adoption(now, out),
            State::Busy { .. } => self.tick_busy(now, out),
        }
    }

    pub(super) fn tick_busy(&mut self, now: Instant, out: &mut Vec<Action>) {
        let State::Busy { process, work, deadline } = &mut self.state else { return };
        let process = process.clone();
        let Work::Ours(turn) = work else {
            *deadline = now + WATCH_EVERY;
            out.push(Action::AwaitIdle);
            return;
        };
        match turn.phase {
            Phase::Pushed => {
                let pending = turn.pending.clone();
                self.send_again(pending, process, now, out);
            }
            Phase::Working | Phase::Answered => {
                *deadline = now + WATCH_EVERY;
                out.push(Action::AwaitIdle);
            }
            Phase::Aborting { presses: 1 } => {
                turn.phase = Phase::Aborting { presses: 2 };
                *deadline = now + ESC_PATIENCE;
                out.extend([Action::PressEsc, Action::AwaitIdle]);
            }
            Phase::Aborting { .. } => {
                let failure = Failure::new(FailureKind::ProcessEnded, "");
                turn.clone().cut_short(failure, out);
                self.stop(process, now, out);
            }
        }
    }
}

impl Turn {
    /// The process is lost to this turn.
    pub(super) fn cut_short(&mut self, failure: Failure, out: &mut Vec<Action>) {
        let run = self.pending.run;
        match self.phase {
            Phase::Answered => {}
            Phase::Aborting { .. } => out.push(finish(run, Outcome::Aborted)),
            Phase::Pushed | Phase::Working => {
                out.push(finish(run, Outcome::Failed { error: failure }))
            }
        }
    }
}
