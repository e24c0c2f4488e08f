//! The life of one session as a pure transition function: what happened goes in, what to do
//! comes out. Time is an argument; nothing here waits, reads or writes.
//!
//! ```text
//!  Cold -> Waiting (for a slot) -> Spawning -> Starting -> Ready <-> Busy
//!    ^                                |           |          |        |
//!    +---------- exited --------------+-----------+-- Stopping <------+
//! ```
//! Only an exit (or a refused spawn) leads back to `Cold`: a conversation never has two processes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::bridge::{Event as Told, ReplyRefusal};
use proto::hook::HookEvent;
use proto::ids::{MessageId, Seq, SessionId};
use proto::spawn::{ExitCause, RefusalCode, Signal};

use super::diagnosis;
use super::turn::{Attempt, Pending, Phase, Turn, Work};
use crate::run::{Event, Failure, FailureKind, Outcome, RunId};

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

#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    Submit(Pending),
    /// The client of a run that has not begun went away.
    Leave(RunId),
    Abort(RunId),
    SlotGranted,
    SlotDenied,
    /// A first-version channel attached itself to a session without a process.
    Attached(SessionId),
    Of(SessionId, FromProcess),
    /// Make room, if idle.
    Evict,
    /// The deadline may have passed.
    Tick,
}

/// What came from the process with that id. One that is not the current one is ignored.
#[derive(Debug, PartialEq, Eq)]
pub enum FromProcess {
    Started,
    Refused { code: RefusalCode, message: String },
    ReadyPid(u32),
    Registered { pid: u32 },
    Skipped { reason: String },
    UnknownDialog { screen: String },
    Told { seq: Seq, event: TokenEvent },
    ChannelGone,
    Exited { cause: ExitCause, screen: String },
}

/// An event of the bridge. The wrapper compares by its debug text, for tests.
#[derive(Debug)]
pub struct TokenEvent(pub Told);

impl PartialEq for TokenEvent {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for TokenEvent {}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    AcquireSlot,
    ReleaseSlot,
    Spawn(SessionId),
    Signal(SessionId, Signal),
    /// Close the connection of an attached channel: there is no process of ours to stop.
    Detach(SessionId),
    Push(Pending),
    AwaitIdle,
    PressEsc,
    Ack {
        seq: Seq,
        refused: Option<ReplyRefusal>,
    },
    Run(RunId, Event),
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
    /// There was an authenticated process: a first-version channel may not take over.
    owned: bool,
}

impl Machine {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Cold, queue: VecDeque::new(), attached: false, owned: false }
    }

    /// When to send [`Input::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
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

    /// May a first-version channel attach?
    pub fn accepts_attachment(&self) -> bool {
        !self.owned && matches!(self.state, State::Cold)
    }

    /// Is the current process a first-version channel?
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// The message that was pushed and has no receipt.
    pub fn unreceived(&self) -> Option<&Pending> {
        match &self.state {
            State::Busy { work: Work::Ours(turn), .. } if turn.phase == Phase::Pushed => {
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

    /// A word for the state, for people.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Cold => "cold",
            State::Waiting => "waiting",
            State::Spawning { .. } => "spawning",
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
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
                self.queue.push_back(pending);
                self.advance(now, out);
            }
            Input::Leave(run) => {
                self.drop_queued(run, out);
            }
            Input::Abort(run) => self.abort(run, now, out),
            Input::SlotGranted => self.slot_granted(out),
            Input::SlotDenied => self.slot_denied(out),
            Input::Attached(process) => {
                if self.accepts_attachment() {
                    self.attached = true;
                    self.settle(process, now, out);
                }
            }
            Input::Of(process, said) => {
                if self.process() == Some(&process) {
                    self.from_process(process, said, now, out);
                } else if let FromProcess::Told { seq, event } = said {
                    let refused = matches!(event.0, Told::Reply { .. });
                    out.push(Action::Ack { seq, refused: refused.then_some(ReplyRefusal::Closed) });
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

    fn from_process(
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
                let refused = self.told(event.0, process, now, out);
                out.push(Action::Ack { seq, refused });
            }
            FromProcess::ChannelGone => self.channel_gone(process, now, out),
            FromProcess::Exited { cause, screen } => self.exited(process, cause, &screen, now, out),
        }
    }

    // ---- starting -------------------------------------------------------------------------

    /// Does what the queue asks for and the state allows.
    fn advance(&mut self, now: Instant, out: &mut Vec<Action>) {
        match &self.state {
            State::Cold => {
                if !self.queue.is_empty() {
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
    fn settle(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        match self.queue.pop_front() {
            Some(pending) => {
                out.push(Action::Run(pending.run, Event::Pushed));
                out.push(Action::Push(pending.clone()));
                let work = Work::Ours(Turn::new(pending));
                self.state = State::Busy { process, work, deadline: now + RECEIPT_PATIENCE };
            }
            None => self.state = State::Ready { process, since: now },
        }
    }

    fn slot_granted(&mut self, out: &mut Vec<Action>) {
        if self.queue.is_empty() || !matches!(self.state, State::Waiting) {
            if matches!(self.state, State::Waiting) {
                self.state = State::Cold;
            }
            out.push(Action::ReleaseSlot);
            return;
        }
        let process = SessionId::random();
        self.owned = true;
        self.attached = false;
        self.state = State::Spawning { process: process.clone() };
        out.push(Action::Spawn(process));
    }

    fn slot_denied(&mut self, out: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting) {
            self.state = State::Cold;
            let failure = Failure::new(FailureKind::NoSlot, "every claude process is busy");
            self.fail_queue(&failure, out);
        }
    }

    fn refused(&mut self, code: RefusalCode, text: &str, now: Instant, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Spawning { .. }) {
            return;
        }
        let failure = diagnosis::of_refusal(code, text);
        self.state = State::Cold;
        out.push(Action::ReleaseSlot);
        self.fail_start(failure, out);
        self.advance(now, out);
    }

    fn pass_gate(
        &mut self,
        pass: impl FnOnce(&mut Gate),
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if let State::Starting { gate, .. } = &mut self.state {
            pass(gate);
            if gate.is_open() {
                self.settle(process, now, out);
            }
        }
    }

    fn cannot_start(
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
    fn fail_start(&mut self, failure: Failure, out: &mut Vec<Action>) {
        match failure.kind {
            FailureKind::StartFailed | FailureKind::ProcessEnded => {
                if let Some(pending) = self.queue.pop_front() {
                    out.push(finish(pending.run, Outcome::Failed(failure)));
                }
            }
            FailureKind::NoSlot
            | FailureKind::CannotStart(_)
            | FailureKind::WorkspaceNotAllowed
            | FailureKind::WorkspaceUnusable
            | FailureKind::NotReceived
            | FailureKind::ModelError
            | FailureKind::AnswerLost
            | FailureKind::TooLong
            | FailureKind::Stopping => self.fail_queue(&failure, out),
        }
    }

    fn fail_queue(&mut self, failure: &Failure, out: &mut Vec<Action>) {
        for pending in self.queue.drain(..) {
            out.push(finish(pending.run, Outcome::Failed(failure.clone())));
        }
    }

    // ---- a turn ---------------------------------------------------------------------------

    /// What channel says of claude. The result is the verdict on a reply.
    fn told(
        &mut self,
        event: Told,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Option<ReplyRefusal> {
        match event {
            Told::Received { message_id } => self.received(&message_id, now),
            Told::Missed { message_id } => self.missed(&message_id, process, now, out),
            Told::Reply { content, r#final, message_id } => {
                return self.reply(&content, r#final, message_id.as_ref(), process, now, out);
            }
            Told::Hook(hook) => self.hook(hook, process, now, out),
            Told::Idle {} => self.idle_seen(process, now, out),
            Told::Usage(usage) => {
                if let State::Busy { work: Work::Ours(turn), .. } = &self.state {
                    out.push(Action::Run(turn.pending.run, Event::Usage(usage)));
                }
            }
        }
        None
    }

    fn received(&mut self, message: &MessageId, now: Instant) {
        if let State::Busy { work: Work::Ours(turn), deadline, .. } = &mut self.state
            && turn.phase == Phase::Pushed
            && turn.pending.message == *message
        {
            turn.phase = Phase::Working;
            *deadline = now + WATCH_EVERY;
        }
    }

    fn missed(
        &mut self,
        message: &MessageId,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if let State::Busy { work: Work::Ours(turn), .. } = &self.state
            && turn.phase == Phase::Pushed
            && turn.pending.message == *message
        {
            let pending = turn.pending.clone();
            self.send_again(pending, process, now, out);
        }
    }

    /// The message left no trace: once more, to a fresh process, and then no more.
    fn send_again(
        &mut self,
        pending: Pending,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match pending.attempt {
            Attempt::First => {
                self.queue.push_front(Pending { attempt: Attempt::Second, ..pending });
            }
            Attempt::Second => {
                let message = "claude took no notice of the message, twice";
                let failure = Failure::new(FailureKind::NotReceived, message);
                out.push(finish(pending.run, Outcome::Failed(failure)));
            }
        }
        self.stop(process, now, out);
    }

    fn reply(
        &mut self,
        content: &str,
        is_final: bool,
        id: Option<&MessageId>,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Option<ReplyRefusal> {
        let ends_turn = !self.limits.hooks || self.attached;
        let State::Busy { work: Work::Ours(turn), deadline, .. } = &mut self.state else {
            return Some(ReplyRefusal::Closed);
        };
        if !turn.is_named_by(id) {
            return Some(ReplyRefusal::Foreign);
        }
        match turn.phase {
            Phase::Answered | Phase::Aborting { .. } => return Some(ReplyRefusal::Closed),
            Phase::Pushed | Phase::Working => {}
        }
        let run = turn.pending.run;
        turn.replies += 1;
        out.push(Action::Run(run, Event::Text(content.into())));
        if !is_final {
            turn.phase = Phase::Working;
            *deadline = now + WATCH_EVERY;
            return None;
        }
        out.push(finish(run, Outcome::Completed));
        turn.phase = Phase::Answered;
        *deadline = now + AFTERMATH;
        if ends_turn {
            self.settle(process, now, out);
        }
        None
    }

    fn hook(&mut self, hook: HookEvent, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        match hook {
            HookEvent::UserPromptSubmit { message_id: Some(message) } => {
                self.received(&message, now);
            }
            HookEvent::UserPromptSubmit { message_id: None } => {
                if matches!(self.state, State::Ready { .. }) {
                    let deadline = now + WATCH_EVERY;
                    self.state = State::Busy { process, work: Work::Foreign, deadline };
                }
            }
            HookEvent::Stop { message_id, last_assistant_message } => {
                let text = Some(last_assistant_message);
                self.turn_ended(message_id.as_ref(), TurnEnd::Stop { text }, process, now, out);
            }
            HookEvent::StopFailure { message_id, error } => {
                let end = TurnEnd::Failure { error };
                self.turn_ended(message_id.as_ref(), end, process, now, out);
            }
            HookEvent::SessionStart {}
            | HookEvent::PreToolUse { .. }
            | HookEvent::PostToolUse { .. }
            | HookEvent::PermissionRequest { .. } => {}
        }
    }

    fn idle_seen(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        self.turn_ended(None, TurnEnd::Stop { text: None }, process, now, out);
    }

    /// claude's turn is over. `id` names the turn where the witness knows it: the end of an
    /// earlier turn that comes late must not end this one, and one without a receipt has not
    /// begun.
    fn turn_ended(
        &mut self,
        id: Option<&MessageId>,
        end: TurnEnd,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let State::Busy { work, .. } = &mut self.state else { return };
        if let Work::Ours(turn) = work {
            if !turn.is_named_by(id) || (turn.phase == Phase::Pushed && id.is_none()) {
                return;
            }
            turn.conclude(end, out);
        }
        self.settle(process, now, out);
    }

    // ---- endings --------------------------------------------------------------------------

    fn drop_queued(&mut self, run: RunId, out: &mut Vec<Action>) -> bool {
        let before = self.queue.len();
        self.queue.retain(|pending| pending.run != run);
        let dropped = self.queue.len() < before;
        if dropped {
            out.push(finish(run, Outcome::Aborted));
        }
        dropped
    }

    fn abort(&mut self, run: RunId, now: Instant, out: &mut Vec<Action>) {
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
                if !attached {
                    out.extend([Action::PressEsc, Action::AwaitIdle]);
                }
            }
        }
    }

    fn channel_gone(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        match &self.state {
            State::Cold | State::Waiting | State::Spawning { .. } | State::Stopping { .. } => {}
            State::Starting { .. } => {
                let failure = Failure::new(FailureKind::StartFailed, "the channel process ended");
                self.cannot_start(failure, process, now, out);
            }
            State::Ready { .. } => self.stop(process, now, out),
            State::Busy { work, .. } => match work {
                Work::Ours(turn) if turn.phase == Phase::Pushed => {
                    let pending = turn.pending.clone();
                    self.send_again(pending, process, now, out);
                }
                Work::Ours(turn) => {
                    let mut turn = turn.clone();
                    turn.cut_short("the session's channel process ended during the turn", out);
                    self.stop(process, now, out);
                }
                Work::Foreign => self.stop(process, now, out),
            },
        }
    }

    fn stop(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
        if self.attached {
            self.attached = false;
            self.state = State::Cold;
            out.push(Action::Detach(process));
            self.advance(now, out);
            return;
        }
        out.push(Action::Signal(process.clone(), Signal::Term));
        self.state = State::Stopping { process, deadline: now + STOP_PATIENCE };
    }

    fn exited(
        &mut self,
        process: SessionId,
        cause: ExitCause,
        screen: &str,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match std::mem::replace(&mut self.state, State::Cold) {
            State::Cold | State::Waiting | State::Ready { .. } | State::Stopping { .. } => {}
            State::Spawning { .. } | State::Starting { .. } => {
                self.fail_start(diagnosis::of_exit(cause, screen), out);
            }
            State::Busy { work: Work::Ours(mut turn), .. } => {
                turn.cut_short(&format!("claude ended during the turn: {cause}"), out);
            }
            State::Busy { work: Work::Foreign, .. } => {}
        }
        out.extend([Action::Forget(process), Action::ReleaseSlot]);
        self.advance(now, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
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
            State::Busy { .. } => self.tick_busy(now, out),
        }
    }

    fn tick_busy(&mut self, now: Instant, out: &mut Vec<Action>) {
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
                turn.clone().cut_short("", out);
                self.stop(process, now, out);
            }
        }
    }
}

/// How claude's turn ended.
enum TurnEnd {
    /// By `Stop` with its last text, or by the CLI's state file, which has none.
    Stop {
        text: Option<String>,
    },
    Failure {
        error: String,
    },
}

impl Turn {
    /// Gives the run its one end, unless it has it.
    fn conclude(&mut self, end: TurnEnd, out: &mut Vec<Action>) {
        let run = self.pending.run;
        let outcome = match (self.phase, end) {
            (Phase::Answered, _) => return,
            (Phase::Aborting { .. }, _) => Outcome::Aborted,
            (Phase::Pushed | Phase::Working, TurnEnd::Failure { error }) => {
                Outcome::Failed(diagnosis::of_model_error(&error))
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { .. }) if self.replies > 0 => {
                Outcome::Completed
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { text: Some(text) }) => {
                if !text.is_empty() {
                    out.push(Action::Run(run, Event::Text(text.into())));
                }
                Outcome::Completed
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { text: None }) => {
                let message = "claude's turn ended and its answer was not seen";
                Outcome::Failed(Failure::new(FailureKind::AnswerLost, message))
            }
        };
        out.push(finish(run, outcome));
    }

    /// The process is lost to this turn.
    fn cut_short(&mut self, message: &str, out: &mut Vec<Action>) {
        let run = self.pending.run;
        match self.phase {
            Phase::Answered => {}
            Phase::Aborting { .. } => out.push(finish(run, Outcome::Aborted)),
            Phase::Pushed | Phase::Working => {
                let failure = Failure::new(FailureKind::ProcessEnded, message);
                out.push(finish(run, Outcome::Failed(failure)));
            }
        }
    }
}

fn finish(run: RunId, outcome: Outcome) -> Action {
    Action::Run(run, Event::Finished(outcome))
}

#[cfg(test)]
mod tests;
