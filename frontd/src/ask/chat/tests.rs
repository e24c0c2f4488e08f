use super::*;
use crate::ask::NewMessage;

const FIRST_TURN: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openclaw/first-turn.json"));
const TOOL_FOLLOWUP: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openclaw/tool-followup.json"));

fn bad(body: &str) -> BadRequest {
    let shown = body.get(..200).unwrap_or(body);
    match parse(body.as_bytes()) {
        Ok(_) => panic!("was taken: {shown}"),
        Err(bad) => bad,
    }
}

/// The refusal's param for a body that has `field` besides a good message.
fn param_of(field: &str) -> Option<String> {
    bad(&format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{field}}}"#)).param
}

fn text_of(messages: &str) -> Result<String, BadRequest> {
    parse(format!(r#"{{"messages":{messages}}}"#).as_bytes()).map(|ask| ask.new.text)
}

#[test]
fn every_field_that_we_use_is_read() {
    let body = r#"{"model":"synthesis","stream":true,"stream_options":{"include_usage":true,"x":[1]},
        "user":"u","prompt_cache_key":"k","n":1,"temperature":0.1,"tools":[{"a":{"b":[]}}],
        "messages":[{"role":"developer","content":"d","name":"x"},{"role":"user","content":"hi"}]}"#;
    assert_eq!(
        parse(body.as_bytes()).unwrap(),
        Ask {
            model: Some("synthesis".to_owned()),
            stream: true,
            include_usage: true,
            user: Some("u".to_owned()),
            prompt_cache_key: Some("k".to_owned()),
            runtime: None,
            instructions: Some("d".to_owned()),
            history: Vec::new(),
            hashes: Vec::new(),
            new: NewMessage::from("hi"),
        }
    );
}

#[test]
fn null_is_the_same_as_absent() {
    let body = r#"{"model":null,"stream":null,"stream_options":null,"user":null,"n":null,
        "prompt_cache_key":null,"messages":[
        {"role":"assistant","content":null,"tool_calls":null,"function_call":null},
        {"role":"user","content":"hi"}]}"#;
    let request = parse(body.as_bytes()).unwrap();
    assert_eq!((request.model, request.stream, request.include_usage), (None, false, false));
    let body =
        r#"{"stream_options":{"include_usage":null},"messages":[{"role":"user","content":"x"}]}"#;
    assert!(!parse(body.as_bytes()).unwrap().include_usage);
}

#[test]
fn content_is_a_string_or_text_parts() {
    let parts = r#"[{"role":"user","content":[{"type":"text","text":"one"},
        {"text":"two","type":"text","cache_control":{"type":"ephemeral"}}]}]"#;
    assert_eq!(text_of(parts).unwrap(), "one\ntwo");
    let escaped = r#"[{"role":"user","content":"a\n\"b\" \u00e4 \ud83d\ude00"}]"#;
    assert_eq!(text_of(escaped).unwrap(), "a\n\"b\" ä \u{1f600}");
    let refusal = r#"[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},
        {"role":"user","content":"hi"}]"#;
    assert_eq!(text_of(refusal).unwrap(), "hi");
}

#[test]
fn other_parts_are_refused_with_what_is_accepted() {
    for part in [
        r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#,
        r#"{"type":"file","file":{"file_id":"f"}}"#,
        r#"{"type":"TEXT","text":"x"}"#,
    ] {
        let body = format!(
            r#"{{"messages":[{{"role":"system","content":"s"}},{{"role":"user","content":[{part}]}}]}}"#
        );
        let bad = bad(&body);
        assert_eq!(bad.param.as_deref(), Some("messages.[1].content.[0]"), "{part}");
        assert_eq!(bad.code, "unsupported_content");
    }
}

#[test]
fn broken_json_says_where() {
    for (body, place) in [
        ("", "line 1, column 0"),
        ("{", "line 1, column 1"),
        ("{\"messages\":\n[,]}", "line 2, column 2"),
        ("nul", "line 1, column 3"),
        ("{} x", "line 1, column 4"),
        (r#"{"messages":[{"role":"user","content":"\ud800"}]}"#, "line 1"),
    ] {
        let bad = bad(body);
        assert_eq!((bad.code, &bad.param), ("invalid_json", &None), "{body}");
        assert!(bad.message.contains(place), "{body}: {}", bad.message);
    }
    assert_eq!(parse(b"{\"user\":\"\xff\"}").unwrap_err().code, "invalid_json");
    assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap_err().code, "invalid_json");
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in ["null", "[]", "1", "true", "\"x\"", "[{\"messages\":[]}]"] {
        let bad = bad(body);
        assert_eq!((bad.code, bad.param), ("invalid_type", None), "{body}");
    }
}

#[test]
fn a_wrong_type_names_its_field() {
    for (field, param) in [
        (r#""stream":"yes""#, "stream"),
        (r#""stream":1"#, "stream"),
        (r#""stream_options":true"#, "stream_options"),
        (r#""stream_options":{"include_usage":"yes"}"#, "stream_options.include_usage"),
        (r#""model":5"#, "model"),
        (r#""model":["synthesis"]"#, "model"),
        (r#""user":{}"#, "user"),
        (r#""prompt_cache_key":1.5"#, "prompt_cache_key"),
        (r#""n":"1""#, "n"),
        (r#""n":-1"#, "n"),
        (r#""n":1.5"#, "n"),
        (r#""n":0"#, "n"),
        (r#""n":2"#, "n"),
        (r#""messages":{}"#, "messages"),
        (r#""messages":null"#, "messages"),
        (r#""messages":["hi"]"#, "messages.[0]"),
        (r#""messages":[{"role":"user"},null]"#, "messages.[1]"),
        (r#""messages":[{"role":"user"},{"role":7}]"#, "messages.[1].role"),
        (r#""messages":[{"role":"root"}]"#, "messages.[0].role"),
        (r#""messages":[{"content":"hi"}]"#, "messages.[0].role"),
        (r#""messages":[{"role":"user","content":5}]"#, "messages.[0].content"),
        (r#""messages":[{"role":"user","content":{}}]"#, "messages.[0].content"),
        (r#""messages":[{"role":"user","content":["hi"]}]"#, "messages.[0].content.[0]"),
        (r#""messages":[{"role":"user","content":[{"type":"text"}]}]"#, "messages.[0].content.[0]"),
        (r#""messages":[{"role":"user","content":[{"text":"x"}]}]"#, "messages.[0].content.[0]"),
        (
            r#""messages":[{"role":"user","content":[{"type":"text","text":1}]}]"#,
            "messages.[0].content.[0]",
        ),
        (r#""messages":[{"role":"user","content":[{"type":1}]}]"#, "messages.[0].content.[0]"),
        (r#""messages":[{"role":"assistant","tool_calls":{}}]"#, "messages.[0].tool_calls"),
    ] {
        assert_eq!(param_of(field).as_deref(), Some(param), "{field}");
    }
}

#[test]
fn a_refusal_quotes_no_foreign_text() {
    let long = "x".repeat(100_000);
    for field in [
        format!(r#""stream":"{long}""#),
        format!(r#""messages":"{long}""#),
        format!(r#""messages":[{{"role":"{long}"}}]"#),
        format!(r#""messages":[{{"role":"user","content":[{{"type":"{long}"}}]}}]"#),
        format!(r#""user":{{"{long}":1}}"#),
        format!("\"a\":\n{long}"),
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],{field}}}"#);
        let bad = bad(&body);
        assert!(bad.message.len() < 200, "{} bytes", bad.message.len());
    }
}

#[test]
fn a_message_of_the_user_is_needed() {
    for body in [
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"role":"system","content":"s"},{"role":"assistant","content":"a"}]}"#,
    ] {
        let bad = bad(body);
        assert_eq!(bad.param.as_deref(), Some("messages"), "{body}");
        assert_eq!(bad.code, "missing_required_parameter");
    }
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    let body = r#"{"stream":true,"messages":[{"role":"user","content":"a","content":"b"}],"stream":false}"#;
    let request = parse(body.as_bytes()).unwrap();
    assert_eq!((request.stream, request.new.text.as_str()), (false, "b"));
}

#[test]
fn only_what_is_new_since_the_last_answer_is_sent() {
    let messages = r#"[{"role":"system","content":"s"},{"role":"user","content":"one"},
        {"role":"assistant","content":"1"},{"role":"user","content":"two"},
        {"role":"system","content":"s2"},{"role":"user","content":"three"}]"#;
    assert_eq!(text_of(messages).unwrap(), "two\n\nthree");
    let none = r#"[{"role":"user","content":"one"},{"role":"assistant","content":"1"}]"#;
    assert_eq!(text_of(none).unwrap_err().code, "no_new_message");
    assert_eq!(text_of(r#"[{"role":"user","content":" \n"}]"#).unwrap_err().code, "no_new_message");
}

#[test]
fn an_assistant_message_with_tool_calls_is_no_answer() {
    let messages = r#"[{"role":"user","content":"one"},{"role":"assistant","content":"1"},
        {"role":"user","content":"two"},
        {"role":"assistant","content":"let me look","tool_calls":[{"id":"c"}]},
        {"role":"tool","content":"hi","tool_call_id":"c"},
        {"role":"assistant","content":"","function_call":{"name":"f"}},
        {"role":"assistant","content":null}]"#;
    assert_eq!(text_of(messages).unwrap(), "two");
}

#[test]
fn the_last_user_message_of_openclaw_is_not_what_the_person_said() {
    let request = parse(FIRST_TURN).unwrap();
    assert!(request.stream && request.include_usage);
    assert_eq!(request.new.text, "[Fri 2026-11-20 23:17 UTC] Say hello");
    let request = parse(TOOL_FOLLOWUP).unwrap();
    assert_eq!(request.new.text, "[Fri 2026-11-20 23:17 UTC] Run echo hi");
    let runtime = request.runtime.unwrap();
    assert_eq!(runtime.session.as_deref(), Some("agent:main:explicit:s-proto-1"));
}

#[test]
fn large_bodies_are_read_in_one_pass() {
    const SIZE: usize = 8 << 20;
    // Ignored, however deep and wide it is.
    let wrap =
        |junk: &str| format!(r#"{{"x":{junk},"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let depth = SIZE / 2;
    let deep = wrap(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(parse(deep.as_bytes()).unwrap().new.text, "hi");
    let wide = wrap(&format!("[{}1]", "1,".repeat(SIZE / 2)));
    assert_eq!(parse(wide.as_bytes()).unwrap().new.text, "hi");
    // Where it is not ignored, nesting is refused at its first step.
    let deep = format!(r#"{{"messages":{}"#, "[".repeat(SIZE));
    assert_eq!(bad(&deep).param.as_deref(), Some("messages.[0]"));
    let long = "x".repeat(SIZE);
    let text = text_of(&format!(r#"[{{"role":"user","content":"{long}"}}]"#)).unwrap();
    assert_eq!(text.len(), SIZE);
}

#[test]
fn messages_are_counted() {
    const MOST: usize = 65_536;
    let body = |count: usize| {
        let messages = vec![r#"{"role":"user","content":"x"}"#; count].join(",");
        format!(r#"{{"messages":[{messages}]}}"#)
    };
    assert_eq!(parse(body(MOST).as_bytes()).unwrap().new.hashes().len(), MOST);
    assert_eq!(bad(&body(MOST + 1)).code, "too_many_messages");
}
