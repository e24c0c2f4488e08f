//! What all three APIs have in common: a list of messages. It is settled here into what was said
//! before, what is new and what instructs.

use std::borrow::Cow;

use super::attachment::{self, Attachment, MAX_FILES};
use super::history;
use super::retry::{self, Written};
use super::{BadRequest, Said, Speaker};
use crate::openclaw::{self, RuntimeLine};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    /// A tool's output, also in the deprecated form `function`.
    Tool,
}

/// One message as the client wrote it. File data is the body's own bytes where they could be
/// borrowed: nothing is copied or decoded before it is known to be new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    pub id: Option<String>,
    pub role: Role,
    /// Text parts are joined by a line feed; no content is the empty text.
    pub text: String,
    pub files: Vec<FilePart<'a>>,
    /// An assistant message that ended its turn: it says something and calls no tool.
    pub is_answer: bool,
}

/// A part of a message that is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart<'a> {
    /// Where it stands: `messages.[2].content.[0]`.
    pub param: String,
    pub content: FileContent<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent<'a> {
    /// What should be a data URL.
    Url { url: Cow<'a, str>, name: Option<String>, media_type: Option<String> },
    /// What we do not take, and why, in words for the client.
    Unsupported(&'static str),
}

/// The new message: all that the person said since the last answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The client's own id of the last of them.
    pub client_id: Option<String>,
    /// Joined by blank lines; empty if there are only files.
    pub text: String,
    pub files: Vec<Attachment>,
    parts: Vec<Part>,
    last: Last,
}

/// One message of those that are joined in [`NewMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Where its text begins, if it has any.
    start: Option<usize>,
    files: usize,
    /// Of the person's words, if they are any.
    hash: Option<u64>,
}

/// Who wrote the last message of the new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Person,
    /// The person, and OpenClaw sends it again.
    Again,
    /// OpenClaw: it wants the turn before to go on.
    Continue,
}

impl NewMessage {
    /// Adds one message, unless there is nothing in it.
    fn add(&mut self, id: Option<String>, written: Option<Written>, files: Vec<Attachment>) {
        let (text, last) = match written {
            None | Some(Written::Note) => (None, Last::Person),
            Some(Written::Once(text)) => (Some(text), Last::Person),
            Some(Written::Again(text)) => (Some(text), Last::Again),
            // The message to go on with stands before it.
            Some(Written::Continue(_)) if !self.parts.is_empty() => (None, Last::Again),
            Some(Written::Continue(text)) => (Some(text), Last::Continue),
        };
        if text.is_none() && files.is_empty() {
            if last == Last::Again {
                self.last = last;
            }
            return;
        }
        self.client_id = id;
        self.last = last;
        let hash = text.as_deref().filter(|_| last != Last::Continue).map(history::hash);
        let start = text.map(|text| {
            if !self.text.is_empty() {
                self.text.push_str("\n\n");
            }
            let start = self.text.len();
            self.text.push_str(&text);
            start
        });
        self.parts.push(Part { start, files: files.len(), hash });
        self.files.extend(files);
    }

    /// Does OpenClaw send it again?
    pub fn again(&self) -> bool {
        match self.last {
            Last::Person => false,
            Last::Again | Last::Continue => true,
        }
    }

    /// Is it a prompt of OpenClaw's alone?
    pub(super) fn continues(&self) -> bool {
        self.last == Last::Continue && self.parts.len() == 1
    }

    /// The text from its last message on, then from the one before, and so forth.
    pub(super) fn latest(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().rev().filter_map(|part| self.text.get(part.start?..))
    }

    /// The hash of each of the person's messages in it, in order: what claude has seen once it
    /// was pushed. Messages without text have none.
    pub fn hashes(&self) -> Vec<u64> {
        self.parts.iter().filter_map(|part| part.hash).collect()
    }

    /// Of all of its messages but the last one.
    pub(super) fn earlier_hashes(&self) -> impl Iterator<Item = u64> {
        let earlier = self.parts.split_last().map_or(&[][..], |(_, earlier)| earlier);
        earlier.iter().filter_map(|part| part.hash)
    }

    /// Leaves out its messages up to and with the `count`th that has text.
    pub(super) fn leave_out(&mut self, count: usize) {
        let with_text = |part: &Part| part.hash.is_some();
        let mut left = count;
        let parts = self
            .parts
            .iter()
            .take_while(|part| {
                let take = left > 0;
                left -= usize::from(take && with_text(part));
                take
            })
            .count();
        let files: usize = self.parts.drain(..parts).map(|part| part.files).sum();
        self.files.drain(..files);
        let first = self.parts.iter().find_map(|part| part.start);
        let cut = first.unwrap_or(self.text.len());
        self.text.drain(..cut);
        for start in self.parts.iter_mut().filter_map(|part| part.start.as_mut()) {
            *start -= cut;
        }
    }
}

impl From<&str> for NewMessage {
    /// One message of text.
    fn from(text: &str) -> Self {
        let mut new = Self::default();
        new.add(None, Some(Written::Once(text.to_owned())), Vec::new());
        new
    }
}

/// What a list of messages comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) runtime: Option<RuntimeLine>,
    pub(super) instructions: Option<String>,
    pub(super) history: Vec<Said>,
    pub(super) hashes: Vec<Option<u64>>,
    pub(super) new: NewMessage,
}

/// Settles the messages of `param`.
///
/// New is what the person said since the last answer: an assistant message that calls tools belongs
/// to the turn that is still in progress. Files of older messages were answered already and are not
/// looked at.
pub(super) fn settle(messages: Vec<Message<'_>>, param: &str) -> Result<Settled, BadRequest> {
    let runtime = openclaw::runtime_line(&messages);
    let instructions = instructions(&messages);
    let answer = messages.iter().rposition(|message| message.is_answer);
    let since = answer.map_or(0, |answer| answer + 1);
    let (mut history, mut new) = (Vec::new(), NewMessage::default());
    for (index, message) in messages.into_iter().enumerate() {
        match message.role {
            Role::System | Role::Developer | Role::Tool => {}
            Role::Assistant => {
                if index < since && !message.text.trim().is_empty() {
                    history.push(Said { who: Speaker::Assistant, text: message.text });
                }
            }
            Role::User => {
                let text = openclaw::person_text(&message.text);
                if index < since || text.as_deref().is_some_and(openclaw::is_summary) {
                    history.extend(text.and_then(of_person));
                } else {
                    let files = files(message.files, new.files.len())?;
                    new.add(message.id, text.map(retry::written), files);
                }
            }
        }
    }
    if new.parts.is_empty() {
        let message = format!("nothing of the user stands after the last answer in `{param}`");
        return Err(BadRequest::of(param, "no_new_message", message));
    }
    let hashes = history.iter().map(history::hash_of).collect();
    Ok(Settled { runtime, instructions, history, hashes, new })
}

/// What the person said in the past; OpenClaw's own prompts and notes are left out.
fn of_person(text: String) -> Option<Said> {
    match retry::written(text) {
        Written::Once(text) | Written::Again(text) => Some(Said { who: Speaker::Person, text }),
        Written::Continue(_) | Written::Note => None,
    }
}

fn instructions(messages: &[Message<'_>]) -> Option<String> {
    let texts: Vec<&str> = messages
        .iter()
        .filter(|message| matches!(message.role, Role::System | Role::Developer))
        .map(|message| message.text.trim())
        .filter(|text| !text.is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

fn files(parts: Vec<FilePart<'_>>, before: usize) -> Result<Vec<Attachment>, BadRequest> {
    if before + parts.len() > MAX_FILES {
        let param = parts.first().map_or("", |part| &part.param);
        let message = format!("a message may have at most {MAX_FILES} files");
        return Err(BadRequest::of(param, "too_many_files", message));
    }
    parts.into_iter().map(attachment::read).collect()
}

#[cfg(test)]
mod tests;
