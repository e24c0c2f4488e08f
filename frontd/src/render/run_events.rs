//! The run API's own stream: every event as it stands in the log, numbered. Pure.
//!
//! A block is `id: SEQ`, `event: TYPE`, `data: JSON`. The event `finished` is the last one and then
//! the stream closes; there is no `[DONE]`. A reader whose stream closed before it goes on after
//! its last id (`Last-Event-ID`).

use std::fmt::Write as _;

use bytes::BytesMut;

use super::{Renderer, sse};
use crate::run::{Event, Logged};

/// What a block needs beside its JSON: field names, the greatest number, the longest type.
const ROOM: usize = 80;

/// Has no state: each block stands for itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunEvents;

impl Renderer for RunEvents {
    fn begin(&mut self, _out: &mut BytesMut) {}

    fn event(&mut self, logged: &Logged, out: &mut BytesMut) {
        out.reserve(logged.json.len() + ROOM);
        // A BytesMut takes everything.
        let _ = write!(out, "id: {}\nevent: {}\n", logged.seq, name(&logged.event));
        // Ours is one line. What else a store may hold must not be able to end its block.
        if logged.json.contains(&b'\n') || logged.json.contains(&b'\r') {
            for line in logged.json.split(|byte| matches!(byte, b'\n' | b'\r')) {
                out.extend_from_slice(sse::BEGIN);
                out.extend_from_slice(line);
                out.extend_from_slice(b"\n");
            }
            out.extend_from_slice(b"\n");
        } else {
            out.extend_from_slice(sse::BEGIN);
            out.extend_from_slice(&logged.json);
            out.extend_from_slice(sse::END);
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(sse::KEEP_ALIVE);
    }
}

/// The event's `type`, as in its JSON.
pub fn name(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "started",
        Event::Status(_) => "status",
        Event::CommentaryDelta { .. } => "commentary-delta",
        Event::TextDelta { .. } => "text-delta",
        Event::Media { .. } => "media",
        Event::ToolInput { .. } => "tool-input",
        Event::ToolOutput { .. } => "tool-output",
        Event::PermissionRequested { .. } => "permission-requested",
        Event::PermissionResolved { .. } => "permission-resolved",
        Event::Usage { .. } => "usage",
        Event::Finished(_) => "finished",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::render::sample;
    use crate::run::Outcome;

    #[test]
    fn a_block_is_the_events_own_json_with_its_number_and_type() {
        let mut out = BytesMut::new();
        RunEvents.begin(&mut out);
        let text = Event::TextDelta { delta: "a\n\nb".into() };
        RunEvents.event(&Logged::new(7, 1, text), &mut out);
        RunEvents.keep_alive(&mut out);
        RunEvents.event(&Logged::new(8, 1, Event::Finished(Outcome::Completed)), &mut out);
        assert_eq!(
            out,
            concat!(
                "id: 7\nevent: text-delta\ndata: {\"type\":\"text-delta\",\"delta\":\"a\\n\\nb\"}\n\n",
                ": keep-alive\n\n",
                "id: 8\nevent: finished\ndata: {\"type\":\"finished\",\"outcome\":\"completed\"}\n\n",
            )
        );
    }

    #[derive(serde::Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
    }

    #[test]
    fn every_type_is_called_what_its_json_calls_it() {
        for event in sample::one_of_each() {
            let logged = Logged::new(1, 2, event);
            let json: Typed<'_> = serde_json::from_slice(&logged.json).unwrap();
            assert_eq!(json.kind, name(&logged.event));
        }
    }

    #[test]
    fn no_stored_line_ends_its_block() {
        for json in ["{\n\n\"type\":\"text-delta\",\"delta\":\"x\"}", "{\r\r\"a\":1}", "{}\r\n\r\n"]
        {
            let event = Event::TextDelta { delta: "x".into() };
            let logged = Logged { json: Bytes::from(json), ..Logged::new(1, 1, event) };
            let mut out = BytesMut::new();
            RunEvents.event(&logged, &mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            let (block, rest) = text.split_once("\n\n").unwrap();
            assert!(rest.is_empty() && !text.contains('\r'), "{text:?}");
            let data: Vec<_> =
                block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            let again: serde_json::Value = serde_json::from_str(&data.join("\n")).unwrap();
            assert_eq!(again, serde_json::from_str::<serde_json::Value>(json).unwrap());
        }
    }
}
