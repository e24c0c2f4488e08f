//! What holds for every renderer: the files in `tests/fixtures/streams` are what they give for the
//! sample runs (the official clients read the same files), and no sequence of events makes a
//! stream that a client cannot read.

use std::collections::HashSet;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::chat::{ChatHead, ChatStream};
use super::messages::{Page, RunMessages};
use super::responses::{ResponseHead, ResponseStream, Whole};
use super::run_events::RunEvents;
use super::ui_stream::UiStream;
use super::{Renderer, sample};
use crate::http::error::ApiError;
use crate::render::sse;
use crate::run::{Event, Logged, Outcome, RunId};

fn runs() -> [(&'static str, Vec<Logged>); 4] {
    [
        ("answered", sample::answered()),
        ("failed", sample::failed()),
        ("aborted", sample::aborted()),
        ("odd", sample::odd()),
    ]
}

fn chat() -> ChatStream {
    let head = ChatHead {
        id: format!("chatcmpl-{}", sample::HEX),
        created: sample::CREATED,
        model: "synthesis".to_owned(),
        include_usage: true,
    };
    ChatStream::new(&head, |failure| sse::error(&ApiError::from(failure).object_in_stream()))
}

fn response_head() -> ResponseHead {
    ResponseHead {
        id: format!("resp_{}", sample::HEX),
        created: sample::CREATED,
        model: "synthesis".to_owned(),
        previous: Some("resp_before".to_owned()),
    }
}

fn renderers() -> [(&'static str, Box<dyn Renderer>); 4] {
    [
        ("chat", Box::new(chat())),
        ("responses", Box::new(ResponseStream::new(response_head()))),
        ("ui", Box::new(UiStream::new(format!("msg_{}", sample::HEX)))),
        ("events", Box::new(RunEvents)),
    ]
}

/// The whole stream, with a keep-alive after each event.
fn stream(renderer: &mut dyn Renderer, events: &[Logged]) -> String {
    let mut out = BytesMut::new();
    renderer.begin(&mut out);
    for (index, logged) in events.iter().enumerate() {
        renderer.event(logged, &mut out);
        if index + 1 < events.len() {
            renderer.keep_alive(&mut out);
        }
    }
    String::from_utf8(out.to_vec()).unwrap()
}

fn whole(events: &[Logged]) -> Bytes {
    let mut whole = Whole::new(response_head());
    for logged in events {
        whole.event(&logged.event);
    }
    whole.render()
}

fn messages(run: RunId, events: &[Logged]) -> RunMessages {
    let mut messages = RunMessages::new(run, 0);
    for logged in events {
        messages.event(logged);
    }
    messages
}

/// Compares with the file; with UPDATE_GOLDEN set it is written instead.
fn assert_is_file(name: &str, found: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/streams");
    let path = folder.join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read(&path).unwrap_or_default();
    assert!(
        wanted == found,
        "{name} is not what is rendered, which is:\n{}\n\
         (UPDATE_GOLDEN=1 writes it, if that is meant)",
        String::from_utf8_lossy(found)
    );
}

#[test]
fn streams_are_spelled_as_in_the_fixtures() {
    for (run, events) in runs() {
        for (protocol, mut renderer) in renderers() {
            let found = stream(&mut *renderer, &events);
            assert_is_file(&format!("{run}.{protocol}.sse"), found.as_bytes());
        }
    }
}

#[test]
fn whole_responses_are_spelled_as_in_the_fixtures() {
    for (run, events) in runs() {
        assert_is_file(&format!("{run}.responses.json"), &whole(&events));
    }
    let begun = &sample::answered()[..6];
    assert_is_file("running.responses.json", &whole(begun));
}

#[test]
fn the_messages_of_a_session_are_spelled_as_in_the_fixture() {
    let mut page = Page::default();
    let running = &sample::aborted()[..3];
    let newest_first = [running.to_vec(), sample::aborted(), sample::failed(), sample::answered()];
    for (number, events) in newest_first.iter().enumerate() {
        let run = RunId::parse(&format!("run_{number:032x}")).unwrap();
        assert!(page.push(messages(run, events)));
    }
    assert_is_file("messages.json", &page.render(Some(7)));
}

/// xorshift64*: the same runs every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Any events in any order; at most the last one is the end.
    fn run(&mut self) -> Vec<Logged> {
        let (ends, others): (Vec<_>, Vec<_>) = sample::one_of_each()
            .into_iter()
            .partition(|event| matches!(event, Event::Finished(_)));
        let mut events: Vec<_> =
            (0..self.below(30)).map(|_| others[self.below(others.len())].clone()).collect();
        if self.below(4) > 0 {
            events.push(ends[self.below(ends.len())].clone());
        }
        sample::logged(events)
    }
}

const RUNS: usize = 300;

/// The `data` of each block; comments are left out.
fn blocks(stream: &str) -> Vec<&str> {
    let stream = stream.strip_suffix("\n\n").unwrap_or_else(|| panic!("cut: {stream:?}"));
    let mut found = Vec::new();
    for block in stream.split("\n\n") {
        assert!(!block.contains('\r'), "{block:?}");
        if block == ": keep-alive" {
            continue;
        }
        let mut lines = block.split('\n').rev();
        found.push(lines.next().and_then(|line| line.strip_prefix("data: ")).unwrap());
        for line in lines {
            assert!(line.starts_with("event: ") || line.starts_with("id: "), "{block:?}");
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn whatever_happens_in_a_run_every_block_is_json() {
    let mut random = Random(1);
    for _ in 0..RUNS {
        let events = random.run();
        let ended = matches!(events.last(), Some(Logged { event: Event::Finished(_), .. }));
        for (protocol, mut renderer) in renderers() {
            let stream = stream(&mut *renderer, &events);
            if stream.is_empty() {
                assert!(protocol == "events" && events.is_empty());
                continue;
            }
            let mut blocks = blocks(&stream);
            if blocks.last() == Some(&"[DONE]") {
                assert!(ended);
                blocks.pop();
            }
            for data in blocks {
                let json = serde_json::from_str::<IgnoredAny>(data);
                assert!(json.is_ok(), "{protocol}: {json:?}: {data}");
            }
        }
        for json in [whole(&events), {
            let mut page = Page::default();
            page.push(messages(RunId::random(), &events));
            page.render(None)
        }] {
            serde_json::from_slice::<IgnoredAny>(&json).unwrap();
        }
    }
}

/// A chunk's type, its required keys and those that ai 5.0.0 suffers besides.
const UI_CHUNKS: [(&str, &[&str]); 16] = [
    ("start", &["messageId"]),
    ("start-step", &[]),
    ("reasoning-start", &["id"]),
    ("reasoning-delta", &["id", "delta"]),
    ("reasoning-end", &["id"]),
    ("text-start", &["id"]),
    ("text-delta", &["id", "delta"]),
    ("text-end", &["id"]),
    ("tool-input-available", &["toolCallId", "toolName", "input", "dynamic"]),
    ("tool-output-available", &["toolCallId", "output", "dynamic"]),
    ("tool-output-error", &["toolCallId", "errorText", "dynamic"]),
    ("file", &["url", "mediaType"]),
    ("finish-step", &[]),
    ("finish", &[]),
    ("abort", &[]),
    ("error", &["errorText"]),
];

fn check_ui_keys(chunk: &Value) {
    let kind = text(&chunk["type"]);
    let data: &[&str] = &["data", "transient"];
    let wanted = if kind.starts_with("data-") {
        data
    } else {
        let known = UI_CHUNKS.iter().find(|(known, _)| *known == kind);
        known.unwrap_or_else(|| panic!("no version knows {chunk}")).1
    };
    let found: HashSet<_> = chunk.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted: HashSet<_> = wanted.iter().copied().chain(["type"]).collect();
    assert_eq!(found, wanted, "{chunk}");
}

#[test]
fn whatever_happens_in_a_run_the_ui_stream_keeps_its_order() {
    let mut random = Random(2);
    for _ in 0..RUNS {
        let events = random.run();
        let stream = stream(&mut UiStream::new("msg_1".to_owned()), &events);
        let mut blocks = blocks(&stream);
        let outcome = match events.last() {
            Some(Logged { event: Event::Finished(outcome), .. }) => Some(outcome),
            _ => None,
        };
        if outcome.is_some() {
            assert_eq!(blocks.pop(), Some("[DONE]"));
        }
        let (mut parts, mut open, mut tools) = (HashSet::new(), None, HashSet::new());
        let mut order = Vec::new();
        for data in blocks {
            let chunk: Value = serde_json::from_str(data).unwrap();
            check_ui_keys(&chunk);
            let kind = text(&chunk["type"]).to_owned();
            match kind.as_str() {
                "text-start" | "reasoning-start" => {
                    assert_eq!(open, None);
                    let id = text(&chunk["id"]).to_owned();
                    assert!(parts.insert(id.clone()), "{id} again");
                    open = Some((kind.clone(), id));
                }
                "text-delta" | "text-end" | "reasoning-delta" | "reasoning-end" => {
                    let (began, id) = open.clone().unwrap();
                    assert_eq!(began.split_once('-').unwrap().0, kind.split_once('-').unwrap().0);
                    assert_eq!(id, text(&chunk["id"]));
                    if kind.ends_with("-end") {
                        open = None;
                    }
                }
                "tool-input-available" => {
                    assert_eq!(open, None);
                    tools.insert(text(&chunk["toolCallId"]).to_owned());
                }
                "tool-output-available" | "tool-output-error" => {
                    assert!(tools.remove(text(&chunk["toolCallId"])), "{chunk}");
                }
                "file" => assert_eq!(open, None),
                "finish-step" => assert!(open.is_none() && tools.is_empty()),
                _ => {}
            }
            if ["start", "start-step", "finish-step", "finish", "abort", "error"]
                .contains(&kind.as_str())
            {
                order.push(kind);
            }
        }
        let end: &[&str] = match outcome {
            None => &[],
            Some(Outcome::Completed) => &["finish-step", "finish"],
            Some(Outcome::Aborted) => &["finish-step", "abort"],
            Some(Outcome::Failed { .. }) => &["finish-step", "error"],
        };
        assert_eq!(order, [&["start", "start-step"], end].concat());
    }
}

#[test]
fn whatever_happens_in_a_run_a_response_adds_up() {
    let mut random = Random(3);
    for _ in 0..RUNS {
        let events = random.run();
        let stream = stream(&mut ResponseStream::new(response_head()), &events);
        let mut open: Option<(Value, String)> = None;
        let mut done: Vec<Value> = Vec::new();
        let mut answer = String::new();
        for (number, data) in blocks(&stream).into_iter().enumerate() {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["sequence_number"], number);
            let kind = text(&event["type"]);
            match kind.strip_prefix("response.").unwrap() {
                "created" | "in_progress" => assert_eq!(event["response"]["status"], "in_progress"),
                "output_item.added" => {
                    assert!(open.is_none(), "two items at once: {stream}");
                    assert_eq!(event["output_index"], done.len());
                    open = Some((event["item"]["id"].clone(), String::new()));
                }
                "output_text.delta" | "reasoning_summary_text.delta" => {
                    let (id, so_far) = open.as_mut().unwrap();
                    assert_eq!(
                        (&event["item_id"], &event["output_index"]),
                        (&*id, &done.len().into())
                    );
                    so_far.push_str(text(&event["delta"]));
                    if kind == "response.output_text.delta" {
                        answer.push_str(text(&event["delta"]));
                    }
                }
                "output_text.done" | "reasoning_summary_text.done" => {
                    assert_eq!(event["text"], open.as_ref().unwrap().1.as_str());
                }
                "content_part.done" | "reasoning_summary_part.done" => {
                    assert_eq!(event["part"]["text"], open.as_ref().unwrap().1.as_str());
                }
                "output_item.done" => {
                    let (id, text) = open.take().unwrap();
                    let item = &event["item"];
                    let part =
                        if item["type"] == "message" { &item["content"] } else { &item["summary"] };
                    assert_eq!((&item["id"], &part[0]["text"]), (&id, &text.into()));
                    done.push(item.clone());
                }
                "content_part.added" | "reasoning_summary_part.added" => {
                    assert_eq!((&event["part"]["text"], open.is_some()), (&"".into(), true));
                }
                "completed" | "incomplete" | "failed" => {
                    assert!(open.is_none());
                    assert_eq!(event["response"]["output"], Value::Array(done.clone()));
                    let whole: Value = serde_json::from_slice(&whole(&events)).unwrap();
                    assert_eq!(event["response"], whole);
                }
                other => panic!("no such event: {other}"),
            }
        }
        let mut replies = Vec::new();
        for logged in &events {
            if let Event::TextDelta { delta } = &logged.event {
                replies.push(&**delta);
            }
        }
        assert_eq!(answer, replies.join("\n\n"));
    }
}
