//! Chat completions: chunks of a stream, the whole object, the list of models. Pure.
//!
//! A stream is [`Chunks::first`], then [`Chunks::reply`] for each reply with
//! [`Chunks::keep_alive`] in between, [`Chunks::finish`], [`Chunks::usage`],
//! [`DONE`](super::sse::DONE); or an [`error`](super::sse::error) and its end. What all chunks
//! share is encoded once: a reply costs one allocation, everything else none.

use bytes::Bytes;
use proto::bridge::TokenUsage;
use serde::Serialize;

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
        let between = if replies_before == 0 { "" } else { BETWEEN };
        let content = Content { between, text };
        let size = self.before_content.len() + content.encoded_len() + self.after_content.len();
        let mut frame = Vec::with_capacity(size);
        frame.extend_from_slice(&self.before_content);
        serde_json::to_writer(&mut frame, &content).expect("a string");
        frame.extend_from_slice(self.after_content.as_bytes());
        frame.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head(include_usage: bool) -> ChatHead {
        ChatHead {
            id: "chatcmpl-1".to_owned(),
            created: 1_700_000_000,
            model: "synthesis".to_owned(),
            include_usage,
        }
    }

    const USAGE: TokenUsage = TokenUsage {
        input_tokens: 3,
        output_tokens: 9,
        cache_read_input_tokens: 100,
        cache_creation_input_tokens: 20,
    };

    const ENVELOPE: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"synthesis","choices":["#;

    fn chunk(choice: &str) -> String {
        format!("{ENVELOPE}{choice}]}}\n\n")
    }

    #[test]
    fn a_stream_is_spelled_like_this() {
        let chunks = Chunks::new(&head(false));
        assert_eq!(
            chunks.first(),
            chunk(r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}"#)
        );
        assert_eq!(
            chunks.keep_alive(),
            chunk(r#"{"index":0,"delta":{"content":""},"finish_reason":null}"#)
        );
        assert_eq!(
            chunks.reply(0, "a \"b\"\n\u{1}\u{7f}ü"),
            chunk(
                "{\"index\":0,\"delta\":{\"content\":\"a \\\"b\\\"\\n\\u0001\u{7f}ü\"},\"finish_reason\":null}"
            )
        );
        assert_eq!(chunks.finish(), chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#));
        assert_eq!(chunks.usage(USAGE), None);
    }

    #[test]
    fn usage_is_null_until_the_chunk_that_has_it() {
        let chunks = Chunks::new(&head(true));
        for frame in [chunks.first(), chunks.keep_alive(), chunks.reply(0, "a"), chunks.finish()] {
            assert!(frame.ends_with(b"}],\"usage\":null}\n\n"), "{frame:?}");
        }
        assert_eq!(
            chunks.usage(USAGE).unwrap(),
            format!(
                "{ENVELOPE}],\"usage\":{{\"prompt_tokens\":123,\"completion_tokens\":9,\"total_tokens\":132,\"prompt_tokens_details\":{{\"cached_tokens\":100}}}}}}\n\n"
            )
        );
    }

    #[test]
    fn progress_chunks_are_not_glued_together() {
        let chunks = Chunks::new(&head(false));
        let content = |frame: &Bytes| {
            let json = frame.strip_prefix(b"data: ").unwrap();
            let value: serde_json::Value = serde_json::from_slice(json).unwrap();
            value["choices"][0]["delta"]["content"].as_str().unwrap().to_owned()
        };
        let (one, two) = (chunks.reply(0, "one"), chunks.reply(1, "two"));
        assert_eq!(content(&one) + &content(&two), "one\n\ntwo");
    }

    #[test]
    fn a_reply_is_measured_exactly_before_it_is_written() {
        let every: String = (0..=0x2028).filter_map(char::from_u32).collect();
        for head in [head(true), head(false)] {
            let chunks = Chunks::new(&head);
            for (before, text) in [(0, ""), (0, every.as_str()), (3, every.as_str())] {
                let frame = Vec::from(chunks.reply(before, text));
                let between = if before == 0 { "" } else { BETWEEN };
                let content = Content { between, text };
                let written = serde_json::to_vec(&content).unwrap().len();
                assert_eq!(content.encoded_len(), written);
                assert_eq!(frame.capacity(), frame.len());
            }
        }
    }

    #[test]
    fn the_whole_answer_is_spelled_like_this() {
        let whole = completion(&head(false), ["one", "two"], Some(USAGE));
        assert_eq!(
            whole,
            concat!(
                r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"synthesis","#,
                r#""choices":[{"index":0,"message":{"role":"assistant","content":"one\n\ntwo","refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
                r#""usage":{"prompt_tokens":123,"completion_tokens":9,"total_tokens":132,"prompt_tokens_details":{"cached_tokens":100}}}"#
            )
        );
    }

    #[test]
    fn models_are_listed_in_their_order() {
        assert_eq!(
            models(["b", "a"], 5),
            r#"{"object":"list","data":[{"id":"b","object":"model","created":5,"owned_by":"synthesis"},{"id":"a","object":"model","created":5,"owned_by":"synthesis"}]}"#
        );
        assert_eq!(
            model("a", 5),
            r#"{"id":"a","object":"model","created":5,"owned_by":"synthesis"}"#
        );
    }

    #[test]
    fn foreign_names_cannot_break_out_of_their_strings() {
        let odd = ChatHead { model: "x\",\"y\":\"\n\n".to_owned(), ..head(true) };
        let chunks = Chunks::new(&odd);
        for frame in [chunks.first(), chunks.reply(0, "a"), chunks.usage(USAGE).unwrap()] {
            let json = frame.strip_prefix(b"data: ").unwrap();
            let value: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(value["model"], odd.model.as_str());
        }
    }

    #[test]
    fn testimony_of_absurd_numbers_does_not_overflow() {
        let absurd = TokenUsage {
            input_tokens: u64::MAX,
            output_tokens: u64::MAX,
            cache_read_input_tokens: 1,
            cache_creation_input_tokens: 1,
        };
        assert_eq!(Usage::of(absurd).total_tokens, u64::MAX);
    }
}
