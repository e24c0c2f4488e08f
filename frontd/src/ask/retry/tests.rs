use super::*;
use crate::ask::{NewMessage, chat};

macro_rules! body {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openclaw/", $name, ".json"))
    };
}

const PROMPT: &str = "Continue the current task from the existing transcript, and so on.";

fn ask(body: &[u8]) -> Ask {
    chat::parse(body).unwrap()
}

fn of_text(text: &str) -> Ask {
    let mut ask = ask(br#"{"messages":[{"role":"user","content":"x"}]}"#);
    ask.new = NewMessage::from(text);
    ask
}

/// A user message as the request has it, after the messages `before`.
fn said(before: &str, texts: &[&str]) -> Ask {
    let messages = texts.iter().map(|text| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"role":"user","content":{text}}}"#)
    });
    let messages: Vec<String> = messages.collect();
    ask(format!(r#"{{"messages":[{before}{}]}}"#, messages.join(",")).as_bytes())
}

/// The bodies are OpenClaw's own, of 2026.9.6.
#[test]
fn openclaws_rewritten_turns_are_recognised() {
    let second = ask(body!("second-turn"));
    assert_eq!(second.new.text, "[Sat 2026-11-21 16:07 UTC] Say two");
    assert!(!repeats(&second, &second.new.text, 0));

    let again = ask(body!("retry-second-turn"));
    assert_eq!(again.new.text, "[Sat 2026-11-21 16:07 UTC] Say two");
    assert_eq!(again.history, second.history);
    assert!(repeats(&again, &second.new.text, 0));
    assert!(!repeats(&again, "[Sat 2026-11-21 16:07 UTC] Say one", 0));

    let first = ask(body!("retry-first-turn"));
    assert_eq!(first.new.text, "[Sat 2026-11-21 16:13 UTC] Say one");
    assert!(first.runtime.is_some());
    assert!(repeats(&first, "[Sat 2026-11-21 16:12 UTC] Say one", 0), "the time is another");

    let after_tool = ask(body!("retry-after-tool"));
    assert_eq!(after_tool.new.text, "[Sat 2026-11-21 16:14 UTC] Say two");
    assert!(repeats(&after_tool, "[Sat 2026-11-21 16:14 UTC] Say two", 0));
}

#[test]
fn the_turn_after_is_none_of_them() {
    let after = ask(body!("after-retry"));
    assert_eq!(after.new.text, "[Sat 2026-11-21 16:07 UTC] Say three");
    for (name, body) in [
        ("retry", &body!("after-retry")[..]),
        ("refusal", body!("after-refusal")),
        ("abort", body!("after-abort")),
    ] {
        let ask = ask(body);
        assert!(ask.new.text.ends_with("Say three"), "{name}");
        assert!(!ask.new.text.contains("turn_aborted"), "{name}");
        let said: Vec<&str> = ask.history.iter().map(|said| said.text.as_str()).collect();
        assert!(said.iter().all(|text| !text.contains("Continue")), "{said:?}");
        for of in ["Say one", "Say two", "Say three", &ask.new.text] {
            assert!(!repeats(&ask, of, 0), "{name}: {of}");
        }
    }
}

/// A request that claude had seen a part of: the run began with the rest.
#[test]
fn messages_before_the_runs_own_do_not_matter() {
    let again = format!("{QUEUED}and three\n\nin two paragraphs\n\n{PROMPT}");
    let ask = said("", &["Say two", &again]);
    assert_eq!(ask.new.text, "Say two\n\nand three\n\nin two paragraphs");
    assert!(repeats(&ask, "and three\n\nin two paragraphs", 0));
    assert!(repeats(&ask, "Say two\n\nand three\n\nin two paragraphs", 0));
    assert!(!repeats(&ask, "in two paragraphs", 0));
    assert!(!repeats(&ask, "Say two", 0));
}

#[test]
fn a_bare_prompt_to_go_on_repeats_the_last_turn() {
    let before = r#"{"role":"user","content":"Say two"},{"role":"assistant","content":"so"},"#;
    let ask = said(before, &[&format!("[Sat 2026-11-21 16:07 UTC] {PROMPT}")]);
    assert!(ask.new.text.ends_with(PROMPT), "claude would have to go on");
    assert!(ask.new.hashes().is_empty());
    assert!(repeats(&ask, "[Sat 2026-11-21 16:06 UTC] Say two", 0));
    assert!(!repeats(&ask, "so", 0));
    let later = said("", &["Say two", PROMPT, "and three"]);
    assert_eq!(later.new.text, "Say two\n\nand three");
    assert!(!repeats(&later, "Say two\n\nand three", 0), "somebody went on");
}

#[test]
fn a_counted_retry_repeats_the_same_text_alone() {
    let ask = of_text("Say two");
    assert!(repeats(&ask, "Say two", 1));
    assert!(repeats(&ask, "Say two", 2));
    assert!(!repeats(&ask, "Say two", 0), "people say the same twice");
    assert!(!repeats(&ask, "Say one", 1));
    assert!(!repeats(&ask, "", 1));
}

#[test]
fn what_only_looks_like_it_is_the_persons_own() {
    let marker = QUEUED.trim_end();
    for text in [
        marker.to_owned(),
        format!("{QUEUED}Say two"),
        format!("{QUEUED}Say two\n\nand now something else"),
        format!("{QUEUED}Say two\n\n{PROMPT}\nand more"),
        format!("Why do I see {QUEUED}Say two\n\n{PROMPT}"),
        format!("Say two\n\n{PROMPT}"),
        format!("{PROMPT}\nBut first call home."),
        "<turn_aborted>\nwhat is that?".to_owned(),
        "see <turn_aborted>\nx\n</turn_aborted>".to_owned(),
    ] {
        assert_eq!(written(text.clone()), Written::Once(text));
    }
}

#[test]
fn the_rewriting_comes_off_and_the_time_stays() {
    let stamp = "[Sat 2026-11-21 16:07 UTC] ";
    let again = format!("{stamp}{QUEUED}{PROMPT} is what I saw\n\nwhy?\n\n{PROMPT}");
    let said = format!("{stamp}{PROMPT} is what I saw\n\nwhy?");
    assert_eq!(written(again), Written::Again(said));
    let note =
        format!("{stamp}<turn_aborted>\nThe previous turn was interrupted.\n</turn_aborted>");
    assert_eq!(written(note), Written::Note);
    assert_eq!(written(PROMPT.to_owned()), Written::Continue(PROMPT.to_owned()));
}
