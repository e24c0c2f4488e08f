//! Which messages went to claude, which of them lack a receipt, and which wait for the CLI to
//! listen. No I/O.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use proto::ids::MessageId;
use proto::limits::RECEIPT_WITHIN;

use crate::fetches::Message;

/// Message ids that are remembered, so that none is pushed twice. frontd has one message in
/// flight; a thousand later it cannot repeat one.
const REMEMBERED: usize = 1024;
/// Messages without a receipt, and messages held back. frontd pushes only to an idle claude.
pub(crate) const OPEN: usize = 1024;
/// Turns whose message is remembered by the CLI's prompt id.
const PROMPTS: usize = 64;

struct Open {
    message: MessageId,
    /// When the transcript is asked.
    due: Instant,
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not known yet; it will be told.
    Open,
    Received,
    Missed,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    New,
    /// Pushed or held before; must not reach claude again.
    Repeated,
    /// Too many are open.
    Full,
}

#[derive(Default)]
pub(crate) struct Pushes {
    known: HashMap<MessageId, Fate>,
    /// `known` by age.
    order: VecDeque<MessageId>,
    open: VecDeque<Open>,
    held: VecDeque<Message>,
    last: Option<MessageId>,
    prompts: VecDeque<(String, MessageId)>,
}

impl Pushes {
    /// May this message go to claude? Remembers it if so. `elsewhere`: so many more are on their
    /// way.
    pub(crate) fn admit(&mut self, message: &MessageId, elsewhere: usize) -> Admission {
        if self.known.contains_key(message) {
            return Admission::Repeated;
        }
        if self.open.len() + self.held.len() + elsewhere >= OPEN {
            return Admission::Full;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(message.clone(), Fate::Open);
        self.order.push_back(message.clone());
        Admission::New
    }

    /// What became of a message, for a frontd that asks again: it may have been stopped before it
    /// could keep the answer.
    pub(crate) fn fate(&self, message: &MessageId) -> Fate {
        self.known.get(message).copied().unwrap_or(Fate::Open)
    }

    pub(crate) fn settle(&mut self, message: &MessageId, fate: Fate) {
        if let Some(known) = self.known.get_mut(message) {
            *known = fate;
        }
    }

    /// Keeps an admitted message until claude listens.
    pub(crate) fn hold(&mut self, message: Message) {
        self.held.push_back(message);
    }

    pub(crate) fn release(&mut self) -> VecDeque<Message> {
        std::mem::take(&mut self.held)
    }

    /// `message` leaves for claude now. Tells whether it is the only one without a receipt.
    pub(crate) fn opened(&mut self, message: MessageId, now: Instant) -> bool {
        let alone = self.open.is_empty();
        self.last = Some(message.clone());
        self.open.push_back(Open { message, due: now + RECEIPT_WITHIN, asked: false });
        alone
    }

    /// The message with this id has its receipt. Tells whether it lacked one.
    pub(crate) fn close(&mut self, message: &MessageId) -> bool {
        let before = self.open.len();
        self.open.retain(|open| open.message != *message);
        self.open.len() < before
    }

    /// All open messages have their receipt: claude works, and on nothing older.
    pub(crate) fn close_all(&mut self) -> Vec<MessageId> {
        self.open.drain(..).map(|open| open.message).collect()
    }

    /// Messages whose receipt is overdue, each once.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<MessageId> {
        let mut overdue = Vec::new();
        for open in self.open.iter_mut().filter(|open| !open.asked && open.due <= now) {
            open.asked = true;
            overdue.push(open.message.clone());
        }
        overdue
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.open.iter().find(|open| !open.asked).map(|open| open.due)
    }

    pub(crate) fn last(&self) -> Option<&MessageId> {
        self.last.as_ref()
    }

    /// Those of our messages that a prompt consists of, in order. What a message says cannot
    /// count: an id in it would have to be one that we pushed, and nobody is told those before.
    pub(crate) fn named_in(&self, prompt: &str) -> Vec<MessageId> {
        let mut named: Vec<MessageId> = Vec::new();
        for rest in prompt.split("message_id=").skip(1) {
            // A body that was cut is searched as it stands, with JSON's backslash.
            let rest = rest.strip_prefix('\\').unwrap_or(rest);
            let value = rest.strip_prefix('"').and_then(|rest| rest.split(['"', '\\']).next());
            if let Some(id) = value.and_then(|value| MessageId::new(value).ok())
                && self.known.contains_key(&id)
                && !named.contains(&id)
            {
                named.push(id);
            }
        }
        named
    }

    /// The CLI calls the turn of `message` by this id from now on.
    pub(crate) fn begun(&mut self, prompt: String, message: MessageId) {
        if self.prompts.len() == PROMPTS {
            self.prompts.pop_front();
        }
        self.prompts.push_back((prompt, message));
    }

    pub(crate) fn message_of(&self, prompt: &str) -> Option<MessageId> {
        self.prompts.iter().rev().find(|(id, _)| id == prompt).map(|(_, message)| message.clone())
    }
}
