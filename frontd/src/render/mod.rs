//! From events to bytes for a client: pure functions. [`chat`] speaks chat completions, [`sse`]
//! frames what is streamed.

pub mod chat;
pub mod sse;
