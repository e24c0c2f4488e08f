//! The AI SDK's UI message stream, as every version from 5.0.0 to 7 reads it. Pure.
//!
//! Versions differ in what they refuse, and what one refuses kills its whole stream. So a chunk has
//! only types and keys that all of them know (5.0.0 takes no extra key, and no `finishReason`), and
//! the order is the strictest: `start`, `start-step`, parts that begin before they go on and end
//! before the step ends, `finish-step`, then `finish`, `abort` or `error`, and `[DONE]`. The chat
//! class of the SDK reads nothing after `error`: what is open is closed before.

use std::sync::Arc;

use bytes::BytesMut;
use proto::bridge::TokenUsage;
use serde::Serialize;

use super::{Renderer, sse};
use crate::run::{Event, Json, Logged, Outcome, Status};

mod foreign;

use foreign::Foreign;

/// Tools whose end has not come, in one run. More than any turn of claude's has at once; those
/// beyond are not shown.
const OPEN_TOOLS: usize = 256;

/// What the response's head must say.
pub const HEADER: (&str, &str) = ("x-vercel-ai-ui-message-stream", "v1");

/// A stream and what it has to remember.
#[derive(Debug)]
pub struct UiStream {
    /// `msg_…`.
    message_id: String,
    /// Texts and reasonings begun so far: their ids are ours, so none can come twice.
    parts: u64,
    /// The reasoning that goes on with the next piece of the same message of claude's.
    reasoning: Option<Reasoning>,
    /// Tools that were shown and have not ended.
    tools: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Reasoning {
    part: String,
    commentary: Arc<str>,
}

impl UiStream {
    pub fn new(message_id: String) -> Self {
        Self { message_id, parts: 0, reasoning: None, tools: Vec::new() }
    }

    fn next_part(&mut self, kind: &str) -> String {
        self.parts += 1;
        format!("{kind}-{}", self.parts)
    }

    fn commentary(&mut self, id: &Arc<str>, delta: &str, out: &mut BytesMut) {
        if self.reasoning.as_ref().is_some_and(|open| open.commentary != *id) {
            self.end_reasoning(out);
        }
        if self.reasoning.is_none() {
            let part = self.next_part("reasoning");
            sse::write_data(&Chunk::ReasoningStart { id: &part }, out);
            self.reasoning = Some(Reasoning { part, commentary: Arc::clone(id) });
        }
        if let Some(open) = &self.reasoning {
            sse::write_data(&Chunk::ReasoningDelta { id: &open.part, delta }, out);
        }
    }

    fn end_reasoning(&mut self, out: &mut BytesMut) {
        if let Some(open) = self.reasoning.take() {
            sse::write_data(&Chunk::ReasoningEnd { id: &open.part }, out);
        }
    }

    fn reply(&mut self, delta: &str, out: &mut BytesMut) {
        self.end_reasoning(out);
        let id = &*self.next_part("text");
        sse::write_data(&Chunk::TextStart { id }, out);
        sse::write_data(&Chunk::TextDelta { id, delta }, out);
        sse::write_data(&Chunk::TextEnd { id }, out);
    }

    fn tool_input(&mut self, id: &Arc<str>, name: &str, input: &Json, out: &mut BytesMut) {
        self.end_reasoning(out);
        if !self.tools.contains(id) {
            if self.tools.len() == OPEN_TOOLS {
                return;
            }
            self.tools.push(Arc::clone(id));
        }
        let (tool_call_id, tool_name) = (id, name);
        let input = input.into();
        let chunk = Chunk::ToolInputAvailable { tool_call_id, tool_name, input, dynamic: true };
        sse::write_data(&chunk, out);
    }

    fn tool_output(&mut self, id: &Arc<str>, output: &Json, is_error: bool, out: &mut BytesMut) {
        self.end_reasoning(out);
        // Of a tool that it was not told of, a client accepts nothing.
        let Some(index) = self.tools.iter().position(|open| open == id) else { return };
        self.tools.swap_remove(index);
        if is_error {
            let error_text: String = serde_json::from_str(output.get())
                .unwrap_or_else(|_not_a_string| output.get().to_owned());
            write_tool_error(id, &error_text, out);
        } else {
            let output = output.into();
            let chunk = Chunk::ToolOutputAvailable { tool_call_id: id, output, dynamic: true };
            sse::write_data(&chunk, out);
        }
    }

    fn finish(&mut self, outcome: &Outcome, out: &mut BytesMut) {
        self.end_reasoning(out);
        let why = match outcome {
            Outcome::Completed => "the turn ended without this tool's result",
            Outcome::Aborted => "the turn was aborted before this tool ended",
            Outcome::Failed { .. } => "the turn failed before this tool ended",
        };
        for id in std::mem::take(&mut self.tools) {
            write_tool_error(&id, why, out);
        }
        sse::write_data(&Chunk::FinishStep, out);
        let last = match outcome {
            Outcome::Completed => Chunk::Finish,
            Outcome::Aborted => Chunk::Abort,
            Outcome::Failed { error } => Chunk::Error { error_text: &error.message },
        };
        sse::write_data(&last, out);
        out.extend_from_slice(&sse::DONE);
    }
}

impl Renderer for UiStream {
    fn begin(&mut self, out: &mut BytesMut) {
        sse::write_data(&Chunk::Start { message_id: &self.message_id }, out);
        sse::write_data(&Chunk::StartStep, out);
    }

    fn event(&mut self, logged: &Logged, out: &mut BytesMut) {
        match &logged.event {
            // The client has it: it sent it.
            Event::Started { .. } => {}
            Event::Status(status) => {
                sse::write_data(&Chunk::DataStatus { data: status, transient: true }, out);
            }
            Event::CommentaryDelta { id, delta } => self.commentary(id, delta, out),
            Event::TextDelta { delta } => self.reply(delta, out),
            Event::Media { url, media_type } => {
                // Clients put it into their pages as it is.
                if is_web(url) {
                    self.end_reasoning(out);
                    sse::write_data(&Chunk::File { url, media_type }, out);
                }
            }
            Event::ToolInput { id, name, input } => self.tool_input(id, name, input, out),
            Event::ToolOutput { id, output, is_error } => {
                self.tool_output(id, output, *is_error, out);
            }
            Event::PermissionRequested { id, name, input } => {
                let data = Permission::Requested { id, name, input: input.into() };
                sse::write_data(&Chunk::DataPermission { data, transient: true }, out);
            }
            Event::PermissionResolved { id, allowed, reason } => {
                let data = Permission::Resolved { id, allowed: *allowed, reason };
                sse::write_data(&Chunk::DataPermission { data, transient: true }, out);
            }
            Event::Usage { usage } => {
                sse::write_data(&Chunk::DataUsage { data: usage, transient: true }, out);
            }
            Event::Finished(outcome) => self.finish(outcome, out),
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(sse::KEEP_ALIVE);
    }
}

fn write_tool_error(tool_call_id: &str, error_text: &str, out: &mut BytesMut) {
    sse::write_data(&Chunk::ToolOutputError { tool_call_id, error_text, dynamic: true }, out);
}

fn is_web(url: &str) -> bool {
    let starts = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("https://") || starts("http://")
}

/// What all versions know. `dynamic` says that the client did not define the tool: without, 5.0.0
/// would look for one that it did.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Chunk<'a> {
    Start {
        message_id: &'a str,
    },
    StartStep,
    ReasoningStart {
        id: &'a str,
    },
    ReasoningDelta {
        id: &'a str,
        delta: &'a str,
    },
    ReasoningEnd {
        id: &'a str,
    },
    TextStart {
        id: &'a str,
    },
    TextDelta {
        id: &'a str,
        delta: &'a str,
    },
    TextEnd {
        id: &'a str,
    },
    ToolInputAvailable {
        tool_call_id: &'a str,
        tool_name: &'a str,
        input: Foreign<'a>,
        dynamic: bool,
    },
    ToolOutputAvailable {
        tool_call_id: &'a str,
        output: Foreign<'a>,
        dynamic: bool,
    },
    ToolOutputError {
        tool_call_id: &'a str,
        error_text: &'a str,
        dynamic: bool,
    },
    File {
        url: &'a str,
        media_type: &'a str,
    },
    // Transient: told to the page while it listens, no part of the message.
    DataStatus {
        data: &'a Status,
        transient: bool,
    },
    DataPermission {
        data: Permission<'a>,
        transient: bool,
    },
    DataUsage {
        data: &'a TokenUsage,
        transient: bool,
    },
    FinishStep,
    Finish,
    Abort,
    Error {
        error_text: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum Permission<'a> {
    Requested { id: &'a str, name: &'a str, input: Foreign<'a> },
    Resolved { id: &'a str, allowed: bool, reason: &'a str },
}
