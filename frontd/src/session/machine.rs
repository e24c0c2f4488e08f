//! The life of one session as a pure transition function: what happened goes in, what to do
//! comes out. Time is an argument; nothing here waits, reads or writes.
//!
//! ```text
//!  Cold -> Waiting (for a slot) -> Spawning -> Starting -> Ready <-> Busy
//!    ^                                |           |          |        |
//!    +---------- exited --------------+-----------+-- Stopping <------+
//! ```
//! Only an exit (or a refused spawn) leads back to `Cold`: a conversation never has two processes.
//! The process of an earlier frontd begins as `Busy` ([`adopt`]).

mod adopt;
mod end;
mod start;
mod talk;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::bridge::{Event as Told, ReplyRefusal, TokenUsage};
use proto::ids::{Seq, SessionId};
use proto::spawn::{ExitCause, RefusalCode, Signal};

use adopt::Adoption;

pub use adopt::Left;

use super::diagnosis;
use super::pool::NoSlot;
use super::turn::{Pending, Phase, Work};
use crate::run::{Event, Outcome, RunId, Status};

/// frontd's own patience for a receipt, over channel's: it counts only when channel is stuck.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(20);
/// A turn that is over for its readers should end soon; else the CLI's state file is asked.
const AFTERMATH: Duration = Duration::from_secs(3);
/// How often the state file is asked during a turn: the net under a lost `Stop`.
const WATCH_EVERY: Duration = Duration::from_secs(30);
/// Between one Esc and the next, and before the process is stopped.
const ESC_PATIENCE: Duration = Duration::from_secs(5);
/// Between a stop and the kill that repeats until the exit is known; spawnd escalates sooner.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Settings of every machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages that may wait.
    pub queue: usize,
    pub start: Duration,
    pub idle: Duration,
    /// Without hooks a turn ends at its final reply.
    pub hooks: bool,
}

#[derive(Debug, PartialEq)]
pub enum Input {
    Submit(Pending),
    /// The client of a run that has not begun went away.
    Leave(RunId),
    Abort(RunId),
    SlotGranted,
    SlotDenied(NoSlot),
    /// A first-version channel attached itself to a session without a process.
    Attached(SessionId),
    Of(SessionId, FromProcess),
    /// Make room, if idle.
    Evict,
    /// Everything ends now: nobody wants the session any more.
    Discard,
    /// The deadline may have passed.
    Tick,
}

/// What came from the process with that id. One that is not the current one is ignored.
#[derive(Debug, PartialEq)]
pub enum FromProcess {
    Started,
    /// Its terminal was handed over: it is the process of an earlier frontd, and alive.
    Adopted,
    Refused {
        code: RefusalCode,
        message: String,
    },
    ReadyPid(u32),
    Registered {
        pid: u32,
    },
    Skipped {
        reason: String,
    },
    UnknownDialog {
        screen: String,
    },
    Told {
        seq: Seq,
        event: Told,
    },
    ChannelGone,
    Exited {
        cause: ExitCause,
        screen: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    AcquireSlot,
    ReleaseSlot,
    Spawn(SessionId),
    Signal(SessionId, Signal),
    /// Close the connection of an attached channel: there is no process of ours to stop.
    Detach(SessionId),
    Push(Pending),
    /// The message at the head begins a new conversation: nothing of the old one goes with it.
    Renew,
    AwaitIdle,
    PressEsc,
    Ack {
        process: SessionId,
        seq: Seq,
        refused: Option<ReplyRefusal>,
    },
    Run(RunId, Event),
    /// All tokens of the run, maybe after its end.
    Exact(RunId, TokenUsage),
    /// The process is known to be gone; spawnd may forget its exit.
    Forget(SessionId),
}

#[derive(Debug)]
enum State {
    Cold,
    Waiting,
    Spawning { process: SessionId },
    Starting { process: SessionId, gate: Gate, deadline: Instant },
    Ready { process: SessionId, since: Instant },
    Busy { process: SessionId, work: Work, deadline: Instant },
    Stopping { process: SessionId, deadline: Instant },
}

/// Both must have come, from the same process id.
#[derive(Debug, Default, Clone, Copy)]
struct Gate {
    ready: Option<u32>,
    registered: Option<u32>,
}

impl Gate {
    fn is_open(self) -> bool {
        self.ready.is_some() && self.ready == self.registered
    }
}

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    state: State,
    queue: VecDeque<Pending>,
    /// The current process is a first-version channel: nothing of ours to signal.
    attached: bool,
    /// Messages pushed to the current process.
    turns: u64,
    /// The runs pushed last: what comes late may be about one of them, and of no other.
    latest: [Option<RunId>; 2],
    /// The run for which the conversation was begun anew.
    renewed: Option<RunId>,
    /// There was an authenticated process: a first-version channel may not take over.
    owned: bool,
    /// The process is an earlier frontd's, and not known to be ready. Only while `Busy`.
    adoption: Option<Adoption>,
}

impl Machine {
    pub fn new(limits: Limits) -> Self {
        let queue = VecDeque::new();
        let state = State::Cold;
        Self {
            limits,
            state,
            queue,
            attached: false,
            turns: 0,
            latest: [None; 2],
            renewed: None,
            owned: false,
            adoption: None,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When to send [`Input::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(deadline) = self.adoption_deadline() {
            return deadline;
        }
        match &self.state {
            State::Cold | State::Waiting | State::Spawning { .. } => None,
            State::Starting { deadline, .. }
            | State::Busy { deadline, .. }
            | State::Stopping { deadline, .. } => Some(*deadline),
            State::Ready { since, .. } => Some(*since + self.limits.idle),
        }
    }

    /// Ready, with nothing to do: may be evicted.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// No process, nothing waiting: the actor may end.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Cold) && self.queue.is_empty()
    }

    /// Shall the hooks of its processes report?
    pub fn has_hooks(&self) -> bool {
        self.limits.hooks
    }

    /// May a first-version channel attach?
    pub fn accepts_attachment(&self) -> bool {
        !self.owned && matches!(self.state, State::Cold)
    }

    /// Is this process asked for and not known to run?
    pub fn is_spawning(&self, id: &SessionId) -> bool {
        matches!(&self.state, State::Spawning { process } if process == id)
    }

    /// Is the current process a first-version channel?
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// May the process ask something on its terminal that is ours to answer?
    pub fn may_ask(&self) -> bool {
        matches!(&self.state, State::Starting { gate, .. } if gate.registered.is_none())
    }

    /// The message that was pushed and has no receipt.
    pub fn unreceived(&self) -> Option<&Pending> {
        match &self.state {
            State::Busy { work: Work::Ours(turn), .. }
                if turn.phase == Phase::Pushed && self.adoption.is_none() =>
            {
                Some(&turn.pending)
            }
            State::Cold
            | State::Waiting
            | State::Spawning { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Busy { .. }
            | State::Stopping { .. } => None,
        }
    }

    /// Is claude, or a process that is on its way out, at work on something else?
    fn is_engaged(&self) -> bool {
        matches!(self.state, State::Busy { .. } | State::Stopping { .. })
    }

    /// Does displayed text wait for what follows it?
    fn holds_text(&self) -> bool {
        let State::Busy { work: Work::Ours(turn), .. } = &self.state else { return false };
        turn.displayed.is_waiting()
    }

    /// A word for the state, for people.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Cold => "cold",
            State::Waiting => "waiting",
            State::Spawning { .. } => "spawning",
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Busy { .. } if self.adoption.is_some() => "adopting",
            State::Busy { .. } => "busy",
            State::Stopping { .. } => "stopping",
        }
    }

    /// Has the queue room for one more message?
    ///
    /// # Errors
    /// [`QueueFull`] when as many wait as the limit says.
    pub fn has_room(&self) -> Result<(), QueueFull> {
        if self.queue.len() < self.limits.queue { Ok(()) } else { Err(QueueFull) }
    }

    /// One step. Actions are to be done in order.
    pub fn handle(&mut self, input: Input, now: Instant, out: &mut Vec<Action>) {
        match input {
            Input::Submit(pending) => {
                let run = pending.run;
                self.queue.push_back(pending);
                self.advance(now, out);
                if let Some(position) = self.queue.iter().position(|waits| waits.run == run)
                    && (position > 0 || self.is_engaged())
                {
                    out.push(Action::Run(run, Event::Status(Status::Queued { position })));
                }
            }
            Input::Leave(run) => {
                self.drop_queued(run, out);
            }
            Input::Abort(run) => self.abort(run, now, out),
            Input::SlotGranted => self.slot_granted(out),
            Input::SlotDenied(why) => self.slot_denied(why, out),
            Input::Attached(process) => {
                if self.accepts_attachment() {
                    self.attached = true;
                    self.settle(process, now, out);
                }
            }
            Input::Of(process, said) => {
                if self.process() == Some(&process) {
                    self.process_said(process, said, now, out);
                } else if let FromProcess::Told { seq, event } = said {
                    let refused = matches!(event, Told::Reply { .. });
                    let refused = refused.then_some(ReplyRefusal::Closed);
                    out.push(Action::Ack { process, seq, refused });
                } else if matches!(said, FromProcess::Exited { .. }) {
                    out.push(Action::Forget(process));
                }
            }
            Input::Evict => {
                if let State::Ready { process, .. } = &self.state {
                    let process = process.clone();
                    self.stop(process, now, out);
                }
            }
            Input::Discard => self.discard(now, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn process(&self) -> Option<&SessionId> {
        match &self.state {
            State::Cold | State::Waiting => None,
            State::Spawning { process }
            | State::Starting { process, .. }
            | State::Ready { process, .. }
            | State::Busy { process, .. }
            | State::Stopping { process, .. } => Some(process),
        }
    }

    fn process_said(
        &mut self,
        process: SessionId,
        said: FromProcess,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match said {
            FromProcess::Started => {
                if matches!(self.state, State::Spawning { .. }) {
                    let deadline = now + self.limits.start;
                    self.state = State::Starting { process, gate: Gate::default(), deadline };
                }
            }
            FromProcess::Adopted => self.handed_over(process, now, out),
            FromProcess::Refused { code, message } => self.refused(code, &message, now, out),
            FromProcess::ReadyPid(pid) => {
                self.pass_gate(|gate| gate.ready = Some(pid), process, now, out);
            }
            FromProcess::Registered { pid } => {
                self.pass_gate(|gate| gate.registered = Some(pid), process, now, out);
            }
            FromProcess::Skipped { reason } => {
                self.cannot_start(diagnosis::of_skip(&reason), process, now, out);
            }
            FromProcess::UnknownDialog { screen } => {
                self.cannot_start(diagnosis::of_dialog(&screen), process, now, out);
            }
            FromProcess::Told { seq, event } => {
                let refused = self.told(event, process.clone(), now, out);
                // What is only held in memory is acknowledged with what follows it.
                if refused.is_some() || !self.holds_text() {
                    out.push(Action::Ack { process, seq, refused });
                }
            }
            FromProcess::ChannelGone => self.channel_gone(process, now, out),
            FromProcess::Exited { cause, screen } => self.exited(process, cause, &screen, now, out),
        }
    }
}

fn finish(run: RunId, outcome: Outcome) -> Action {
    Action::Run(run, Event::Finished(outcome))
}

#[cfg(test)]
mod tests;
