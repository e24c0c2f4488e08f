//! Chat completions: chunks of a stream, the whole object, the list of models. Pure.
//!
//! A stream ([`ChatStream`]) is [`Chunks::first`], then [`Chunks::reply`] for each reply with
//! [`Chunks::keep_alive`] in between, [`Chunks::finish`], [`Chunks::usage`],
//! [`DONE`](super::sse::DONE); or an [`error`](super::sse::error) and its end. What all chunks
//! share is encoded once: a reply costs one allocation, everything else none.

use bytes::{BufMut, Bytes, BytesMut};
use proto::bridge::TokenUsage;
use serde::Serialize;

mod stream;
#[cfg(test)]
mod tests;

pub use stream::ChatStream;

/// Stands between two replies of one answer: they are paragraphs, not one word.
const BETWEEN: &str = "\n\n";

/// What is the same in everything that belongs to one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatHead {
    /// `chatcmpl-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// As the client named it.
    pub model: String,
    pub include_usage: bool,
}

/// The chunks of one stream.
#[derive(Debug, Clone)]
pub struct Chunks {
    /// From `data:` to the chunk's content, whose quotes are not in it.
    before_content: Bytes,
    after_content: &'static str,
    first: Bytes,
    keep_alive: Bytes,
    finish: Bytes,
    /// From `data:` to the value of `usage`; `None` when it was not asked for.
    before_usage: Option<Bytes>,
}

impl Chunks {
    pub fn new(head: &ChatHead) -> Self {
        let (id, model) = (json(&head.id), json(&head.model));
        let envelope = format!(
            r#"data: {{"id":{id},"object":"chat.completion.chunk","created":{},"model":{model},"choices":["#,
            head.created
        );
        let usage = if head.include_usage { r#","usage":null"# } else { "" };
        let chunk = |delta: &str, finish_reason: &str| {
            let choice =
                format!(r#"{{"index":0,"delta":{delta},"finish_reason":{finish_reason}}}"#);
            Bytes::from(format!("{envelope}{choice}]{usage}}}\n\n"))
        };
        Self {
            before_content: format!(r#"{envelope}{{"index":0,"delta":{{"content":"#).into(),
            after_content: if head.include_usage {
                "},\"finish_reason\":null}],\"usage\":null}\n\n"
            } else {
                "},\"finish_reason\":null}]}\n\n"
            },
            first: chunk(r#"{"role":"assistant","content":""}"#, "null"),
            keep_alive: chunk(r#"{"content":""}"#, "null"),
            finish: chunk("{}", r#""stop""#),
            before_usage: head.include_usage.then(|| format!(r#"{envelope}],"usage":"#).into()),
        }
    }

    /// The chunk with the role: the JS helper fails without.
    pub fn first(&self) -> Bytes {
        self.first.clone()
    }

    /// One reply as one delta. `replies_before` counts those of the same answer.
    pub fn reply(&self, replies_before: usize, text: &str) -> Bytes {
        let mut frame = BytesMut::new();
        self.write_reply(replies_before, text, &mut frame);
        frame.freeze()
    }

    /// Appends what [`Self::reply`] gives.
    fn write_reply(&self, replies_before: usize, text: &str, out: &mut BytesMut) {
        let between = if replies_before == 0 { "" } else { BETWEEN };
        let content = Content { between, text };
        let size = self.before_content.len() + content.encoded_len() + self.after_content.len();
        out.reserve(size);
        out.extend_from_slice(&self.before_content);
        serde_json::to_writer(out.writer(), &content).expect("a string");
        out.extend_from_slice(self.after_content.as_bytes());
    }

    /// A chunk that adds nothing. Clients' idle watchdogs ignore comments, not this.
    pub fn keep_alive(&self) -> Bytes {
        self.keep_alive.clone()
    }

    /// The chunk with the finish reason, which clients wait for.
    pub fn finish(&self) -> Bytes {
        self.finish.clone()
    }

    /// The chunk without choices, after `finish`; `None` when the client did not ask for it.
    pub fn usage(&self, usage: TokenUsage) -> Option<Bytes> {
        let before = self.before_usage.as_ref()?;
        let mut frame = before.to_vec();
        serde_json::to_writer(&mut frame, &Usage::of(usage)).expect("numbers");
        frame.extend_from_slice(b"}\n\n");
        Some(frame.into())
    }
}

/// The whole answer to a request without `stream`.
pub fn completion<'a>(
    head: &ChatHead,
    replies: impl IntoIterator<Item = &'a str>,
    usage: Option<TokenUsage>,
) -> Bytes {
    let mut content = String::new();
    for (index, reply) in replies.into_iter().enumerate() {
        if index > 0 {
            content.push_str(BETWEEN);
        }
        content.push_str(reply);
    }
    let message = AssistantMessage { role: "assistant", content: &content, refusal: None };
    encode(&Completion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: &head.model,
        choices: [Choice { index: 0, message, logprobs: None, finish_reason: "stop" }],
        usage: usage.map(Usage::of),
    })
}

/// `GET /v1/models`. `created` is in seconds since 1970.
pub fn models<'a>(ids: impl IntoIterator<Item = &'a str>, created: u64) -> Bytes {
    let data = ids.into_iter().map(|id| Model::new(id, created)).collect();
    encode(&Models { object: "list", data })
}

/// `GET /v1/models/{id}`.
pub fn model(id: &str, created: u64) -> Bytes {
    encode(&Model::new(id, created))
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("rendered types have string keys").into()
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

/// A reply and what separates it from the one before, as one JSON string.
struct Content<'a> {
    between: &'static str,
    text: &'a str,
}

impl Content<'_> {
    /// Exactly the bytes that serde_json will write.
    fn encoded_len(&self) -> usize {
        let quotes = 2;
        let bytes = self.between.bytes().chain(self.text.bytes());
        quotes
            + bytes
                .map(|byte| match byte {
                    b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
                    0x00..0x20 => 6,
                    _ => 1,
                })
                .sum::<usize>()
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.between.is_empty() {
            to.serialize_str(self.text)
        } else {
            to.collect_str(&format_args!("{}{}", self.between, self.text))
        }
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    /// Left out when it is not known: a zero would be a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: AssistantMessage<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct AssistantMessage<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl<'a> Model<'a> {
    fn new(id: &'a str, created: u64) -> Self {
        Self { id, object: "model", created, owned_by: "synthesis" }
    }
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl Usage {
    /// The CLI counts cached tokens beside the prompt's, the OpenAI API within them. The numbers
    /// are the session's own testimony, so sums must not overflow.
    fn of(usage: TokenUsage) -> Self {
        let prompt_tokens = usage
            .input_tokens
            .saturating_add(usage.cache_read_input_tokens)
            .saturating_add(usage.cache_creation_input_tokens);
        Self {
            prompt_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: prompt_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cache_read_input_tokens },
        }
    }
}
