//! The body of the AI SDK's `POST /api/chat`.

use super::{Ask, BadRequest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiAsk {
    /// The chat's id, 1 to 512 bytes.
    pub chat: String,
    /// The trigger was `regenerate-message`.
    pub regenerate: bool,
    /// The person went back to an older message: regenerated or edited it.
    pub rewinds: bool,
    pub ask: Ask,
}

/// Reads a whole body.
///
/// # Errors
/// Broken JSON, a wrong type, nothing new of the user, a file that is not taken.
pub fn parse(body: &[u8]) -> Result<UiAsk, BadRequest> {
    let _ = body;
    Err(BadRequest::new("not_implemented", "not yet"))
}
