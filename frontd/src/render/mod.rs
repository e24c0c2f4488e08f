//! From events to bytes for a client: pure functions. Each module speaks one protocol: [`chat`]
//! (chat completions), [`responses`], [`ui_stream`] (AI SDK), [`run_events`] and [`messages`];
//! [`sse`] frames what is streamed. Routes read a run's log and call a [`Renderer`].

use bytes::BytesMut;

use crate::run::Logged;

pub mod chat;
pub mod messages;
pub mod responses;
pub mod run_events;
pub mod sse;
pub mod ui_stream;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

/// One streamed response. The caller gives it every event of the run, in order, from the first
/// that this client shall see; [`Event::Finished`](crate::run::Event::Finished) is the last one
/// and what it renders ends the stream.
pub trait Renderer: Send {
    /// What a client wants to see before the first event.
    fn begin(&mut self, out: &mut BytesMut);

    /// Appends what the event looks like to this client, which may be nothing.
    fn event(&mut self, logged: &Logged, out: &mut BytesMut);

    /// Appends what a client wants to see when the server stops before the run's end.
    fn cut(&mut self, _out: &mut BytesMut) {}

    /// Appends what keeps the connection alive and means nothing.
    fn keep_alive(&mut self, out: &mut BytesMut);
}
