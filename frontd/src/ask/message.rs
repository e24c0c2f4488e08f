//! What all three APIs have in common: a list of messages. It is settled here into what was said
//! before, what is new and what instructs.

use std::borrow::Cow;

use super::attachment::{self, Attachment, MAX_FILES};
use super::history;
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
}

/// One message of those that are joined in [`NewMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Where its text begins.
    start: usize,
    files: usize,
    /// `None`: it has no text.
    hash: Option<u64>,
}

impl NewMessage {
    fn add(&mut self, text: Option<&str>, files: Vec<Attachment>) {
        let mut start = self.text.len();
        if let Some(text) = text {
            if !self.text.is_empty() {
                self.text.push_str("\n\n");
                start = self.text.len();
            }
            self.text.push_str(text);
        }
        self.parts.push(Part { start, files: files.len(), hash: text.map(history::hash) });
        self.files.extend(files);
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
        let start = self.parts.first().map_or(self.text.len(), |part| part.start);
        self.text.drain(..start);
        for part in &mut self.parts {
            part.start -= start;
        }
    }
}

impl From<&str> for NewMessage {
    /// One message of text.
    fn from(text: &str) -> Self {
        let mut new = Self::default();
        new.add(Some(text), Vec::new());
        new
    }
}

/// What a list of messages comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) runtime: Option<RuntimeLine>,
    pub(super) instructions: Option<String>,
    pub(super) history: Vec<Said>,
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
                if !message.text.trim().is_empty() {
                    history.push(Said { who: Speaker::Assistant, text: message.text });
                }
            }
            Role::User => {
                let text = openclaw::person_text(&message.text);
                if index < since || text.as_deref().is_some_and(openclaw::is_summary) {
                    history.extend(text.map(|text| Said { who: Speaker::Person, text }));
                    continue;
                }
                let files = files(message.files, new.files.len())?;
                if text.is_some() || !files.is_empty() {
                    new.add(text.as_deref(), files);
                    new.client_id = message.id;
                }
            }
        }
    }
    if new.parts.is_empty() {
        let message = format!("nothing of the user stands after the last answer in `{param}`");
        return Err(BadRequest::of(param, "no_new_message", message));
    }
    Ok(Settled { runtime, instructions, history, new })
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
