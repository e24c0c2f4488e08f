//! One message on its way and what has come of it. Plain values.

use std::sync::Arc;

use proto::ids::MessageId;

use crate::run::RunId;

/// A message that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub run: RunId,
    pub message: MessageId,
    pub content: Arc<str>,
    /// The conversation in the client's own words.
    pub chat_id: Arc<str>,
    /// The second attempt is the last.
    pub attempt: Attempt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    First,
    Second,
}

/// What claude is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A message of ours.
    Ours(Turn),
    /// A turn that claude began by itself (a background task reported, for example).
    Foreign,
}

/// The message that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub pending: Pending,
    pub phase: Phase,
    /// Replies that the run took.
    pub replies: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No receipt yet.
    Pushed,
    /// claude has it; the run waits for its final answer.
    Working,
    /// The run is over for its readers; claude's turn is not.
    Answered,
    /// Esc was typed this many times; the run ends with claude's turn.
    Aborting { presses: u8 },
}

impl Turn {
    pub fn new(pending: Pending) -> Self {
        Self { pending, phase: Phase::Pushed, replies: 0 }
    }

    /// Is `id` this turn's message? A reply that names none means the open turn.
    pub fn is_named_by(&self, id: Option<&MessageId>) -> bool {
        id.is_none_or(|id| *id == self.pending.message)
    }
}
