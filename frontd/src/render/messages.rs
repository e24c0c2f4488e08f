//! What was said in a session: a message of the person and one of the assistant for each run,
//! `{id, role, parts, timestamp, streaming}`. Pure.
//!
//! A [`RunMessages`] takes the events of one run; a [`Page`] takes runs, newest first, until it is
//! full, and gives them oldest first. A person's message that several runs were about (the client
//! sent it again under the same id) stands there once, before the first of them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::run::{Event, Failure, FileNote, Json, Logged, Outcome, RunId, UserMessage};

/// Bytes of commentary and tools that one message shows; what comes after them is left out and the
/// message says so. A turn may read files for hours, and a page shows many turns. The answer itself
/// is bounded by the run's log.
const WORK_BYTES: usize = 256 * 1024;
/// What a part counts beside its text, so that empty ones are bounded too.
const PART: usize = 64;
/// Bytes of one page. It holds at least one run, however large that is.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The messages of one run.
#[derive(Debug)]
pub struct RunMessages {
    run: RunId,
    /// Milliseconds since 1970, of the first event.
    asked: u64,
    user: Option<UserMessage>,
    /// Milliseconds since 1970, of the first part.
    answered: Option<u64>,
    parts: Vec<Part>,
    work: usize,
    truncated: bool,
    /// Its message still waits for claude.
    waits: bool,
    outcome: Option<Outcome>,
}

/// A part of the assistant's message.
#[derive(Debug)]
enum Part {
    Text(Arc<str>),
    Reasoning { id: Arc<str>, pieces: Vec<Arc<str>> },
    Tool { id: Arc<str>, name: Arc<str>, input: Json, end: Option<ToolEnd> },
    File { url: Arc<str>, media_type: Arc<str> },
}

#[derive(Debug)]
struct ToolEnd {
    output: Json,
    is_error: bool,
}

impl RunMessages {
    /// `created` in milliseconds since 1970.
    pub fn new(run: RunId, created: u64) -> Self {
        Self {
            run,
            asked: created,
            user: None,
            answered: None,
            parts: Vec::new(),
            work: 0,
            truncated: false,
            waits: true,
            outcome: None,
        }
    }

    pub fn event(&mut self, logged: &Logged) {
        let before = self.parts.len();
        self.waits &= logged.event.waits();
        match &logged.event {
            Event::Started { message } => {
                self.asked = logged.at;
                self.user = Some(message.clone());
            }
            Event::Status(_)
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. }
            | Event::Usage { .. } => {}
            Event::CommentaryDelta { id, delta } => self.commentary(id, delta),
            Event::TextDelta { delta } => self.parts.push(Part::Text(Arc::clone(delta))),
            Event::Media { url, media_type } => {
                let (url, media_type) = (Arc::clone(url), Arc::clone(media_type));
                self.parts.push(Part::File { url, media_type });
            }
            Event::ToolInput { id, name, input } => self.tool_input(id, name, input),
            Event::ToolOutput { id, output, is_error } => self.tool_output(id, output, *is_error),
            Event::Finished(outcome) => self.outcome = Some(outcome.clone()),
        }
        if self.parts.len() > before {
            self.answered.get_or_insert(logged.at);
        }
    }

    fn commentary(&mut self, id: &Arc<str>, delta: &Arc<str>) {
        if !self.has_room(delta.len()) {
            return;
        }
        if let Some(Part::Reasoning { id: open, pieces }) = self.parts.last_mut()
            && open == id
        {
            pieces.push(Arc::clone(delta));
        } else {
            let pieces = vec![Arc::clone(delta)];
            self.parts.push(Part::Reasoning { id: Arc::clone(id), pieces });
        }
    }

    fn tool_input(&mut self, id: &Arc<str>, name: &Arc<str>, input: &Json) {
        if self.has_room(id.len() + name.len() + input.get().len()) {
            let (id, name, input) = (Arc::clone(id), Arc::clone(name), input.clone());
            self.parts.push(Part::Tool { id, name, input, end: None });
        }
    }

    /// Belongs to the latest call of that id which has no end yet.
    fn tool_output(&mut self, id: &Arc<str>, output: &Json, is_error: bool) {
        if !self.has_room(output.get().len()) {
            return;
        }
        for part in self.parts.iter_mut().rev() {
            if let Part::Tool { id: known, end: end @ None, .. } = part
                && known == id
            {
                *end = Some(ToolEnd { output: output.clone(), is_error });
                return;
            }
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let work = self.work.saturating_add(bytes).saturating_add(PART);
        self.truncated |= work > WORK_BYTES;
        if !self.truncated {
            self.work = work;
        }
        !self.truncated
    }

    fn render(self) -> Rendered {
        let hex = self.run.to_string();
        let hex = hex.strip_prefix("run_").unwrap_or(&hex);
        let user = self.user.as_ref().map(|message| {
            let id = message.id.clone().unwrap_or_else(|| format!("msg_{hex}_user").into());
            let file = |file: &FileNote| UserPart::File {
                name: Arc::clone(&file.name),
                media_type: Arc::clone(&file.media_type),
                bytes: file.bytes,
            };
            let text = (!message.text.is_empty()).then(|| UserPart::Text { text: &message.text });
            let parts: Vec<_> = text.into_iter().chain(message.files.iter().map(file)).collect();
            let json = encode(&Message {
                id: &id,
                role: "user",
                parts: &parts,
                timestamp: self.asked,
                streaming: false,
                answer: None,
            });
            (id, json)
        });
        let (status, error) = match &self.outcome {
            None if self.waits => ("queued", None),
            None => ("running", None),
            Some(Outcome::Completed) => ("completed", None),
            Some(Outcome::Aborted) => ("aborted", None),
            Some(Outcome::Failed { error }) => ("failed", Some(error)),
        };
        let assistant = encode(&Message {
            id: &format!("msg_{hex}"),
            role: "assistant",
            parts: &self.parts,
            timestamp: self.answered.unwrap_or(self.asked),
            streaming: self.outcome.is_none(),
            answer: Some(Answer { run: self.run, status, error, truncated: self.truncated }),
        });
        Rendered { user, assistant }
    }
}

/// Some of a session's messages.
#[derive(Debug, Default)]
pub struct Page {
    /// Newest first.
    runs: Vec<Rendered>,
    bytes: usize,
}

#[derive(Debug)]
struct Rendered {
    /// With the message's id.
    user: Option<(Arc<str>, Vec<u8>)>,
    assistant: Vec<u8>,
}

impl Page {
    /// Takes the next older run. `false` when there was no room: it begins the next page.
    pub fn push(&mut self, run: RunMessages) -> bool {
        let run = run.render();
        let user = run.user.as_ref().map_or(0, |(_, json)| json.len());
        let bytes = self.bytes.saturating_add(user).saturating_add(run.assistant.len());
        if bytes > PAGE_BYTES && !self.runs.is_empty() {
            return false;
        }
        self.bytes = bytes;
        self.runs.push(run);
        true
    }

    /// The body. `before` is what asks for the page of older ones, if there are any.
    pub fn render(self, before: Option<u64>) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes + 64);
        out.put_slice(br#"{"object":"list","data":["#);
        let mut seen = HashSet::new();
        let mut between: &[u8] = b"";
        for Rendered { user, assistant } in self.runs.into_iter().rev() {
            let user = user.and_then(|(id, json)| seen.insert(id).then_some(json));
            for message in user.into_iter().chain([assistant]) {
                out.put_slice(between);
                out.put_slice(&message);
                between = b",";
            }
        }
        out.put_slice(br#"],"before":"#);
        out.put_slice(&encode(&before));
        out.put_slice(b"}");
        out.freeze()
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("rendered types have string keys")
}

#[derive(Serialize)]
struct Message<'a, P> {
    id: &'a str,
    role: &'static str,
    parts: &'a [P],
    /// Milliseconds since 1970.
    timestamp: u64,
    streaming: bool,
    #[serde(flatten)]
    answer: Option<Answer<'a>>,
}

/// What only the assistant's message has.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(serialize_with = "as_text")]
    run: RunId,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

fn as_text<S: Serializer>(run: &RunId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(run)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum UserPart<'a> {
    Text { text: &'a str },
    File { name: Arc<str>, media_type: Arc<str>, bytes: u64 },
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut part = to.serialize_struct("Part", 6)?;
        match self {
            Self::Text(text) => {
                part.serialize_field("type", "text")?;
                part.serialize_field("text", text)?;
            }
            Self::Reasoning { id: _, pieces } => {
                part.serialize_field("type", "reasoning")?;
                part.serialize_field("text", &pieces.concat())?;
            }
            Self::Tool { id, name, input, end } => {
                part.serialize_field("type", "tool")?;
                part.serialize_field("id", id)?;
                part.serialize_field("name", name)?;
                part.serialize_field("input", input)?;
                // Null until the tool has ended.
                part.serialize_field("output", &end.as_ref().map(|end| &end.output))?;
                part.serialize_field("is_error", &end.as_ref().map(|end| end.is_error))?;
            }
            Self::File { url, media_type } => {
                part.serialize_field("type", "file")?;
                part.serialize_field("url", url)?;
                part.serialize_field("media_type", media_type)?;
            }
        }
        part.end()
    }
}

#[cfg(test)]
mod tests;
