//! What can happen in a run, and how it can end. Plain values: no clock, no I/O.
//!
//! Each event's JSON is the store's form and the wire form of `GET /v1/runs/{id}/events` alike:
//! an object whose `type` names it.

use std::sync::Arc;

use bytes::Bytes;
use proto::bridge::TokenUsage;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::failure::Failure;

/// One entry of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The first event: what the person said.
    Started { message: UserMessage },
    /// What the run waits for or does. The latest holds until the next event.
    Status(Status),
    /// Text that claude displays while it works, a piece of it. `id` tells one message of claude's
    /// from the next.
    CommentaryDelta { id: Arc<str>, delta: Arc<str> },
    /// One reply, whole: replies are paragraphs of the answer, and the reader separates them.
    TextDelta { delta: Arc<str> },
    /// A picture or file that a reply names by its URL.
    Media { url: Arc<str>, media_type: Arc<str> },
    /// claude calls a tool. `input` is JSON, or a string where it had to be cut.
    ToolInput { id: Arc<str>, name: Arc<str>, input: Json },
    /// The tool has ended. `output` as `input`.
    ToolOutput { id: Arc<str>, output: Json, is_error: bool },
    /// claude may not use a tool without somebody's leave.
    PermissionRequested { id: Arc<str>, name: Arc<str>, input: Json },
    /// The answer, and why.
    PermissionResolved { id: Arc<str>, allowed: bool, reason: Arc<str> },
    /// Tokens of the turn so far.
    Usage { usage: TokenUsage },
    /// The last event.
    Finished(Outcome),
}

impl Event {
    /// Does the message still wait for claude, as far as this event tells?
    pub fn waits(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Status(Status::Queued { .. } | Status::Preparing | Status::NotStored)
        )
    }
}

/// JSON as it was written, on one line.
#[derive(Debug, Clone)]
pub struct Json(Arc<RawValue>);

/// The person's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMessage {
    /// The client's own id of it, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    pub text: Arc<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileNote>,
    /// The response that this one continues, if the client named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_response_id: Option<Arc<str>>,
}

/// A file of a message, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNote {
    pub name: Arc<str>,
    pub media_type: Arc<str>,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Status {
    /// `position` runs of this session come first; 0 is the next.
    Queued { position: usize },
    /// claude is being started.
    Preparing,
    /// The session took the message: claude is ready for it and it was pushed.
    Pushed,
    /// claude condenses its context.
    Compacting,
    /// claude works (again).
    Working,
    /// The message left no trace; it goes to a fresh process.
    Retrying,
    /// Somebody must allow something.
    WaitingForPermission,
    /// An abort was asked for.
    Aborting,
    /// The store takes nothing: from here on this run is in memory alone.
    NotStored,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The one final answer was given.
    Completed,
    /// Somebody asked for the end.
    Aborted,
    /// Nothing more will come, and why.
    Failed { error: Failure },
}

/// An event in its place.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Counts from 1 within the run.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    pub event: Event,
    /// The event's JSON, on one line.
    pub json: Bytes,
}

impl Logged {
    pub fn new(seq: u64, at: u64, event: Event) -> Self {
        let json = serde_json::to_vec(&event).expect("events have string keys").into();
        Self { seq, at, event, json }
    }

    /// Reads what the store kept.
    ///
    /// # Errors
    /// When `json` is none of ours.
    pub fn read(seq: u64, at: u64, json: Bytes) -> serde_json::Result<Self> {
        let mut event = serde_json::from_slice(&json)?;
        match &mut event {
            Event::ToolInput { input: value, .. }
            | Event::PermissionRequested { input: value, .. }
            | Event::ToolOutput { output: value, .. } => *value = raw_value(&json)?,
            Event::Started { .. }
            | Event::Status(_)
            | Event::CommentaryDelta { .. }
            | Event::TextDelta { .. }
            | Event::Media { .. }
            | Event::PermissionResolved { .. }
            | Event::Usage { .. }
            | Event::Finished(_) => {}
        }
        Ok(Self { seq, at, event, json })
    }
}

/// The `input` or `output` as it was written: serde's tagged enums would sort its keys.
fn raw_value(json: &[u8]) -> serde_json::Result<Json> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(alias = "output")]
        input: Box<RawValue>,
    }
    serde_json::from_slice::<Event>(json).map(|event| Json(event.input.into()))
}

impl Json {
    /// `text` if it is JSON on one line that every reader can read, else `text` as a JSON string.
    pub fn of(text: &str) -> Self {
        let plain = || serde_json::to_string(text).expect("a string");
        let compact = || {
            // Numbers out of range, halves of characters and endless nesting are JSON to few.
            // Read as deep as it will stand in the events of every API.
            serde_json::from_str::<serde_json::Value>(&format!("[[[[{text}]]]]")).ok()?;
            let value = serde_json::from_str::<&RawValue>(text).ok()?;
            (!value.get().contains(['\n', '\r'])).then(|| value.get().to_owned())
        };
        let text = compact().unwrap_or_else(plain);
        Self(RawValue::from_string(text).expect("JSON").into())
    }

    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Out of a tagged enum; [`Logged::read`] mends the order of the keys.
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self::of(&value.to_string()))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::FailureKind;

    /// The stored form: a change here needs a migration.
    #[test]
    fn events_are_spelled_like_this_and_read_back() {
        let text = |text: &str| -> Arc<str> { text.into() };
        let file = FileNote { name: text("a.png"), media_type: text("image/png"), bytes: 7 };
        let failure = Failure::new(FailureKind::CannotStart("not_logged_in"), "log in");
        for (event, json) in [
            (
                Event::Started {
                    message: UserMessage {
                        id: None,
                        text: text("hi\n"),
                        files: vec![],
                        previous_response_id: None,
                    },
                },
                r#"{"type":"started","message":{"text":"hi\n"}}"#,
            ),
            (
                Event::Started {
                    message: UserMessage {
                        id: Some(text("m1")),
                        text: text("see"),
                        files: vec![file],
                        previous_response_id: None,
                    },
                },
                r#"{"type":"started","message":{"id":"m1","text":"see","files":[{"name":"a.png","media_type":"image/png","bytes":7}]}}"#,
            ),
            (
                Event::Status(Status::Queued { position: 2 }),
                r#"{"type":"status","status":"queued","position":2}"#,
            ),
            (Event::Status(Status::NotStored), r#"{"type":"status","status":"not-stored"}"#),
            (
                Event::CommentaryDelta { id: text("c"), delta: text("so") },
                r#"{"type":"commentary-delta","id":"c","delta":"so"}"#,
            ),
            (Event::TextDelta { delta: text("yes") }, r#"{"type":"text-delta","delta":"yes"}"#),
            (
                Event::Media { url: text("https://x/a.png"), media_type: text("image/png") },
                r#"{"type":"media","url":"https://x/a.png","media_type":"image/png"}"#,
            ),
            (
                Event::ToolInput {
                    id: text("t"),
                    name: text("Bash"),
                    input: Json::of(r#"{"command":"ls","all": true}"#),
                },
                r#"{"type":"tool-input","id":"t","name":"Bash","input":{"command":"ls","all": true}}"#,
            ),
            (
                Event::ToolOutput { id: text("t"), output: Json::of("{\"cut"), is_error: false },
                r#"{"type":"tool-output","id":"t","output":"{\"cut","is_error":false}"#,
            ),
            (
                Event::PermissionRequested {
                    id: text("p"),
                    name: text("Bash"),
                    input: Json::of("{}"),
                },
                r#"{"type":"permission-requested","id":"p","name":"Bash","input":{}}"#,
            ),
            (
                Event::PermissionResolved { id: text("p"), allowed: false, reason: text("no") },
                r#"{"type":"permission-resolved","id":"p","allowed":false,"reason":"no"}"#,
            ),
            (
                Event::Usage { usage: TokenUsage { output_tokens: 3, ..TokenUsage::default() } },
                r#"{"type":"usage","usage":{"input_tokens":0,"output_tokens":3,"cache_read_input_tokens":0,"cache_creation_input_tokens":0}}"#,
            ),
            (Event::Finished(Outcome::Completed), r#"{"type":"finished","outcome":"completed"}"#),
            (
                Event::Finished(Outcome::Failed { error: failure }),
                r#"{"type":"finished","outcome":"failed","error":{"code":"not_logged_in","message":"log in"}}"#,
            ),
        ] {
            let logged = Logged::new(1, 2, event);
            assert_eq!(logged.json, json);
            let again = Logged::read(1, 2, logged.json.clone()).unwrap();
            assert_eq!(Logged::new(1, 2, again.event).json, json);
        }
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn json_stays_json_on_one_line_and_anything_else_becomes_a_string() {
        assert_eq!(Json::of(r#" {"a": 1} "#).get(), r#"{"a": 1}"#);
        assert_eq!(Json::of("{\"a\":\n1}").get(), r#""{\"a\":\n1}""#);
        assert_eq!(Json::of("plain").get(), r#""plain""#);
        assert_eq!(Json::of("").get(), r#""""#);
        for odd in [
            "1e400",
            r#""\ud83d""#,
            &"[".repeat(1000),
            &nested(123),
            &nested(124),
            &nested(127),
            &nested(200),
        ] {
            let (id, input) = ("t".into(), Json::of(odd));
            let logged = Logged::new(1, 2, Event::ToolInput { id, name: "x".into(), input });
            assert!(Logged::read(1, 2, logged.json).is_ok(), "{odd}");
        }
    }
}
