//! The bounded part of fuzz/: bodies of all three APIs, mutated. SYNTHESIS_FUZZ_INPUTS says how
//! many inputs there are.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../fuzz/ask_inputs.rs"]
mod ask_inputs;
#[path = "../../fuzz/mutated.rs"]
mod mutated;

use std::path::Path;

use mutated::{Numbers, count, mutated};

const WORDS: [&str; 28] = [
    "{",
    "[",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "-1",
    "1e999",
    "true",
    "\"content\":",
    "\"parts\":[",
    "{\"type\":\"text\",\"text\":\"yes\"}",
    "{\"role\":\"user\",\"content\":\"yes\"},",
    "{\"role\":\"assistant\",\"content\":\"yes\"},",
    "{\"type\":\"item_reference\",\"id\":\"msg_1\"},",
    "{\"type\":\"function_call\"},",
    "\"tool_calls\":[1],",
    "data:image/png;base64,",
    "data:text/plain;base64,eHh4",
    ";base64",
    "[Queued user message from a previous active turn; preserved as context only. Continue with the active prompt below.]\\n",
    "\\n\\nContinue the current task from the existing transcript",
    "<turn_aborted>\\n",
    "[Fri 2026-11-20 23:17 UTC] ",
    "The conversation history before this point was compacted into the following summary:\\n\\n<summary>",
    "\\nRuntime: agent=main | session=x",
    "![x](http://x.example/a.png)",
    "\u{1f600}",
];

const RESPONSES: &str = r#"{"model":"m","stream":true,"instructions":"i","conversation":{"id":"c"},
"previous_response_id":null,"background":false,"input":[{"role":"developer","content":"d"},
{"type":"message","role":"user","content":[{"type":"input_text","text":"one"}]},
{"type":"reasoning","summary":[]},{"role":"assistant","content":[{"type":"output_text","text":"an answer of some length"}]},
{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"user","content":"two"},
{"role":"user","content":[{"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,eHh4"}]}]}"#;

const UI: &str = r#"{"id":"chat","trigger":"submit-message","messageId":"m3","messages":[
{"id":"m1","role":"user","parts":[{"type":"text","text":"one"}]},
{"id":"m2","role":"assistant","parts":[{"type":"step-start"},{"type":"text","text":"an answer of some length"}]},
{"id":"m3","role":"user","parts":[{"type":"text","text":"two"},
{"type":"file","mediaType":"image/png","filename":"a.png","url":"data:image/png;base64,iVBORw0KGgo="}]}]}"#;

const CHAT: &str = r#"{"model":"m","stream_options":{"include_usage":true},"n":1,"messages":[
{"role":"system","content":"s"},{"role":"user","content":"one"},
{"role":"assistant","content":"an answer of some length","tool_calls":null},
{"role":"user","content":[{"type":"text","text":"two"},
{"type":"image_url","image_url":{"url":"data:image\/png;base64,iVBORw0KGgo="}},
{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,eHh4"}}]}]}"#;

#[test]
fn no_body_makes_its_reader_or_its_judgement_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openclaw");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for body in [CHAT, RESPONSES, UI] {
        assert!(ask_inputs::body(body.as_bytes()), "{body}");
        seeds.extend(std::iter::repeat_n(body.as_bytes().to_vec(), paths.len()));
    }
    let mut numbers = Numbers(0xa5c);
    let inputs = (0..count(20_000)).map(|_| mutated(&mut numbers, &seeds, &WORDS));
    let judged = inputs.filter(|bytes| ask_inputs::body(bytes)).count();
    // Else the judgement was not reached at all.
    assert!(judged > 1000, "{judged}");
}

#[test]
fn no_bytes_make_the_readers_panic() {
    let mut numbers = Numbers(0xb17e);
    for _ in 0..count(20_000) {
        let bytes: Vec<u8> =
            (0..numbers.below(64)).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect();
        ask_inputs::body(&bytes);
    }
}
