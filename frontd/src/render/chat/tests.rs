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
    assert_eq!(model("a", 5), r#"{"id":"a","object":"model","created":5,"owned_by":"synthesis"}"#);
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
