//! The OpenAI Responses API: the events of a stream, and the whole object. Pure.
//!
//! claude's commentary is a `reasoning` item with a summary, its replies are `message` items of one
//! text. Items follow one another and never overlap: many clients keep only one open. Replies are
//! paragraphs: the empty line between two of them is the beginning of the later one, wherever it
//! stands, so that clients which join all texts get it too. claude's own tools are none of the
//! client's functions and are left out.
//!
//! The end is `response.completed`, `response.failed`, or for an aborted run `response.incomplete`
//! with the status `cancelled`: the API has no event of that name, and `completed` would be untrue.

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{Renderer, sse};
use crate::run::{Event, Logged, Outcome};

mod object;
mod output;

use object::{ItemObject, Joined, Object, Part};
use output::{Added, Item, Kind, Output};

/// What is the same in everything that belongs to one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// `resp_…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// As the client named it.
    pub model: String,
    /// `previous_response_id` of the request.
    pub previous: Option<String>,
}

/// The object as far as the run went, or whole: for requests without `stream`.
#[derive(Debug)]
pub struct Whole {
    head: ResponseHead,
    output: Output,
}

impl Whole {
    pub fn new(head: ResponseHead) -> Self {
        let output = Output::new(&head.id);
        Self { head, output }
    }

    pub fn event(&mut self, event: &Event) {
        if let Event::Started { message } = event
            && self.head.previous.is_none()
        {
            self.head.previous = message.previous_response_id.as_deref().map(str::to_owned);
        }
        self.output.accept(event);
    }

    pub fn render(&self) -> Bytes {
        let object = Object::new(&self.head, &self.output);
        serde_json::to_vec(&object).expect("rendered types have string keys").into()
    }
}

/// A stream and what it has to remember: its last event repeats everything.
#[derive(Debug)]
pub struct ResponseStream {
    head: ResponseHead,
    output: Output,
    /// `sequence_number` of the next event.
    sequence: u64,
}

impl ResponseStream {
    pub fn new(head: ResponseHead) -> Self {
        let output = Output::new(&head.id);
        Self { head, output, sequence: 0 }
    }
}

impl Renderer for ResponseStream {
    fn begin(&mut self, out: &mut BytesMut) {
        let Self { head, output, sequence } = self;
        let mut to = To { sequence, out };
        for name in ["response.created", "response.in_progress"] {
            to.event(name, &WithResponse { response: Object::new(head, output) });
        }
    }

    fn event(&mut self, logged: &Logged, out: &mut BytesMut) {
        let change = self.output.accept(&logged.event);
        let Self { head, output, sequence } = self;
        let mut to = To { sequence, out };
        if let Some(index) = change.closed {
            to.closed(index, &output.items[index]);
        }
        if let Some(index) = change.opened {
            to.opened(index, &output.items[index]);
        }
        if let Some(Added { item: index, from }) = change.added {
            let item = &output.items[index];
            to.added(index, item, Joined(&item.pieces[from..]));
        }
        if let Event::Finished(outcome) = &logged.event {
            let name = match outcome {
                Outcome::Completed => "response.completed",
                Outcome::Aborted => "response.incomplete",
                Outcome::Failed { .. } => "response.failed",
            };
            to.event(name, &WithResponse { response: Object::new(head, output) });
        }
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(sse::KEEP_ALIVE);
    }
}

/// Where events are written, numbered.
struct To<'a> {
    sequence: &'a mut u64,
    out: &'a mut BytesMut,
}

impl To<'_> {
    fn opened(&mut self, output_index: usize, item: &Item) {
        let at = At { item_id: &item.id, output_index };
        let empty = ItemObject::empty(item);
        self.event("response.output_item.added", &WithItem { output_index, item: empty });
        let part = Part::new(item, &[]);
        match item.kind {
            Kind::Reasoning(_) => {
                let name = "response.reasoning_summary_part.added";
                self.event(name, &Summary { at, summary_index: 0, part });
            }
            Kind::Message => {
                let name = "response.content_part.added";
                self.event(name, &Content { at, content_index: 0, part });
            }
        }
    }

    fn added(&mut self, output_index: usize, item: &Item, delta: Joined<'_>) {
        let at = At { item_id: &item.id, output_index };
        match item.kind {
            Kind::Reasoning(_) => {
                let name = "response.reasoning_summary_text.delta";
                self.event(name, &SummaryDelta { at, summary_index: 0, delta });
            }
            Kind::Message => {
                let name = "response.output_text.delta";
                self.event(name, &TextDelta { at, content_index: 0, delta, logprobs: [] });
            }
        }
    }

    fn closed(&mut self, output_index: usize, item: &Item) {
        let at = At { item_id: &item.id, output_index };
        let (text, part) = (Joined(&item.pieces), Part::new(item, &item.pieces));
        match item.kind {
            Kind::Reasoning(_) => {
                let name = "response.reasoning_summary_text.done";
                self.event(name, &SummaryText { at, summary_index: 0, text });
                let name = "response.reasoning_summary_part.done";
                self.event(name, &Summary { at, summary_index: 0, part });
            }
            Kind::Message => {
                let name = "response.output_text.done";
                self.event(name, &Text { at, content_index: 0, text, logprobs: [] });
                let name = "response.content_part.done";
                self.event(name, &Content { at, content_index: 0, part });
            }
        }
        let whole = ItemObject::new(item);
        self.event("response.output_item.done", &WithItem { output_index, item: whole });
    }

    /// One block: `body` after its type and number.
    fn event(&mut self, name: &'static str, body: &impl Serialize) {
        let event = StreamEvent { kind: name, sequence_number: *self.sequence, body };
        *self.sequence += 1;
        self.out.extend_from_slice(b"event: ");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\n");
        sse::write_data(&event, self.out);
    }
}

#[derive(Serialize)]
struct StreamEvent<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    body: &'a T,
}

/// Which item an event is about.
#[derive(Clone, Copy, Serialize)]
struct At<'a> {
    item_id: &'a str,
    output_index: usize,
}

#[derive(Serialize)]
struct WithResponse<'a> {
    response: Object<'a>,
}

#[derive(Serialize)]
struct WithItem<'a> {
    output_index: usize,
    item: ItemObject<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(flatten)]
    at: At<'a>,
    content_index: usize,
    part: Part<'a>,
}

#[derive(Serialize)]
struct TextDelta<'a> {
    #[serde(flatten)]
    at: At<'a>,
    content_index: usize,
    delta: Joined<'a>,
    logprobs: [(); 0],
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(flatten)]
    at: At<'a>,
    content_index: usize,
    text: Joined<'a>,
    logprobs: [(); 0],
}

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    at: At<'a>,
    summary_index: usize,
    part: Part<'a>,
}

#[derive(Serialize)]
struct SummaryDelta<'a> {
    #[serde(flatten)]
    at: At<'a>,
    summary_index: usize,
    delta: Joined<'a>,
}

#[derive(Serialize)]
struct SummaryText<'a> {
    #[serde(flatten)]
    at: At<'a>,
    summary_index: usize,
    text: Joined<'a>,
}
