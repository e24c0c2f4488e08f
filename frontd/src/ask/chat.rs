//! The body of `POST /v1/chat/completions`.

mod read;

use super::message::{Message, Role, Settled, settle};
use super::{Ask, BadRequest};

/// The fields that we use.
#[derive(Default)]
struct ChatRequest<'a> {
    model: Option<String>,
    stream: bool,
    include_usage: bool,
    user: Option<String>,
    prompt_cache_key: Option<String>,
    messages: Vec<Message<'a>>,
}

/// Reads a whole body, whose size is the caller's to bound. Unknown fields are ignored: clients
/// and proxies add their own.
///
/// # Errors
/// Broken JSON, a wrong type, `n` over 1, nothing new of the user, a part that is not taken.
pub fn parse(body: &[u8]) -> Result<Ask, BadRequest> {
    let request = read::body(body)?;
    if request.messages.is_empty() {
        let message = "`messages` must hold at least one message";
        return Err(BadRequest::of("messages", "missing_required_parameter", message));
    }
    if !request.messages.iter().any(|message| message.role == Role::User) {
        let message = "`messages` must hold a message with the role `user`";
        return Err(BadRequest::of("messages", "missing_required_parameter", message));
    }
    let ChatRequest { model, stream, include_usage, user, prompt_cache_key, messages } = request;
    let Settled { runtime, instructions, history, hashes, new } = settle(messages, "messages")?;
    Ok(Ask {
        model,
        stream,
        include_usage,
        user,
        prompt_cache_key,
        runtime,
        instructions,
        history,
        hashes,
        new,
    })
}

#[cfg(test)]
mod tests;
