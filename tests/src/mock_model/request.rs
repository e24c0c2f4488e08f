//! Reading a Messages API request: where its last turn begins, what it says, which tools it
//! offers and what they gave. Pure; tolerant of everything that the CLI may add.

use serde_json::Value;

use crate::channel_tag;

/// The part of a request that the script depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// The person's words in the last message that holds any.
    pub(super) content: String,
    /// The tag's `message_id`, when the message came through the channel.
    pub(super) message_id: Option<String>,
    /// The path of the message's first file.
    pub(super) file: Option<String>,
    /// How often the model has spoken in this turn already.
    pub(super) step: usize,
    /// The text of the last tool's result.
    pub(super) last_result: String,
    /// The name of the tool that replies, when one is offered.
    pub(super) reply_tool: Option<String>,
    /// Characters of all messages, for a plausible token count.
    pub(super) characters: usize,
}

/// Is this one of the CLI's own questions (title, summary, quota)? They offer no tool.
pub(super) fn is_side_call(body: &Value) -> bool {
    body["tools"].as_array().is_none_or(Vec::is_empty)
}

/// Does the answer have to be JSON?
pub(super) fn wants_json(body: &Value) -> bool {
    body["output_config"]["format"]["type"] == "json_schema"
        || body["output_format"]["type"] == "json_schema"
}

pub(super) fn read(body: &Value) -> Turn {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut turn = Turn {
        reply_tool: reply_tool(body),
        characters: messages.iter().map(|message| characters(&message["content"])).sum(),
        ..Turn::default()
    };
    for message in messages.iter().rev() {
        let content = &message["content"];
        if message["role"] == "assistant" {
            turn.step += 1;
            continue;
        }
        if turn.last_result.is_empty() {
            turn.last_result = tool_result(content);
        }
        let text = text_of(content);
        if let Some(tag) = channel_tag::find_all(&text).pop() {
            turn.message_id = tag.attribute("message_id").map(str::to_owned);
            turn.file = tag.attribute("file_1").map(str::to_owned);
            turn.content = tag.content;
            return turn;
        }
        // Blocks beside a tool's result are the CLI's own; a person's message has none.
        if !text.trim().is_empty() && message["role"] == "user" && !has_tool_result(content) {
            turn.content = text.trim().to_owned();
            return turn;
        }
    }
    turn
}

fn reply_tool(body: &Value) -> Option<String> {
    let tools = body["tools"].as_array()?;
    let mut names = tools.iter().filter_map(|tool| tool["name"].as_str());
    names.find(|name| name.ends_with("__reply")).map(str::to_owned)
}

/// All text of a message but the CLI's reminders.
fn text_of(content: &Value) -> String {
    let mut text = String::new();
    match content {
        Value::String(whole) => push_without_reminders(&mut text, whole),
        Value::Array(blocks) => {
            for block in blocks.iter().filter(|block| block["type"] == "text") {
                push_without_reminders(&mut text, block["text"].as_str().unwrap_or_default());
                text.push('\n');
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
    text
}

fn push_without_reminders(out: &mut String, mut text: &str) {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    while let Some(start) = text.find(OPEN) {
        let Some(length) = text[start..].find(CLOSE) else { break };
        out.push_str(&text[..start]);
        text = &text[start + length + CLOSE.len()..];
    }
    out.push_str(text);
}

fn has_tool_result(content: &Value) -> bool {
    content
        .as_array()
        .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_result"))
}

fn tool_result(content: &Value) -> String {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let last = blocks.iter().rev().find(|block| block["type"] == "tool_result");
    last.map(|block| {
        let pictures = block["content"].as_array().into_iter().flatten().filter_map(picture);
        let text = text_of(&block["content"]) + &pictures.collect::<String>();
        text.trim_end().to_owned()
    })
    .unwrap_or_default()
}

/// What a picture is, in words.
fn picture(block: &Value) -> Option<String> {
    let source = &block["source"];
    let (kind, data) = (source["media_type"].as_str()?, source["data"].as_str()?);
    Some(format!("picture {kind}, {} characters of base64", data.len()))
}

fn characters(content: &Value) -> usize {
    match content {
        Value::String(text) => text.len(),
        Value::Array(blocks) => blocks.iter().map(characters).sum(),
        Value::Object(fields) => fields.values().map(characters).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(messages: Value) -> Turn {
        read(&json!({"messages": messages, "tools": [{"name": "mcp__synthesis__reply"}]}))
    }

    const TAG: &str =
        "<channel source=\"synthesis\" chat_id=\"c\" message_id=\"m1\">\nSAY x\n</channel>";

    #[test]
    fn the_tag_is_found_among_reminders() {
        let turn = asked(json!([{"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>HANG</system-reminder>"},
            {"type": "text", "text": TAG}]}]));
        assert_eq!(turn.content, "SAY x");
        assert_eq!(turn.message_id.as_deref(), Some("m1"));
        assert_eq!(turn.reply_tool.as_deref(), Some("mcp__synthesis__reply"));
        assert_eq!(turn.step, 0);
    }

    #[test]
    fn a_tool_result_is_a_later_step_of_the_same_turn() {
        let turn = asked(json!([
            {"role": "user", "content": "old"},
            {"role": "assistant", "content": "old answer"},
            {"role": "user", "content": [{"type": "text", "text": TAG}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash"}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t",
                 "content": [{"type": "text", "text": "out"}]},
                {"type": "text", "text": "<system-reminder>CRASH</system-reminder>"}]},
        ]));
        assert_eq!((turn.step, turn.last_result.as_str()), (1, "out"));
        assert_eq!(turn.content, "SAY x");
    }

    #[test]
    fn anything_at_all_can_be_read() {
        for body in [json!(null), json!([]), json!({"messages": 3}), json!({"messages": [[], 1]})] {
            assert_eq!(read(&body).content, "");
        }
    }
}
