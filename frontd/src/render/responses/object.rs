//! The JSON of a response and its items.

use std::fmt;
use std::sync::Arc;

use proto::bridge::TokenUsage;
use serde::{Serialize, Serializer};

use super::ResponseHead;
use super::output::{Item, Kind, Output, State};
use crate::run::{Failure, Outcome};

/// The response object. What clients' types call present is present.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    error: Option<&'a Failure>,
    incomplete_details: Option<()>,
    instructions: Option<()>,
    metadata: Empty,
    model: &'a str,
    output: Vec<ItemObject<'a>>,
    parallel_tool_calls: bool,
    previous_response_id: Option<&'a str>,
    temperature: Option<()>,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: Option<()>,
    /// Null while it is not known: zeros would be a claim.
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Empty {}

impl<'a> Object<'a> {
    pub(super) fn new(head: &'a ResponseHead, output: &'a Output) -> Self {
        let (status, error) = match &output.outcome {
            None => ("in_progress", None),
            Some(Outcome::Completed) => ("completed", None),
            Some(Outcome::Aborted) => ("cancelled", None),
            Some(Outcome::Failed { error }) => ("failed", Some(error)),
        };
        Self {
            id: &head.id,
            object: "response",
            created_at: head.created,
            status,
            error,
            incomplete_details: None,
            instructions: None,
            metadata: Empty {},
            model: &head.model,
            output: output.items.iter().map(ItemObject::new).collect(),
            parallel_tool_calls: false,
            previous_response_id: head.previous.as_deref(),
            temperature: None,
            tool_choice: "none",
            tools: [],
            top_p: None,
            usage: output.usage.map(Usage::of),
        }
    }
}

/// One item of `output`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ItemObject<'a> {
    Reasoning { id: &'a str, summary: Vec<Part<'a>>, status: &'static str },
    Message { id: &'a str, role: &'static str, status: &'static str, content: Vec<Part<'a>> },
}

impl<'a> ItemObject<'a> {
    pub(super) fn new(item: &'a Item) -> Self {
        Self::with(item, vec![Part::new(item, &item.pieces)])
    }

    /// As it is before it has any text.
    pub(super) fn empty(item: &'a Item) -> Self {
        Self::with(item, Vec::new())
    }

    fn with(item: &'a Item, parts: Vec<Part<'a>>) -> Self {
        let id = &item.id;
        let status = match item.state {
            State::Open => "in_progress",
            State::Complete => "completed",
            State::Cut => "incomplete",
        };
        match item.kind {
            Kind::Reasoning(_) => Self::Reasoning { id, summary: parts, status },
            Kind::Message => Self::Message { id, role: "assistant", status, content: parts },
        }
    }
}

/// The one text of an item.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    SummaryText { text: Joined<'a> },
    OutputText { text: Joined<'a>, annotations: [(); 0], logprobs: [(); 0] },
}

impl<'a> Part<'a> {
    pub(super) fn new(item: &Item, pieces: &'a [Arc<str>]) -> Self {
        let text = Joined(pieces);
        match item.kind {
            Kind::Reasoning(_) => Self::SummaryText { text },
            Kind::Message => Self::OutputText { text, annotations: [], logprobs: [] },
        }
    }
}

/// Pieces as one JSON string.
#[derive(Clone, Copy)]
pub(super) struct Joined<'a>(pub(super) &'a [Arc<str>]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| f.write_str(piece))
    }
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

/// The CLI does not count them apart; clients' types have no word for that.
#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl Usage {
    /// The CLI counts cached tokens beside the input's, this API within them. The numbers are the
    /// session's own testimony, so sums must not overflow.
    fn of(usage: TokenUsage) -> Self {
        let input_tokens = usage
            .input_tokens
            .saturating_add(usage.cache_read_input_tokens)
            .saturating_add(usage.cache_creation_input_tokens);
        Self {
            input_tokens,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cache_read_input_tokens,
                cache_write_tokens: usage.cache_creation_input_tokens,
            },
            output_tokens: usage.output_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: 0 },
            total_tokens: input_tokens.saturating_add(usage.output_tokens),
        }
    }
}
