//! A turn: what channel says of claude, and what it means for the run.

use std::time::Instant;

use proto::bridge::{Event as Told, ReplyRefusal, TokenUsage};
use proto::hook::HookEvent;
use proto::ids::{MessageId, SessionId};

use super::{AFTERMATH, Action, Machine, State, WATCH_EVERY, finish};
use crate::run::{Event, Failure, FailureKind, Outcome, RunId, Status};
use crate::session::diagnosis;
use crate::session::testimony::Displayed;
use crate::session::turn::{Attempt, Pending, Phase, Turn, Work};

impl Machine {
    /// What channel says of claude. The result is the verdict on a reply.
    pub(super) fn told(
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
            Told::Usage { message_id, usage, exact } => {
                self.usage(&message_id, usage, exact, out);
            }
        }
        None
    }

    pub(super) fn received(&mut self, message: &MessageId, now: Instant) {
        if let State::Busy { work: Work::Ours(turn), deadline, .. } = &mut self.state
            && turn.phase == Phase::Pushed
            && turn.pending.message == *message
        {
            turn.phase = Phase::Working;
            *deadline = now + WATCH_EVERY;
        }
    }

    pub(super) fn missed(
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
    pub(super) fn send_again(
        &mut self,
        pending: Pending,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        match pending.attempt {
            Attempt::First => {
                out.push(Action::Run(pending.run, Event::Status(Status::Retrying)));
                self.queue.push_front(Pending { attempt: Attempt::Second, ..pending });
            }
            Attempt::Second => {
                let message = "claude took no notice of the message, twice";
                let failure = Failure::new(FailureKind::NotReceived, message);
                out.push(finish(pending.run, Outcome::Failed { error: failure }));
            }
        }
        self.stop(process, now, out);
    }

    pub(super) fn reply(
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
        if id.is_none() && self.turns > 1 && !self.attached {
            return Some(ReplyRefusal::Unnamed);
        }
        match turn.phase {
            Phase::Answered | Phase::Aborting { .. } => return Some(ReplyRefusal::Closed),
            Phase::Pushed | Phase::Working => {}
        }
        let run = turn.pending.run;
        turn.replies += 1;
        turn.show(|displayed, events| displayed.reply(content, events), out);
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

    pub(super) fn hook(
        &mut self,
        hook: HookEvent,
        process: SessionId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
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
            HookEvent::PreToolUse { .. }
            | HookEvent::PostToolUse { .. }
            | HookEvent::PermissionRequest { .. }
            | HookEvent::MessageDisplay { .. }
            | HookEvent::Compacting {}
            | HookEvent::Compacted {} => {
                if let State::Busy { work: Work::Ours(turn), .. } = &mut self.state
                    && turn.is_shown()
                    && turn.is_named_by(named_in(&hook))
                {
                    turn.show(|displayed, events| displayed.hook(&hook, events), out);
                }
            }
            HookEvent::SessionStart {} => {}
        }
    }

    fn usage(
        &mut self,
        message: &MessageId,
        usage: TokenUsage,
        exact: bool,
        out: &mut Vec<Action>,
    ) {
        if let State::Busy { work: Work::Ours(turn), .. } = &self.state
            && turn.pending.message == *message
            && turn.is_shown()
        {
            out.push(Action::Run(turn.pending.run, Event::Usage { usage }));
        }
        if exact
            && let Some(run) = RunId::of_message(message)
            && self.latest.contains(&Some(run))
        {
            out.push(Action::Exact(run, usage));
        }
    }

    pub(super) fn idle_seen(&mut self, process: SessionId, now: Instant, out: &mut Vec<Action>) {
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
}

/// The message whose turn a hook is about, where the hook says so.
fn named_in(hook: &HookEvent) -> Option<&MessageId> {
    if let HookEvent::MessageDisplay { turn, .. } = hook { turn.as_ref() } else { None }
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
    /// Is the run still open for what claude does?
    fn is_shown(&self) -> bool {
        match self.phase {
            Phase::Pushed | Phase::Working | Phase::Aborting { .. } => true,
            Phase::Answered => false,
        }
    }

    fn show(&mut self, show: impl FnOnce(&mut Displayed, &mut Vec<Event>), out: &mut Vec<Action>) {
        let (run, mut events) = (self.pending.run, Vec::new());
        show(&mut self.displayed, &mut events);
        out.extend(events.into_iter().map(|event| Action::Run(run, event)));
    }

    /// Gives the run its one end, unless it has it.
    fn conclude(&mut self, end: TurnEnd, out: &mut Vec<Action>) {
        let run = self.pending.run;
        let outcome = match (self.phase, end) {
            (Phase::Answered, _) => return,
            (Phase::Aborting { .. }, _) => Outcome::Aborted,
            (Phase::Pushed | Phase::Working, TurnEnd::Failure { error }) => {
                Outcome::Failed { error: diagnosis::of_model_error(&error) }
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { .. }) if self.replies > 0 => {
                Outcome::Completed
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { text: Some(text) }) => {
                self.show(|displayed, events| displayed.last_text(&text, events), out);
                Outcome::Completed
            }
            (Phase::Pushed | Phase::Working, TurnEnd::Stop { text: None }) => {
                let message = "claude's turn ended and its answer was not seen";
                Outcome::Failed { error: Failure::new(FailureKind::AnswerLost, message) }
            }
        };
        self.show(Displayed::settle, out);
        out.push(finish(run, outcome));
    }
}
