use super::*;
use crate::ask::Speaker;

/// As the transport of `ai` 7.0 sends it.
const BODY: &str = r#"{"id":"chat-1","trigger":"submit-message","messages":[
    {"id":"m1","role":"user","parts":[{"type":"text","text":"one"},
     {"type":"file","mediaType":"image/png","url":"https://old.example/a.png"}]},
    {"id":"m2","role":"assistant","metadata":{"x":1},"parts":[{"type":"step-start"},
     {"type":"reasoning","text":"hm","state":"done"},{"type":"text","text":"1","state":"done"},
     {"type":"dynamic-tool","toolName":"Bash","toolCallId":"t","state":"output-available","input":{"url":{"deep":[[1]]}},"output":"x"},
     {"type":"data-run","id":"r","data":{"text":7}},{"type":"source-url","sourceId":"s","url":"https://x"},
     {"type":"text","text":"and one"}]},
    {"id":"m3","role":"user","metadata":null,"parts":[{"type":"text","text":"what is this?"},
     {"type":"file","mediaType":"image/png","filename":"a/b.png","url":"data:image/png;base64,iVBORw0KGgo="}]}]}"#;

fn good(body: &str) -> UiAsk {
    parse(body.as_bytes()).unwrap()
}

fn bad(body: &str) -> (&'static str, String) {
    let bad = parse(body.as_bytes()).unwrap_err();
    (bad.code, bad.param.unwrap_or_default())
}

fn with(fields: &str, messages: &str) -> String {
    format!(r#"{{"id":"c","messages":[{messages}]{fields}}}"#)
}

const HI: &str = r#"{"id":"m","role":"user","parts":[{"type":"text","text":"hi"}]}"#;

#[test]
fn a_chat_of_the_sdk_is_read() {
    let ui = good(BODY);
    assert_eq!((ui.chat.as_str(), ui.regenerate, ui.rewinds), ("chat-1", false, false));
    let ask = ui.ask;
    assert!(ask.stream && ask.model.is_none() && ask.instructions.is_none());
    let said: Vec<_> = ask.history.iter().map(|said| (said.who, said.text.as_str())).collect();
    assert_eq!(said, [(Speaker::Person, "one"), (Speaker::Assistant, "1\nand one")]);
    assert_eq!(ask.new.client_id.as_deref(), Some("m3"));
    assert_eq!(ask.new.text, "what is this?");
    let names: Vec<&str> = ask.new.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["b.png"]);
}

#[test]
fn messages_of_version_four_have_content() {
    let text = |message: &str| good(&with("", message)).ask.new.text;
    assert_eq!(text(r#"{"role":"user","content":"hi"}"#), "hi");
    let both = r#"{"role":"user","content":"hi","parts":[{"type":"text","text":"hi"}]}"#;
    assert_eq!(text(both), "hi");
    let parts = r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#;
    assert_eq!(text(parts), "hi");
    let model = good(&with(r#","model":"synthesis","x":{}"#, HI)).ask.model;
    assert_eq!(model.as_deref(), Some("synthesis"));
}

#[test]
fn triggers_and_edits_tell_who_went_back() {
    for (fields, regenerate, rewinds) in [
        ("", false, false),
        (r#","trigger":null,"messageId":null"#, false, false),
        (r#","trigger":"submit-message""#, false, false),
        (r#","trigger":"submit-message","messageId":"m""#, false, true),
        (r#","trigger":"submit-message","messageId":"x""#, false, false),
        (r#","trigger":"regenerate-message","messageId":"x""#, true, true),
        (r#","trigger":"regenerate-message""#, true, true),
    ] {
        let ui = good(&with(fields, HI));
        assert_eq!((ui.regenerate, ui.rewinds), (regenerate, rewinds), "{fields}");
        assert_eq!(ui.key().is_some(), !regenerate);
    }
    for trigger in ["resume-stream", "", "submit"] {
        let body = with(&format!(r#","trigger":"{trigger}""#), HI);
        assert_eq!(bad(&body), ("invalid_value", "trigger".to_owned()));
    }
}

#[test]
fn the_same_submit_alone_has_the_same_key() {
    let key = |body: &str| good(body).key();
    let message = |id: &str, text: &str, file: &str| {
        let file = if file.is_empty() {
            String::new()
        } else {
            format!(r#",{{"type":"file","filename":"{file}","url":"data:text/plain;base64,AAAA"}}"#)
        };
        let file = file.replace("AAAA", "YWFh");
        format!(
            r#"{{"id":"{id}","role":"user","parts":[{{"type":"text","text":"{text}"}}{file}]}}"#
        )
    };
    let answered = r#"{"id":"a","role":"assistant","parts":[{"type":"text","text":"so"}]}"#;
    let first = key(&with("", HI));
    assert!(first.is_some());
    assert_eq!(first, key(&with(r#","messageId":"m""#, HI)), "sent again");
    assert_eq!(first, key(&with("", &format!("{answered},{HI}"))), "the history is no part of it");
    for other in [
        with("", &message("m", "hi there", "")),
        with("", &message("n", "hi", "")),
        with("", &message("m", "hi", "a.txt")),
        with("", HI).replace(r#""id":"c""#, r#""id":"d""#),
    ] {
        assert!(key(&other).is_some_and(|key| Some(key) != first), "{other}");
    }
    assert_eq!(key(&with("", r#"{"role":"user","content":"hi"}"#)), None);
    assert_eq!(key(&with("", r#"{"id":"","role":"user","content":"hi"}"#)), None);
}

#[test]
fn faults_are_named() {
    let long = "x".repeat(MAX_ID + 1);
    let missing = ("missing_required_parameter", String::new());
    for (body, code, param) in [
        (format!(r#"{{"messages":[{HI}]}}"#), missing.0, "id"),
        (format!(r#"{{"id":"","messages":[{HI}]}}"#), missing.0, "id"),
        (format!(r#"{{"id":"{long}","messages":[{HI}]}}"#), "too_long", "id"),
        (format!(r#"{{"id":5,"messages":[{HI}]}}"#), "invalid_type", "id"),
        (r#"{"id":"c"}"#.to_owned(), missing.0, "messages"),
        (r#"{"id":"c","messages":"hi"}"#.to_owned(), "invalid_type", "messages"),
        (r#"{"id":"c","messages":[7]}"#.to_owned(), "invalid_type", "messages.[0]"),
        (with("", r#"{"parts":[]}"#), missing.0, "messages.[0].role"),
        (with("", r#"{"role":"tool"}"#), "invalid_value", "messages.[0].role"),
        (with("", r#"{"role":"user","parts":7}"#), "invalid_type", "messages.[0].parts"),
        (with("", r#"{"role":"user","parts":[7]}"#), "invalid_type", "messages.[0].parts.[0]"),
        (
            with("", r#"{"role":"user","parts":[{"type":"text"}]}"#),
            "invalid_value",
            "messages.[0].parts.[0]",
        ),
        (
            with("", r#"{"role":"user","parts":[{"type":"file","mediaType":"image/png"}]}"#),
            "invalid_value",
            "messages.[0].parts.[0]",
        ),
        (
            with("", r#"{"role":"user","parts":[{"type":"file","url":"https://x/a.png"}]}"#),
            "unsupported_content",
            "messages.[0].parts.[0]",
        ),
        (with("", r#"{"role":"user","parts":[]}"#), "no_new_message", "messages"),
        (with("", r#"{"role":"user","parts":[{"type":"data-x"}]}"#), "no_new_message", "messages"),
        (
            with("", &format!(r#"{HI},{{"role":"assistant","parts":[{{"type":"tool-x"}}]}}"#)),
            "no_new_message",
            "messages",
        ),
        (with("", &HI.replace(r#""m""#, &format!(r#""{long}""#))), "too_long", "messages"),
        (with(r#","messageId":{}"#, HI), "invalid_type", "messageId"),
    ] {
        assert_eq!(bad(&body), (code, param.to_owned()), "{}", body.get(..200).unwrap_or(&body));
    }
    let longest = "x".repeat(MAX_ID);
    assert_eq!(good(&format!(r#"{{"id":"{longest}","messages":[{HI}]}}"#)).chat, longest);
}
