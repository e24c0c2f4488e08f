//! One message on its way and what has come of it. Plain values.

use std::sync::Arc;

use proto::ids::{AbsolutePath, Instructions, MessageId, ModelName};
use serde::{Deserialize, Serialize};

use super::testimony::Displayed;
use crate::client::Runner;
use crate::run::{FileNote, RunId};

/// What is said to claude, and how. Stored with its run until that is over, so that another
/// process of this server can go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub content: Arc<str>,
    /// The conversation so far, where claude has not seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Arc<str>>,
    /// The conversation in the client's own words.
    pub chat_id: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileNote>,
    /// What claude has seen of the person once it has this: hashes of messages, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<u64>,
    /// The history was edited: a new conversation begins with this message.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fresh: bool,
    /// For the process that takes it, if it is started for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
    /// Where the conversation lives, if this message begins it.
    pub workspace: AbsolutePath,
    /// As whom that process runs.
    pub runner: Arc<Runner>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A message that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub run: RunId,
    pub message: MessageId,
    pub prompt: Arc<Prompt>,
    /// The second attempt is the last.
    pub attempt: Attempt,
}

impl Pending {
    pub fn new(run: RunId, prompt: Arc<Prompt>) -> Self {
        Self { run, message: run.message_id(), prompt, attempt: Attempt::First }
    }
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
    pub displayed: Displayed,
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

/// An answer is the run's replies as paragraphs.
pub fn add_paragraph(answer: &mut String, reply: &str) {
    if !answer.is_empty() {
        answer.push_str("\n\n");
    }
    answer.push_str(reply);
}

impl Turn {
    pub fn new(pending: Pending) -> Self {
        Self { pending, phase: Phase::Pushed, replies: 0, displayed: Displayed::default() }
    }

    /// Is `id` this turn's message? A reply that names none means the open turn.
    pub fn is_named_by(&self, id: Option<&MessageId>) -> bool {
        id.is_none_or(|id| *id == self.pending.message)
    }
}
