//! Why a request is answered with 400.

/// The client's fault, in words for the client.
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
