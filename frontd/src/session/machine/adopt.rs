//! A process that an earlier frontd started. It may be in the midst of a turn and have much to
//! tell of it: what its channel says is taken at once, but nothing is pushed and nothing asked
//! before the same process id is known to be ready and registered, as at a start.

use std::time::Instant;

use proto::ids::SessionId;

use super::{Action, ESC_PATIENCE, Gate, Limits, Machine, RECEIPT_PATIENCE, State, WATCH_EVERY};
use crate::run::{Failure, FailureKind, RunId};
use crate::session::turn::{Pending, Phase, Turn, Work};

/// What an earlier frontd left.
#[derive(Debug)]
pub struct Left {
    pub process: SessionId,
    /// Its run is not over, or claude's turn after it. [`Phase::Pushed`] means that nothing shows
    /// that claude has the message: it may be pushed again.
    pub turn: Option<Turn>,
    /// First in, first out.
    pub queue: Vec<Pending>,
    /// Messages that this process was given, the turn's own among them; more than one if in doubt.
    pub turns: u64,
    /// The run for whose fresh conversation the process was started.
    pub renewed: Option<RunId>,
}

/// The process is not known to be ready. The state is `Busy` meanwhile.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    pub(super) gate: Gate,
    /// Runs from the hand-over of the terminal: while spawnd is away nobody is to blame.
    deadline: Option<Instant>,
}

impl Machine {
    /// The machine of a session whose process an earlier frontd started.
    pub fn adopt(limits: Limits, left: Left, now: Instant) -> Self {
        let Left { process, turn, queue, turns, renewed } = left;
        let latest = [turn.as_ref().map(|turn| turn.pending.run), None];
        let work = turn.map_or(Work::Foreign, Work::Ours);
        Self {
            state: State::Busy { process, work, deadline: now },
            queue: queue.into(),
            turns,
            latest,
            renewed,
            owned: true,
            adoption: Some(Adoption::default()),
            ..Self::new(limits)
        }
    }

    pub(super) fn adoption_deadline(&self) -> Option<Option<Instant>> {
        self.adoption.as_ref().map(|adoption| adoption.deadline)
    }

    /// The terminal is ours, and spawnd has said whether the process was ready.
    pub(super) fn handed_over(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        let deadline = now + self.limits.start;
        match self.adoption.take() {
            Some(adoption) if adoption.gate.ready.is_some() => {
                self.adoption = Some(Adoption { deadline: Some(deadline), ..adoption });
            }
            // Still starting, with dialogs maybe: nothing was ever pushed to it.
            Some(Adoption { gate, .. }) => {
                let starting = State::Starting { process, gate, deadline };
                let before = std::mem::replace(&mut self.state, starting);
                if let State::Busy { work: Work::Ours(mut turn), .. } = before {
                    match turn.phase {
                        Phase::Pushed => self.queue.push_front(turn.pending),
                        Phase::Working | Phase::Answered | Phase::Aborting { .. } => {
                            turn.cut_short(lost(), out);
                        }
                    }
                }
            }
            None => {}
        }
    }

    /// Ready and registered: what was open goes on.
    pub(super) fn resume(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.adoption = None;
        let State::Busy { work, deadline, .. } = &mut self.state else { return };
        *deadline = now + WATCH_EVERY;
        match work {
            Work::Ours(turn) => match turn.phase {
                // channel knows what it pushed and does it once.
                Phase::Pushed => {
                    *deadline = now + RECEIPT_PATIENCE;
                    out.push(Action::Push(turn.pending.clone()));
                }
                Phase::Working | Phase::Answered => out.push(Action::AwaitIdle),
                Phase::Aborting { .. } => {
                    turn.phase = Phase::Aborting { presses: 1 };
                    *deadline = now + ESC_PATIENCE;
                    out.extend([Action::PressEsc, Action::AwaitIdle]);
                }
            },
            // Idle, most likely. channel says so behind all that it still had to tell.
            Work::Foreign => out.push(Action::AwaitIdle),
        }
    }

    /// The channel did not come back: the queue is for a fresh process.
    pub(super) fn give_up_adoption(&mut self, now: Instant, out: &mut Vec<Action>) {
        let State::Busy { process, work, .. } = &mut self.state else { return };
        let process = process.clone();
        if let Work::Ours(turn) = work {
            turn.cut_short(lost(), out);
        }
        self.stop(process, now, out);
    }
}

fn lost() -> Failure {
    let message = "the server was restarted during the turn, and its claude did not come back";
    Failure::new(FailureKind::ProcessEnded, message)
}
