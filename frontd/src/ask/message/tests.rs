use super::*;
use crate::ask::chat;

const PNG: &str = "data:image/png;base64,iVBORw0KGgo=";

fn new(messages: &str) -> NewMessage {
    chat::parse(format!(r#"{{"messages":{messages}}}"#).as_bytes()).unwrap().new
}

fn user(text: &str, files: usize) -> String {
    let text = (!text.is_empty()).then(|| format!(r#"{{"type":"text","text":"{text}"}}"#));
    let file = format!(r#"{{"type":"image_url","image_url":{{"url":"{PNG}"}}}}"#);
    let parts: Vec<String> = text.into_iter().chain((0..files).map(|_| file.clone())).collect();
    format!(r#"{{"role":"user","content":[{}]}}"#, parts.join(","))
}

fn of(messages: &[String]) -> NewMessage {
    new(&format!("[{}]", messages.join(",")))
}

#[test]
fn messages_of_text_and_files_are_joined_in_order() {
    let both = of(&[user("one", 1), user("", 2), user("two", 0)]);
    assert_eq!((both.text.as_str(), both.files.len()), ("one\n\ntwo", 3));
    assert_eq!(both.hashes(), [history::hash("one"), history::hash("two")]);
    let files = of(&[user("", 1)]);
    assert_eq!((files.text.as_str(), files.files.len()), ("", 1));
    assert!(files.hashes().is_empty());
}

#[test]
fn what_claude_has_seen_goes_with_its_files() {
    let all = of(&[user("one", 1), user("", 2), user("two", 0), user("three", 4)]);
    for (count, text, files) in
        [(0, "one\n\ntwo\n\nthree", 7), (1, "two\n\nthree", 6), (2, "three", 4), (3, "", 0)]
    {
        let mut left = all.clone();
        left.leave_out(count);
        assert_eq!((left.text.as_str(), left.files.len()), (text, files), "{count}");
        assert_eq!(left.hashes().len(), 3 - count);
        let mut by_one = all.clone();
        (0..count).for_each(|_| by_one.leave_out(1));
        assert_eq!(left, by_one);
    }
}

#[test]
fn files_are_counted_over_all_new_messages_and_older_ones_are_not_looked_at() {
    let old = |files| {
        let parts = vec![r#"{"type":"image_url","image_url":{"url":"http://x"}}"#; files];
        format!(r#"{{"role":"user","content":[{}]}}"#, parts.join(","))
    };
    let answer = r#"{"role":"assistant","content":"so"}"#.to_owned();
    assert_eq!(of(&[old(50), answer.clone(), user("", MAX_FILES)]).files.len(), MAX_FILES);
    for messages in [
        vec![user("x", MAX_FILES + 1)],
        vec![user("x", MAX_FILES + 50)],
        vec![user("x", MAX_FILES), user("y", 1)],
    ] {
        let body = format!(r#"{{"messages":[{}]}}"#, messages.join(","));
        assert_eq!(chat::parse(body.as_bytes()).unwrap_err().code, "too_many_files");
    }
    let body = format!(r#"{{"messages":[{answer},{}]}}"#, old(1));
    let bad = chat::parse(body.as_bytes()).unwrap_err();
    assert_eq!(bad.param.as_deref(), Some("messages.[1].content.[0]"));
}

#[test]
fn instructions_are_all_system_and_developer_texts() {
    let ask =
        |messages: &str| chat::parse(format!(r#"{{"messages":[{messages}]}}"#).as_bytes()).unwrap();
    let hi = r#"{"role":"user","content":"hi"}"#;
    assert_eq!(ask(hi).instructions, None);
    let all = format!(
        r#"{{"role":"system","content":" Be brief.\n"}},{{"role":"user","content":"one"}},
        {{"role":"assistant","content":"1"}},{{"role":"developer","content":[
        {{"type":"text","text":"a"}},{{"type":"text","text":"b"}}]}},
        {{"role":"system","content":" "}},{hi}"#
    );
    let all = ask(&all);
    assert_eq!(all.instructions.as_deref(), Some("Be brief.\n\na\nb"));
    let said: Vec<_> = all.history.iter().map(|said| (said.who, said.text.as_str())).collect();
    assert_eq!(said, [(Speaker::Person, "one"), (Speaker::Assistant, "1")]);
}

#[test]
fn tool_traffic_is_no_history() {
    let ask = chat::parse(
        br#"{"messages":[{"role":"user","content":"one"},
        {"role":"assistant","content":"let me look","tool_calls":[{"id":"c"}]},
        {"role":"tool","content":"output","tool_call_id":"c"},
        {"role":"assistant","content":"1"},{"role":"user","content":"two"},
        {"role":"assistant","content":"hm","tool_calls":[{"id":"d"}]},
        {"role":"tool","content":"output","tool_call_id":"d"}]}"#,
    )
    .unwrap();
    let said: Vec<&str> = ask.history.iter().map(|said| said.text.as_str()).collect();
    assert_eq!((said, ask.new.text.as_str()), (vec!["one", "let me look", "1"], "two"));
}

#[test]
fn a_summary_is_not_what_the_person_said() {
    let summary = r"The conversation history before this point was compacted into the following summary:\n\n<summary>\nmuch\n</summary>";
    let ask = chat::parse(
        format!(r#"{{"messages":[{{"role":"user","content":"{summary}"}},{}]}}"#, user("two", 0))
            .as_bytes(),
    )
    .unwrap();
    assert_eq!((ask.history.len(), ask.new.text.as_str()), (1, "two"));
    let alone = format!(r#"{{"messages":[{{"role":"user","content":"{summary}"}}]}}"#);
    assert_eq!(chat::parse(alone.as_bytes()).unwrap_err().code, "no_new_message");
}

#[test]
fn a_note_after_the_message_leaves_its_id() {
    let ask = crate::ask::ui::parse(
        br#"{"id":"c","messages":[{"id":"m1","role":"user","content":"hi"},
        {"id":"m2","role":"user","content":""}]}"#,
    )
    .unwrap();
    assert_eq!(ask.ask.new.client_id.as_deref(), Some("m1"));
}
