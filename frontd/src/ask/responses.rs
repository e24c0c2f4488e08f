//! The body of `POST /v1/responses`.

use super::{Ask, BadRequest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsesAsk {
    pub ask: Ask,
    /// `previous_response_id`.
    pub previous: Option<String>,
    /// The id in `conversation`: names the session like a chat id, when nothing stronger does.
    pub conversation: Option<String>,
    pub background: bool,
}

/// Reads a whole body.
///
/// # Errors
/// Broken JSON, a wrong type, nothing new of the user, a file that is not taken.
pub fn parse(body: &[u8]) -> Result<ResponsesAsk, BadRequest> {
    let _ = body;
    Err(BadRequest::new("not_implemented", "not yet"))
}
