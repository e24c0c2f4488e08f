//! What the mock answers to a request: pure, from the request's last turn to one [`Answer`].
//! The turn's state is the request itself: each step repeats the conversation.

use std::time::Duration;

use serde_json::{Value, json};

use super::request::{self, Turn};
use crate::directive::{self, Action};

/// One answer of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) side: bool,
    pub(super) wait: Duration,
    pub(super) say: Say,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Say {
    /// Text, and the end of the turn.
    Text(String),
    /// Text (may be empty) and the call of a tool.
    Call { text: String, name: String, input: Value },
    /// A beginning that never goes on.
    Hang,
    /// An HTTP error.
    Error { status: u16 },
}

const DONE: &str = "Done.";

pub(super) fn answer(body: &Value) -> Answer {
    if request::is_side_call(body) {
        let text = if request::wants_json(body) { r#"{"title":"Demo"}"# } else { "Demo" };
        return Answer { side: true, wait: Duration::ZERO, say: Say::Text(text.to_owned()) };
    }
    let turn = request::read(body);
    let script = directive::parse(&turn.content);
    let mut wait = if turn.step == 0 { script.slow } else { Duration::ZERO };
    if let (Action::Chunks { pause, .. }, 1..) = (&script.action, turn.step) {
        wait = *pause;
    }
    Answer { side: false, wait, say: say(&turn, script.action) }
}

fn say(turn: &Turn, action: Action) -> Say {
    match (action, turn.step) {
        (Action::TextOnly(text), _) => Say::Text(text),
        (Action::Mute, _) => Say::Text(String::new()),
        (Action::Hang, _) => Say::Hang,
        (Action::ApiError { status }, _) => Say::Error { status },
        (Action::Say(text), 0) => reply(turn, &text),
        (Action::Big { kib }, 0) => reply(turn, &directive::big_text(kib)),
        (Action::UseTool { name, input }, 0) => Say::Call {
            text: "Using the tool.".to_owned(),
            name,
            input: serde_json::from_str(&input).unwrap_or_else(|_| json!({})),
        },
        (Action::UseTool { .. }, 1) => reply(turn, &turn.last_result),
        (Action::Files, 0) => match turn.file.clone() {
            Some(path) => Say::Call {
                text: String::new(),
                name: "Read".to_owned(),
                input: json!({"file_path": path}),
            },
            None => reply(turn, "no files"),
        },
        (Action::Files, 1) => reply(turn, &turn.last_result),
        (Action::Display { count, .. }, 0) => {
            let lines = (1..=count).map(|index| directive::display_text(index, count));
            with_text(reply(turn, &format!("You said: {}", turn.content)), lines.collect())
        }
        (Action::Chunks { count, .. }, step) if step < count => {
            let text = directive::chunk_text(step + 1, count);
            reply_with(turn, &text, step + 1 == count, true)
        }
        (Action::Double, 0 | 1) => reply(turn, &format!("You said: {}", turn.content)),
        (Action::ForeignId, 0) => reply_with(turn, "for nobody", true, false),
        (Action::ForeignId, 1) => reply(turn, &format!("You said: {}", turn.content)),
        (
            Action::Say(_)
            | Action::Big { .. }
            | Action::UseTool { .. }
            | Action::Files
            | Action::Display { .. }
            | Action::Chunks { .. }
            | Action::Double
            | Action::ForeignId,
            _,
        ) => Say::Text(DONE.to_owned()),
        // What only a process can do is an ordinary message here.
        (
            Action::Echo
            | Action::Crash
            | Action::Exit { .. }
            | Action::NoStop
            | Action::Late { .. }
            | Action::WrongOrder
            | Action::KillChannel
            | Action::EchoEnv
            | Action::EchoInstructions
            | Action::ClaimTool(_)
            | Action::Compact
            | Action::Stages
            | Action::NoReceipt,
            0,
        ) => reply(turn, &format!("You said: {}", turn.content)),
        (
            Action::Echo
            | Action::Crash
            | Action::Exit { .. }
            | Action::NoStop
            | Action::Late { .. }
            | Action::WrongOrder
            | Action::KillChannel
            | Action::EchoEnv
            | Action::EchoInstructions
            | Action::ClaimTool(_)
            | Action::Compact
            | Action::Stages
            | Action::NoReceipt,
            _,
        ) => Say::Text(DONE.to_owned()),
    }
}

/// Says this before it calls its tool.
fn with_text(say: Say, text: String) -> Say {
    match say {
        Say::Call { name, input, .. } => Say::Call { text, name, input },
        text @ (Say::Text(_) | Say::Hang | Say::Error { .. }) => text,
    }
}

fn reply(turn: &Turn, text: &str) -> Say {
    reply_with(turn, text, true, true)
}

/// Calls the reply tool; without one (no channel, or it died) the text ends the turn.
fn reply_with(turn: &Turn, text: &str, is_final: bool, own_id: bool) -> Say {
    let Some(name) = turn.reply_tool.clone() else { return Say::Text(text.to_owned()) };
    let mut input = json!({"text": text, "final": is_final});
    if !own_id {
        input["message_id"] = json!("never-was");
    } else if let Some(id) = &turn.message_id {
        input["message_id"] = json!(id);
    }
    Say::Call { text: String::new(), name, input }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation after `results` tool calls in a turn with this message.
    fn body(content: &str, results: &[&str]) -> Value {
        let mut messages = vec![json!({"role": "user", "content": format!(
            "<channel source=\"s\" chat_id=\"c\" message_id=\"m1\">\n{content}\n</channel>")})];
        for result in results {
            messages.push(json!({"role": "assistant", "content": [{"type": "tool_use"}]}));
            messages.push(json!({"role": "user",
                "content": [{"type": "tool_result", "content": result}]}));
        }
        json!({"messages": messages, "tools": [{"name": "mcp__s__reply"}]})
    }

    fn call(text: &str, is_final: bool) -> Say {
        let input = json!({"text": text, "final": is_final, "message_id": "m1"});
        Say::Call { text: String::new(), name: "mcp__s__reply".to_owned(), input }
    }

    #[test]
    fn a_plain_message_is_replied_to_then_done() {
        assert_eq!(answer(&body("hello", &[])).say, call("You said: hello", true));
        assert_eq!(answer(&body("hello", &["sent"])).say, Say::Text("Done.".to_owned()));
    }

    #[test]
    fn chunks_end_with_the_final_one() {
        assert_eq!(answer(&body("CHUNKS 2", &[])).say, call("chunk 1/2\n", false));
        assert_eq!(answer(&body("CHUNKS 2", &["sent"])).say, call("chunk 2/2\n", true));
        let end = answer(&body("CHUNKS 2", &["sent", "sent"]));
        assert_eq!(end.say, Say::Text("Done.".to_owned()));
    }

    #[test]
    fn a_tools_result_becomes_the_reply() {
        let first = answer(&body("USE_TOOL Bash {\"command\":\"true\"}", &[])).say;
        assert!(matches!(first, Say::Call { name, .. } if name == "Bash"));
        let second = answer(&body("USE_TOOL Bash {\"command\":\"true\"}", &["out"])).say;
        assert_eq!(second, call("out", true));
    }

    #[test]
    fn a_call_without_tools_is_a_side_call() {
        let mut side = body("HANG", &[]);
        side["tools"] = json!([]);
        assert!(answer(&side).side);
        side["output_config"] = json!({"format": {"type": "json_schema"}});
        assert_eq!(answer(&side).say, Say::Text(r#"{"title":"Demo"}"#.to_owned()));
    }

    #[test]
    fn without_a_reply_tool_the_text_ends_the_turn() {
        let mut alone = body("SAY x", &[]);
        alone["tools"] = json!([{"name": "Bash"}]);
        assert_eq!(answer(&alone).say, Say::Text("x".to_owned()));
    }
}
