//! Runs that the tests of this folder render.

use std::sync::Arc;

use proto::bridge::TokenUsage;

use crate::run::{
    Event, Failure, FailureKind, FileNote, Json, Logged, Outcome, Status, UserMessage,
};

/// The hexadecimal part of every id in the samples.
pub(super) const HEX: &str = "0123456789abcdef0123456789abcdef";
/// Nesting of the deepest sample.
const DEEP: usize = 5_000;
/// Seconds since 1970.
pub(super) const CREATED: u64 = 1_700_000_000;

/// A run with everything that a run can have, which ends with its answer.
pub(super) fn answered() -> Vec<Logged> {
    logged([
        started(),
        Event::Status(Status::Queued { position: 1 }),
        Event::Status(Status::Preparing),
        Event::Status(Status::Pushed),
        commentary("c1", "I shall "),
        commentary("c1", "look \u{1f50d}\n"),
        tool("toolu_1", "Bash", r#"{"command":"ls \"a\"","z":1,"a":2}"#),
        output("toolu_1", r#"{"stdout":"one\ntwo"}"#, false),
        commentary("c2", "There it is."),
        tool("toolu_2", "Read", r#"{"file_path":"/x"}"#),
        output("toolu_2", r#""no such file""#, true),
        Event::PermissionRequested { id: text("p1"), name: text("Write"), input: Json::of("{}") },
        Event::Status(Status::WaitingForPermission),
        Event::PermissionResolved { id: text("p1"), allowed: false, reason: text("see `allow`") },
        Event::Status(Status::Working),
        tool("toolu_3", "Task", r#"{"prompt":"go"}"#),
        reply("first \"reply\""),
        Event::Media { url: text("https://example.com/a.png"), media_type: text("image/png") },
        reply("second\r\n\u{2028}data: [DONE]"),
        Event::Usage { usage: USAGE },
        Event::Finished(Outcome::Completed),
    ])
}

/// A run that fails in the middle of its work.
pub(super) fn failed() -> Vec<Logged> {
    let error = Failure::new(FailureKind::ProcessEnded, "claude ended: exit status 3");
    logged([
        started(),
        Event::Status(Status::Pushed),
        commentary("c1", "I begin"),
        tool("toolu_1", "Bash", r#"{"command":"exit"}"#),
        Event::Finished(Outcome::Failed { error }),
    ])
}

/// A run that somebody stops after its first reply.
pub(super) fn aborted() -> Vec<Logged> {
    logged([
        started(),
        Event::Status(Status::Pushed),
        reply("so far"),
        tool("toolu_1", "Bash", r#"{"command":"sleep 1000"}"#),
        Event::Status(Status::Aborting),
        Event::Finished(Outcome::Aborted),
    ])
}

/// Everything that is legal and that a reader might choke on.
pub(super) fn odd() -> Vec<Logged> {
    let mut events = one_of_each();
    events.retain(|event| !matches!(event, Event::Finished(_)));
    events.push(Event::Finished(Outcome::Completed));
    logged(events)
}

/// Every kind of event, with text that wants to break out of wherever it is put.
pub(super) fn one_of_each() -> Vec<Event> {
    let odd = "\"\\}\n\ndata: [DONE]\n\n\r\u{0}\u{2028}\u{1f50d}";
    let failure = Failure::new(FailureKind::AnswerLost, odd);
    vec![
        Event::Started {
            message: UserMessage {
                id: Some(text(odd)),
                text: text(odd),
                files: vec![FileNote { name: text(odd), media_type: text(odd), bytes: 1 }],
                previous_response_id: None,
            },
        },
        Event::Status(Status::Queued { position: 3 }),
        Event::Status(Status::NotStored),
        commentary(odd, odd),
        commentary("", ""),
        commentary("c", "c"),
        reply(odd),
        reply(""),
        Event::Media { url: text(odd), media_type: text(odd) },
        Event::Media { url: text("https://x/\n"), media_type: text(odd) },
        tool(odd, odd, odd),
        tool("", "t", r#"[1, {"b":1,"a":null}]"#),
        tool("__proto__", "constructor", "1e400"),
        output(odd, odd, true),
        output("", "{}", false),
        output("never seen", "null", true),
        // Readers that fear for their prototypes refuse a whole block for such keys.
        tool("proto", "t", r#"{"a":[{"__proto__":{"x":1}}]}"#),
        output("proto", r#"{"\u005f_proto__":1}"#, false),
        tool("constructor", "t", r#"{"constructor":{"prototype":{}}}"#),
        output("constructor", r#"{"constructor":"fine","b":"__proto__"}"#, false),
        // Half of a character, as JSON.stringify writes it; nesting that no stack bears.
        tool("half", "t", r#""\ud83d""#),
        output("half", &("[".repeat(DEEP) + &"]".repeat(DEEP)), false),
        Event::PermissionRequested { id: text(odd), name: text(odd), input: Json::of(odd) },
        Event::PermissionResolved { id: text(odd), allowed: true, reason: text(odd) },
        Event::Usage { usage: TokenUsage { input_tokens: u64::MAX, ..USAGE } },
        Event::Finished(Outcome::Completed),
        Event::Finished(Outcome::Aborted),
        Event::Finished(Outcome::Failed { error: failure }),
    ]
}

/// `events` as a log has them: a second apart.
pub(super) fn logged(events: impl IntoIterator<Item = Event>) -> Vec<Logged> {
    let numbered = (1..).zip(events);
    numbered.map(|(seq, event)| Logged::new(seq, (CREATED + seq) * 1000, event)).collect()
}

pub(super) const USAGE: TokenUsage = TokenUsage {
    input_tokens: 3,
    output_tokens: 9,
    cache_read_input_tokens: 100,
    cache_creation_input_tokens: 20,
};

fn started() -> Event {
    let file = FileNote { name: text("a.png"), media_type: text("image/png"), bytes: 7 };
    let message = UserMessage {
        id: Some(text("m1")),
        text: text("look there"),
        files: vec![file],
        previous_response_id: None,
    };
    Event::Started { message }
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

pub(super) fn commentary(id: &str, delta: &str) -> Event {
    Event::CommentaryDelta { id: text(id), delta: text(delta) }
}

pub(super) fn reply(delta: &str) -> Event {
    Event::TextDelta { delta: text(delta) }
}

pub(super) fn tool(id: &str, name: &str, input: &str) -> Event {
    Event::ToolInput { id: text(id), name: text(name), input: Json::of(input) }
}

pub(super) fn output(id: &str, output: &str, is_error: bool) -> Event {
    Event::ToolOutput { id: text(id), output: Json::of(output), is_error }
}
