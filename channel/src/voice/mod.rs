//! The state machine of a session's voice: what frontd, claude, its hooks and its files say comes
//! in, what to do about it comes out. No I/O, no clock: the time is an argument.
//!
//! It promises: every event leaves in the order in which it happened and is sent again until
//! frontd holds it; a message goes to claude at most once; each pushed message ends as received
//! or missed; each reply of claude gets one answer.

mod hooks;
mod inbound;
mod words;

use std::collections::VecDeque;
use std::time::Instant;

use proto::bridge::{self, ChannelState, Event, FromChannel, FromFrontd, Hello, ReplyRefusal};
use proto::ids::{MessageId, Seq};
use proto::limits::{MESSAGE_TEXT, VERDICT_WITHIN};

use crate::fetches::{Fetches, Message};
use crate::outbox::{Entry, Outbox, Refused, Weight};
use crate::pushes::{Fate, Pushes};
use hooks::OpenTools;
pub(crate) use words::{Action, Answer, CallId, Identity, Input, Reply, TurnUsage};
use words::{FULL, NOT_AN_ID, TOO_LONG};

/// Calls of the reply tool that wait for a verdict. claude makes them one after the other.
const WAITING: usize = 64;

enum Standing {
    Starting,
    Registered,
    Skipped { reason: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// hello was sent, hello_ack did not come.
    Greeting,
    Up,
}

struct Waiting {
    seq: Seq,
    call: CallId,
    until: Instant,
}

pub(crate) struct Voice {
    identity: Identity,
    standing: Standing,
    link: Link,
    outbox: Outbox,
    pushes: Pushes,
    /// Messages whose files are not here yet.
    fetches: Fetches,
    tools: OpenTools,
    waiting: VecDeque<Waiting>,
    /// The outbox is full, and that was said.
    dropping: bool,
}

impl Voice {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            standing: Standing::Starting,
            link: Link::Down,
            outbox: Outbox::default(),
            pushes: Pushes::default(),
            fetches: Fetches::default(),
            tools: OpenTools::default(),
            waiting: VecDeque::new(),
            dropping: false,
        }
    }

    /// Takes one input and adds what it asks for, in order, to `out`.
    pub(crate) fn input(&mut self, now: Instant, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Connected { idle } => self.greet(idle, out),
            Input::Disconnected => {
                self.link = Link::Down;
                self.fetches.forget_asking();
                out.push(Action::StopWatching);
            }
            Input::Frame(frame) => self.heard(now, frame, out),
            Input::Reply { call, reply, usage } => self.reply(now, call, reply, usage, out),
            Input::Hook { body, usage } => self.hook(body, usage, out),
            Input::Registered => self.registered(now, out),
            Input::Skipped { reason } => self.skipped(reason, out),
            Input::Searched { message, found } => self.searched(message, found, out),
            Input::Sought { message, found } => self.sought(now, message, found, out),
            Input::Kept { length, last, kept } => self.file_kept(now, length, last, kept, out),
            Input::Counted { message_id, usage } => {
                self.tell(&Event::Usage { message_id, usage, exact: true }, Weight::Ordinary, out);
            }
            Input::Idle => self.tell(&Event::Idle {}, Weight::TurnEnd, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// When [`Input::Tick`] is due; `None` while nothing is open, so that an idle session sleeps.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let verdict = self.waiting.front().map(|waiting| waiting.until);
        [verdict, self.pushes.next_due(), self.fetches.due()].into_iter().flatten().min()
    }

    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.standing, Standing::Registered)
    }

    // ---- frontd ----

    fn greet(&mut self, idle: bool, out: &mut Vec<Action>) {
        self.link = Link::Greeting;
        let hello = FromChannel::Hello(Hello {
            version: bridge::VERSION,
            openclaw_session: self.identity.session.clone(),
            claude_session: self.identity.conversation,
            pid: self.identity.pid,
            token: self.identity.token.clone(),
            state: match self.standing {
                Standing::Starting => ChannelState::Starting,
                Standing::Registered => ChannelState::Registered,
                Standing::Skipped { .. } => ChannelState::Skipped,
            },
            last_message_id: self.pushes.last().cloned(),
            idle,
        });
        out.push(Action::Send(encode(&hello)));
    }

    fn heard(&mut self, now: Instant, frame: FromFrontd, out: &mut Vec<Action>) {
        match (self.link, frame) {
            // The rest of a connection that was given up.
            (Link::Down, _) => {}
            (_, FromFrontd::Ping {}) => out.push(Action::Send(encode(&FromChannel::Pong {}))),
            (Link::Greeting, FromFrontd::HelloAck { version, received }) => {
                self.welcomed(now, version, received, out);
            }
            (
                Link::Greeting,
                FromFrontd::Inbound { .. }
                | FromFrontd::File { .. }
                | FromFrontd::NoFile { .. }
                | FromFrontd::Ack { .. }
                | FromFrontd::AwaitIdle {},
            ) => self.hang_up("a frame before hello_ack", out),
            (Link::Up, FromFrontd::HelloAck { .. }) => self.hang_up("a second hello_ack", out),
            (Link::Up, FromFrontd::Inbound { content, meta, files }) => {
                self.inbound(now, Message { content, meta, files }, out);
            }
            (Link::Up, FromFrontd::File { id, offset, data, last }) => {
                self.file(now, &id, offset, &data, last, out);
            }
            (Link::Up, FromFrontd::NoFile { id }) => self.no_file(now, &id, out),
            (Link::Up, FromFrontd::Ack { seq, refused }) => self.acked(seq, refused, out),
            (Link::Up, FromFrontd::AwaitIdle {}) => out.push(Action::WatchIdle),
        }
    }

    fn hang_up(&mut self, why: &'static str, out: &mut Vec<Action>) {
        self.link = Link::Down;
        self.fetches.forget_asking();
        out.push(Action::HangUp(why));
    }

    fn welcomed(&mut self, now: Instant, version: u32, received: Seq, out: &mut Vec<Action>) {
        if version != bridge::VERSION {
            self.hang_up("frontd speaks another version of the bridge", out);
            return;
        }
        self.link = Link::Up;
        self.dropping = false;
        let shift = self.outbox.continue_after(received);
        for waiting in &mut self.waiting {
            waiting.seq.0 += shift;
        }
        match &self.standing {
            Standing::Starting => {}
            Standing::Registered => out.push(Action::Send(encode(&FromChannel::Registered {}))),
            Standing::Skipped { reason } => {
                out.push(Action::Send(encode(&FromChannel::Skipped { reason: reason.clone() })))
            }
        }
        // What is owed gets its place before the rest is sent, so that it is sent with it.
        let _sent_below = self.outbox.prune(received);
        out.extend(self.outbox.entries().map(|entry| Action::Send(entry.frame())));
        // frontd holds these replies; what it thinks of them went down with the old connection.
        self.answer_queued(|waiting| waiting.seq <= received, out);
        self.fetch(now, out);
    }

    fn acked(&mut self, seq: Seq, refused: Option<ReplyRefusal>, out: &mut Vec<Action>) {
        if seq > self.outbox.last() {
            self.hang_up("an ack for what was never sent", out);
            return;
        }
        let answer =
            refused.map_or(Answer::Sent, |refusal| Answer::Failed(words::refused(refusal)));
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.seq == seq)
            && let Some(waiting) = self.waiting.remove(at)
        {
            out.push(Action::Answer { call: waiting.call, answer });
        }
        if let Some(owed) = self.outbox.prune(seq) {
            self.send(&owed, out);
        }
    }

    // ---- claude ----

    fn registered(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !matches!(self.standing, Standing::Starting) {
            return;
        }
        self.standing = Standing::Registered;
        if self.link == Link::Up {
            out.push(Action::Send(encode(&FromChannel::Registered {})));
        }
        out.push(Action::Announce);
        for message in self.pushes.release() {
            self.push(now, message, out);
        }
    }

    fn skipped(&mut self, reason: String, out: &mut Vec<Action>) {
        if !matches!(self.standing, Standing::Starting) {
            return;
        }
        if self.link == Link::Up {
            out.push(Action::Send(encode(&FromChannel::Skipped { reason: reason.clone() })));
        }
        self.standing = Standing::Skipped { reason };
        for message in self.pushes.release() {
            self.miss(message, out);
        }
        for message in self.fetches.give_up_all() {
            self.miss(message, out);
        }
    }

    fn reply(
        &mut self,
        now: Instant,
        call: CallId,
        reply: Reply,
        usage: Option<TurnUsage>,
        out: &mut Vec<Action>,
    ) {
        let answer = |answer, out: &mut Vec<Action>| out.push(Action::Answer { call, answer });
        if reply.text.len() > MESSAGE_TEXT {
            return answer(Answer::Failed(TOO_LONG), out);
        }
        let message_id = match reply.message_id.map(MessageId::new).transpose() {
            Ok(message_id) => message_id,
            Err(_invalid) => return answer(Answer::Failed(NOT_AN_ID), out),
        };
        if self.waiting.len() >= WAITING {
            return answer(Answer::Failed(FULL), out);
        }
        match &message_id {
            Some(id) if self.pushes.close(id) => self.received(id.clone(), out),
            Some(_) => {}
            None => self.receive_all(out),
        }
        if let Some((message_id, usage)) = usage {
            self.tell(&Event::Usage { message_id, usage, exact: false }, Weight::Ordinary, out);
        }
        let event = Event::Reply { content: reply.text, r#final: reply.last, message_id };
        match self.outbox.push(&event, Weight::Ordinary) {
            Ok(Some(entry)) => {
                self.send(&entry, out);
                let until = now + VERDICT_WITHIN;
                self.waiting.push_back(Waiting { seq: entry.seq, call, until });
            }
            Ok(None) | Err(Refused::Full) => answer(Answer::Failed(FULL), out),
            Err(Refused::TooLong) => answer(Answer::Failed(TOO_LONG), out),
        }
    }

    /// Answers the oldest calls as long as `ripe` says so; both places and times only grow.
    fn answer_queued(&mut self, ripe: impl Fn(&Waiting) -> bool, out: &mut Vec<Action>) {
        while let Some(waiting) = self.waiting.front().filter(|waiting| ripe(waiting)) {
            out.push(Action::Answer { call: waiting.call, answer: Answer::Queued });
            self.waiting.pop_front();
        }
    }

    // ---- receipts ----

    fn received(&mut self, message_id: MessageId, out: &mut Vec<Action>) {
        self.pushes.settle(&message_id, Fate::Received);
        self.tell(&Event::Received { message_id }, Weight::Vital, out);
    }

    fn missed(&mut self, message_id: MessageId, out: &mut Vec<Action>) {
        self.pushes.settle(&message_id, Fate::Missed);
        self.tell(&Event::Missed { message_id }, Weight::Vital, out);
    }

    fn receive_all(&mut self, out: &mut Vec<Action>) {
        for message in self.pushes.close_all() {
            self.received(message, out);
        }
    }

    fn searched(&mut self, message: MessageId, found: bool, out: &mut Vec<Action>) {
        if !self.pushes.close(&message) {
            return;
        }
        if found {
            self.received(message, out);
        } else {
            self.missed(message, out);
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.answer_queued(|waiting| waiting.until <= now, out);
        out.extend(self.pushes.overdue(now).into_iter().map(Action::Search));
        if self.fetches.due().is_some_and(|due| due <= now) {
            self.give_up_files(now, "frontd does not send a message's file", out);
        }
    }

    // ---- sending ----

    fn tell(&mut self, event: &Event, weight: Weight, out: &mut Vec<Action>) {
        match self.outbox.push(event, weight) {
            Ok(Some(entry)) => self.send(&entry, out),
            Ok(None) => out.push(Action::Note("the end of a turn waits for room")),
            // Said once for each connection that is missing, not for each event.
            Err(Refused::Full) if self.dropping => {}
            Err(Refused::Full) => {
                self.dropping = true;
                out.push(Action::Note("events are dropped: frontd acknowledges nothing"));
            }
            Err(Refused::TooLong) => out.push(Action::Note("an event was dropped: too long")),
        }
    }

    fn send(&self, entry: &Entry, out: &mut Vec<Action>) {
        if self.link == Link::Up {
            out.push(Action::Send(entry.frame()));
        }
    }
}

fn encode(frame: &FromChannel) -> String {
    serde_json::to_string(frame).expect("wire types have string keys and no failing Serialize")
}

#[cfg(test)]
mod tests;
