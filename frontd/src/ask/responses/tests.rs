use super::*;
use crate::ask::Speaker;

fn good(fields: &str) -> ResponsesAsk {
    parse(format!("{{{fields}}}").as_bytes()).unwrap()
}

fn bad(fields: &str) -> (&'static str, String) {
    let bad = parse(format!("{{{fields}}}").as_bytes()).unwrap_err();
    (bad.code, bad.param.unwrap_or_default())
}

fn said(ask: &Ask) -> Vec<(Speaker, &str)> {
    ask.history.iter().map(|said| (said.who, said.text.as_str())).collect()
}

#[test]
fn input_may_be_a_text() {
    let all = good(
        r#""model":"synthesis","input":"hi","instructions":"Be brief.","stream":true,"user":"u",
        "prompt_cache_key":"k","background":true,"previous_response_id":"resp_1","store":false,
        "metadata":{"a":"b"},"tools":[{"type":"function","name":"f","parameters":{}}],
        "reasoning":{"effort":"low"},"text":{"format":{"type":"text"}},"include":["x"]"#,
    );
    let ask = &all.ask;
    assert_eq!((ask.new.text.as_str(), ask.history.len()), ("hi", 0));
    assert_eq!(ask.instructions.as_deref(), Some("Be brief."));
    assert_eq!((ask.model.as_deref(), ask.user.as_deref()), (Some("synthesis"), Some("u")));
    assert_eq!((ask.prompt_cache_key.as_deref(), ask.stream), (Some("k"), true));
    assert_eq!((all.previous.as_deref(), all.background), (Some("resp_1"), true));
    let least = good(r#""input":"hi""#);
    assert_eq!((least.previous, least.conversation, least.background), (None, None, false));
    assert!(!least.ask.stream && least.ask.instructions.is_none());
    let null = r#""input":"hi","model":null,"stream":null,"background":null,"instructions":null,
        "previous_response_id":null,"conversation":null,"user":null,"prompt_cache_key":null"#;
    assert_eq!(good(null), good(r#""input":"hi""#));
}

#[test]
fn items_are_messages_or_of_no_interest() {
    let all = good(
        r#""instructions":"First.","input":[
        {"role":"developer","content":"Second."},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"one"},
         {"type":"input_image","image_url":"https://old.example/a.png","detail":"auto"}]},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}]},
        {"type":"message","id":"msg_0","role":"assistant","status":"completed","content":[{"type":"output_text","text":"let me look","annotations":[]}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"7"}]},
        {"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"1"},{"type":"refusal","refusal":"no"}]},
        {"type":"web_search_call","id":"ws","status":"completed"},
        {"role":"system","content":"Third."},
        {"role":"user","content":"two"},
        {"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="},
         {"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}]"#,
    );
    let ask = &all.ask;
    let wanted = [
        (Speaker::Person, "one"),
        (Speaker::Assistant, "let me look"),
        (Speaker::Assistant, "1\nno"),
    ];
    assert_eq!(said(ask), wanted);
    assert_eq!(ask.instructions.as_deref(), Some("First.\n\nSecond.\n\nThird."));
    assert_eq!(ask.new.text, "two");
    let names: Vec<&str> = ask.new.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["a.pdf", "file.png"]);
}

#[test]
fn what_was_said_before_a_call_is_no_answer() {
    let ask = good(
        r#""input":[{"role":"user","content":"one"},{"role":"assistant","content":"1"},
        {"role":"user","content":"two"},{"role":"assistant","content":"let me look"},
        {"type":"custom_tool_call","call_id":"c","name":"f","input":""},
        {"type":"custom_tool_call_output","call_id":"c","output":"7"}]"#,
    )
    .ask;
    assert_eq!(ask.new.text, "two");
    assert_eq!(said(&ask), [(Speaker::Person, "one"), (Speaker::Assistant, "1")]);
}

#[test]
fn a_reference_to_a_message_stands_for_our_answer() {
    let of = |reference: &str| {
        let ask = good(&format!(
            r#""input":[{{"role":"user","content":"one"}},{{"type":"item_reference","id":"{reference}"}},
            {{"role":"user","content":"two"}}]"#
        ))
        .ask;
        (said(&ask).len(), ask.new.text)
    };
    assert_eq!(of("msg_1"), (1, "two".to_owned()));
    assert_eq!(of("rs_1"), (0, "one\n\ntwo".to_owned()));
}

#[test]
fn a_conversation_is_named_or_an_object() {
    let of = |value: &str| good(&format!(r#""input":"hi","conversation":{value}"#)).conversation;
    assert_eq!(of(r#""conv_1""#).as_deref(), Some("conv_1"));
    assert_eq!(of(r#"{"x":[1],"id":"conv_1"}"#).as_deref(), Some("conv_1"));
    assert_eq!(of(r#""""#), None);
    let both = r#""input":"hi","conversation":"c","previous_response_id":"r""#;
    assert_eq!(bad(both), ("invalid_value", "previous_response_id".to_owned()));
}

#[test]
fn faults_are_named() {
    for (fields, code, param) in [
        (r#""x":1"#, "missing_required_parameter", "input"),
        (r#""input":[]"#, "missing_required_parameter", "input"),
        (r#""input":[{"type":"reasoning"}]"#, "missing_required_parameter", "input"),
        (r#""input":null"#, "invalid_type", "input"),
        (r#""input":7"#, "invalid_type", "input"),
        (r#""input":{}"#, "invalid_type", "input"),
        (r#""input":"""#, "no_new_message", "input"),
        (r#""input":[7]"#, "invalid_type", "input.[0]"),
        (r#""input":["hi"]"#, "invalid_type", "input.[0]"),
        (r#""input":[{"role":"tool","content":"x"}]"#, "invalid_value", "input.[0].role"),
        (
            r#""input":[{"type":"message","content":"x"}]"#,
            "missing_required_parameter",
            "input.[0].role",
        ),
        (r#""input":[{"role":"user","content":7}]"#, "invalid_type", "input.[0].content"),
        (r#""input":[{"role":"user","content":[7]}]"#, "invalid_type", "input.[0].content.[0]"),
        (
            r#""input":[{"role":"user","content":[{"type":"input_text"}]}]"#,
            "invalid_value",
            "input.[0].content.[0]",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_image"}]}]"#,
            "invalid_value",
            "input.[0].content.[0]",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]"#,
            "unsupported_content",
            "input.[0].content.[0]",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_file","file_url":"https://x/a.pdf"}]}]"#,
            "unsupported_content",
            "input.[0].content.[0]",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_audio","input_audio":{}}]}]"#,
            "unsupported_content",
            "input.[0].content.[1]",
        ),
        (r#""input":[{"role":"assistant","content":"x"}]"#, "no_new_message", "input"),
        (r#""input":"hi","stream":"yes""#, "invalid_type", "stream"),
        (r#""input":"hi","background":1"#, "invalid_type", "background"),
        (r#""input":"hi","instructions":["x"]"#, "invalid_type", "instructions"),
        (r#""input":"hi","previous_response_id":7"#, "invalid_type", "previous_response_id"),
        (r#""input":"hi","conversation":7"#, "invalid_type", "conversation"),
        (r#""input":"hi","conversation":{}"#, "invalid_value", "conversation.id"),
        (r#""input":"hi","conversation":{"id":7}"#, "invalid_type", "conversation.id"),
        (r#""input":"hi","model":{}"#, "invalid_type", "model"),
        (r#""input":"hi","user":[]"#, "invalid_type", "user"),
        (r#""input":"hi","prompt_cache_key":true"#, "invalid_type", "prompt_cache_key"),
    ] {
        assert_eq!(bad(fields), (code, param.to_owned()), "{fields}");
    }
    assert_eq!(parse(b"[]").unwrap_err().code, "invalid_type");
    assert_eq!(parse(b"{").unwrap_err().code, "invalid_json");
}
