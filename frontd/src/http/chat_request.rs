//! The body of a chat-completions request: foreign bytes in, the few fields that we use out, or
//! a refusal that names the field. Pure. The body's size is the caller's to bound.
//!
//! The bytes are read in one pass, straight into the fields: what is not used is skipped without
//! being built, so memory stays within a small multiple of the body, whatever its shape, and
//! nesting cannot go deeper than the types below.

mod read;

use crate::openclaw;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    pub model: Option<String>,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    pub user: Option<String>,
    pub prompt_cache_key: Option<String>,
    /// At least one of them is the user's.
    pub messages: Vec<Message>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    /// Text parts are joined by a line feed; no content is the empty text.
    pub text: String,
    pub has_tool_calls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    /// The deprecated form of `tool`.
    Function,
}

/// Why a request is answered with 400: the client's fault, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    pub message: String,
    /// The field or header at fault, in the OpenAI API's notation: `messages.[2].content`.
    pub param: Option<String>,
    pub code: &'static str,
}

impl BadRequest {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: None, code }
    }

    pub fn of(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.into()), code }
    }
}

/// Reads a whole body. Unknown fields are ignored: clients and proxies add their own.
///
/// # Errors
/// Broken JSON, a wrong type, a part that is no text, `n` over 1, no message of the user.
pub fn parse(body: &[u8]) -> Result<ChatRequest, BadRequest> {
    let request = read::body(body)?;
    if request.messages.is_empty() {
        let message = "`messages` must hold at least one message";
        return Err(BadRequest::of("messages", "missing_required_parameter", message));
    }
    if !request.messages.iter().any(|message| message.role == Role::User) {
        let message = "`messages` must hold a message with the role `user`";
        return Err(BadRequest::of("messages", "missing_required_parameter", message));
    }
    Ok(request)
}

/// What the person said since the last answer; claude's own process remembers all before it.
///
/// An answer is an assistant message with text and no tool calls: one with tool calls belongs to
/// the turn that is still in progress.
///
/// # Errors
/// When the person said nothing new.
pub fn new_text(request: &ChatRequest) -> Result<String, BadRequest> {
    let is_answer = |message: &Message| {
        message.role == Role::Assistant
            && !message.has_tool_calls
            && !message.text.trim().is_empty()
    };
    let since = request.messages.iter().rposition(is_answer).map_or(0, |answer| answer + 1);
    let said: Vec<String> = request
        .messages
        .iter()
        .skip(since)
        .filter(|message| message.role == Role::User)
        .filter_map(|message| openclaw::person_text(&message.text))
        .collect();
    if said.is_empty() {
        let message = "no text of the user stands after the last answer in `messages`";
        return Err(BadRequest::of("messages", "no_new_message", message));
    }
    Ok(said.join("\n\n"))
}

#[cfg(test)]
mod tests;
