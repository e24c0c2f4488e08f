//! One chat completion as it is streamed: which chunk each event becomes.

use bytes::{Bytes, BytesMut};
use proto::bridge::TokenUsage;

use super::{ChatHead, Chunks};
use crate::render::{Renderer, sse};
use crate::run::{Event, Failure, FailureKind, Logged, Outcome};

/// A stream and what it has to remember.
#[derive(Debug)]
pub struct ChatStream {
    chunks: Chunks,
    /// The block for a failed run. What may be repeated is said by the same map that gives a
    /// response its status, so it comes from there.
    failed: fn(&Failure) -> Bytes,
    replies: usize,
    /// As far as it is known.
    usage: Option<TokenUsage>,
}

impl ChatStream {
    pub fn new(head: &ChatHead, failed: fn(&Failure) -> Bytes) -> Self {
        Self { chunks: Chunks::new(head), failed, replies: 0, usage: None }
    }
}

impl Renderer for ChatStream {
    fn begin(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.chunks.first);
    }

    fn event(&mut self, logged: &Logged, out: &mut BytesMut) {
        match &logged.event {
            Event::Started { .. }
            | Event::Status(_)
            | Event::CommentaryDelta { .. }
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. } => {}
            Event::TextDelta { delta } => {
                self.chunks.write_reply(self.replies, delta, out);
                self.replies += 1;
            }
            Event::Usage { usage } => self.usage = Some(*usage),
            Event::Finished(Outcome::Completed | Outcome::Aborted) => {
                out.extend_from_slice(&self.chunks.finish);
                let usage = self.usage.and_then(|usage| self.chunks.usage(usage));
                out.extend_from_slice(&usage.unwrap_or_default());
                out.extend_from_slice(&sse::DONE);
            }
            Event::Finished(Outcome::Failed { error }) => {
                out.extend_from_slice(&(self.failed)(error));
            }
        }
    }

    /// A client that repeats its request finds the run again.
    fn cut(&mut self, out: &mut BytesMut) {
        let failure = Failure::new(FailureKind::Stopping, "the server is stopping");
        out.extend_from_slice(&(self.failed)(&failure));
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.chunks.keep_alive);
    }
}
