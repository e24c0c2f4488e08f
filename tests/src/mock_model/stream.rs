//! An [`Answer`]'s content as the Messages API renders it: server-sent events or one JSON
//! object. Pure: bytes out.

use serde_json::{Value, json};
use uuid::Uuid;

use super::script::Say;

/// What every message of the API repeats about itself.
pub(super) struct Envelope {
    pub(super) model: String,
    /// Characters of the request, for the token count.
    pub(super) characters: usize,
}

/// Bytes of text in one delta: small enough that a long answer really streams.
const DELTA: usize = 4096;

/// The events of a whole answer, or of the beginning of one that hangs.
pub(super) fn events(envelope: &Envelope, say: &Say) -> Vec<String> {
    let mut events = vec![event(json!({"type": "message_start",
        "message": message(envelope, json!([]), Value::Null, 1)}))];
    let (text, call) = parts(say);
    let mut index = 0;
    if !text.is_empty() || call.is_none() {
        let block = json!({"type": "text", "text": ""});
        events.push(start(index, block));
        events.push(event(json!({"type": "ping"})));
        for part in pieces(text) {
            events.push(delta(index, json!({"type": "text_delta", "text": part})));
        }
        if matches!(say, Say::Hang) {
            return events;
        }
        events.push(stop(index));
        index += 1;
    }
    if let Some((name, input)) = call {
        events.push(start(
            index,
            json!({"type": "tool_use", "id": tool_use_id(), "name": name, "input": {}}),
        ));
        for part in pieces(&input.to_string()) {
            events.push(delta(index, json!({"type": "input_json_delta", "partial_json": part})));
        }
        events.push(stop(index));
    }
    events.push(event(json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(say), "stop_sequence": null},
        "usage": {"output_tokens": output_tokens(say)}})));
    events.push(event(json!({"type": "message_stop"})));
    events
}

/// The answer to a request that did not ask for a stream.
pub(super) fn whole(envelope: &Envelope, say: &Say) -> Value {
    let (text, call) = parts(say);
    let mut content = Vec::new();
    if !text.is_empty() || call.is_none() {
        content.push(json!({"type": "text", "text": text}));
    }
    if let Some((name, input)) = call {
        content
            .push(json!({"type": "tool_use", "id": tool_use_id(), "name": name, "input": input}));
    }
    message(envelope, Value::Array(content), json!(stop_reason(say)), output_tokens(say))
}

/// The API's error object, with the type that belongs to the status.
pub(super) fn error(status: u16) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": format!("mock error {status}")},
        "request_id": format!("req_{}", Uuid::new_v4().simple())})
}

fn parts(say: &Say) -> (&str, Option<(&str, &Value)>) {
    match say {
        Say::Text(text) => (text, None),
        Say::Call { text, name, input } => (text, Some((name, input))),
        Say::Hang => ("Thinking about it", None),
        Say::Error { .. } => ("", None),
    }
}

fn message(envelope: &Envelope, content: Value, stop_reason: Value, output: usize) -> Value {
    json!({"id": format!("msg_{}", Uuid::new_v4().simple()), "type": "message",
        "role": "assistant", "model": envelope.model, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": 100 + envelope.characters / 4,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": output, "service_tier": "standard"}})
}

fn stop_reason(say: &Say) -> &'static str {
    match say {
        Say::Call { .. } => "tool_use",
        Say::Text(_) | Say::Hang | Say::Error { .. } => "end_turn",
    }
}

/// About four characters make a token.
fn output_tokens(say: &Say) -> usize {
    let (text, call) = parts(say);
    let input = call.map_or(0, |(_, input)| input.to_string().len());
    ((text.len() + input) / 4).max(1)
}

fn tool_use_id() -> String {
    format!("toolu_{}", &Uuid::new_v4().simple().to_string()[..20])
}

fn start(index: usize, block: Value) -> String {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn delta(index: usize, delta: Value) -> String {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop(index: usize) -> String {
    event(json!({"type": "content_block_stop", "index": index}))
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("error"))
}

/// Cuts a text into pieces of at most [`DELTA`] bytes, never inside a character.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let mut end = text.len().min(DELTA);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        pieces.push(&text[..end]);
        text = &text[end..];
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope { model: "m".to_owned(), characters: 400 }
    }

    #[test]
    fn a_text_streams_whole_and_ends() {
        let text = "é".repeat(5000);
        let events = events(&envelope(), &Say::Text(text.clone())).concat();
        let parts: String = events
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter_map(|data| data["delta"]["text"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(parts, text);
        assert!(events.ends_with("\"type\":\"message_stop\"}\n\n"), "{events}");
        assert!(events.contains("\"input_tokens\":200"));
    }

    #[test]
    fn a_hanging_answer_never_ends() {
        let events = events(&envelope(), &Say::Hang).concat();
        assert!(events.contains("text_delta") && !events.contains("block_stop"));
    }

    #[test]
    fn a_call_without_text_is_one_block() {
        let say = Say::Call { text: String::new(), name: "t".into(), input: json!({"a": 1}) };
        let whole = whole(&envelope(), &say);
        assert_eq!(whole["content"].as_array().unwrap().len(), 1);
        assert_eq!(whole["stop_reason"], "tool_use");
    }
}
