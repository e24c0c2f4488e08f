//! What a request asks of a session, whatever API it came by: foreign bytes in, an [`Ask`] out, or
//! a refusal that names the field. Pure: no I/O, no clock.
//!
//! [`chat`], [`responses`], [`ui`] and [`run`] read the bodies, [`attachment`] takes files out of
//! them, [`history`] judges what claude knows already, [`retry`] recognises a request that came
//! before, [`media`] finds files that an answer names.

pub mod attachment;
pub mod bad_request;
pub mod chat;
pub mod context;
pub mod fingerprint;
pub mod history;
pub mod media;
pub mod message;
mod read;
pub mod responses;
pub mod retry;
pub mod run;
pub mod ui;

pub use attachment::Attachment;
pub use bad_request::BadRequest;
pub use fingerprint::fingerprint;
pub use message::NewMessage;

use crate::openclaw::RuntimeLine;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub model: Option<String>,
    pub stream: bool,
    /// `stream_options.include_usage` of a chat completion; the other APIs have no such choice.
    pub include_usage: bool,
    pub user: Option<String>,
    pub prompt_cache_key: Option<String>,
    pub runtime: Option<RuntimeLine>,
    /// All system and developer text, in order, joined by a blank line.
    pub instructions: Option<String>,
    /// In order, all that was said before the new message; tool traffic is left out.
    pub history: Vec<Said>,
    /// Of each in the history: made while the body is read, which has a thread of its own if it is
    /// long. `None` where it tells nothing.
    hashes: Vec<Option<u64>>,
    pub new: NewMessage,
}

impl Ask {
    /// All of this was said before what the request itself tells of the past.
    pub fn put_before(&mut self, told: Vec<Said>) {
        self.hashes.splice(0..0, told.iter().map(history::hash_of));
        self.history.splice(0..0, told);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Person,
    Assistant,
}

/// One thing that was said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub who: Speaker,
    pub text: String,
}
