use super::*;
use crate::ask::{BadRequest, chat};

/// A request by its messages, each a letter and a text: `u` the user's, `a` an answer.
fn ask(messages: &[&str]) -> Ask {
    try_ask(messages).unwrap()
}

fn try_ask(messages: &[&str]) -> Result<Ask, BadRequest> {
    let messages: Vec<String> = messages
        .iter()
        .map(|message| {
            let (who, text) = message.split_once(' ').unwrap_or((message, ""));
            let role = if who == "u" { "user" } else { "assistant" };
            let text = serde_json::to_string(text).unwrap();
            format!(r#"{{"role":"{role}","content":{text}}}"#)
        })
        .collect();
    chat::parse(format!(r#"{{"messages":[{}]}}"#, messages.join(",")).as_bytes())
}

/// What claude has seen: as `ask`, in the order in which it saw it.
fn seen(messages: &[&str]) -> Vec<u64> {
    let hash = |message: &&str| match message.split_once(' ') {
        Some(("u", text)) => Some(hash(text)),
        Some((_, text)) => hash_answer(text),
        None => None,
    };
    messages.iter().filter_map(hash).collect()
}

/// The judgement, and the new message that is left.
fn told(messages: &[&str], of: &[&str], rewinds: bool) -> String {
    let mut ask = ask(messages);
    let shown = |said: &[Said]| {
        let texts: Vec<&str> = said.iter().map(|said| said.text.as_str()).collect();
        texts.join(" ")
    };
    let past = match judge(&mut ask, rewinds, &seen(of)) {
        Past::Continue => "continue".to_owned(),
        Past::WithContext(said) => format!("with {}", shown(&said)),
        Past::Fresh(said) => format!("fresh {}", shown(&said)),
    };
    assert!(ask.history.is_empty());
    format!("{past} | {}", ask.new.text.replace("\n\n", " "))
}

/// What real clients send, what claude has seen, and what must come of it.
#[test]
fn the_past_of_real_clients() {
    const SUMMARY: &str = "u The conversation history before this point was compacted into the \
        following summary:\n\n<summary>\nmuch was said\n</summary>";
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a str);
    let cases: &[Case<'_>] = &[
        // Nothing out of the ordinary.
        ("curl, first", &["u one"], &[], "continue | one"),
        ("curl, later, no history", &["u two"], &["u one"], "continue | two"),
        ("a chat", &["u one", "a 1", "u two"], &["u one"], "continue | two"),
        (
            "a longer chat",
            &["u one", "a 1", "u two", "a 2", "u three"],
            &["u one", "u two"],
            "continue | three",
        ),
        (
            "other white space",
            &["u one  \n two", "a 1", "u three"],
            &["u one two"],
            "continue | three",
        ),
        (
            "several at once",
            &["u one", "a 1", "u two", "u three"],
            &["u one"],
            "continue | two three",
        ),
        // Windows.
        (
            "the last messages only",
            &["a 2", "u three", "a 3", "u four"],
            &["u one", "u two", "u three"],
            "continue | four",
        ),
        ("an answer and the new one", &["a 3", "u four"], &["u one", "u three"], "continue | four"),
        (
            "all of it, and more was seen",
            &["u b", "a 2", "u c", "a 3", "u d"],
            &["u a", "u b", "u c"],
            "continue | d",
        ),
        // A conversation that claude does not know.
        ("a chat from elsewhere", &["u one", "a 1", "u two"], &[], "with one 1 | two"),
        (
            "an answer from elsewhere",
            &["a hello, I am your helper", "u two"],
            &[],
            "with hello, I am your helper | two",
        ),
        ("another chat", &["u one", "a 1", "u two"], &["u red", "u green"], "fresh one 1 | two"),
        (
            "another chat, one turn",
            &["u hello", "a hi", "u two"],
            &["u hi"],
            "fresh hello hi | two",
        ),
        // Answered by somebody else in between.
        (
            "another model",
            &["u one", "a 1", "u two", "a 2", "u three"],
            &["u one"],
            "with two 2 | three",
        ),
        (
            "another model, twice",
            &["u one", "a 1", "u two", "a 2", "u three", "a 3", "u four"],
            &["u zero", "u one"],
            "with two 2 three 3 | four",
        ),
        // The person went back.
        ("regenerated", &["u one", "a 1", "u two"], &["u one", "u two"], "fresh one 1 | two"),
        (
            "edited",
            &["u one", "a 1", "u two, please"],
            &["u one", "u two"],
            "fresh one 1 | two, please",
        ),
        (
            "far back",
            &["u one", "a 1", "u new"],
            &["u one", "u two", "u three"],
            "fresh one 1 | new",
        ),
        (
            "back to the same words",
            &["u one", "a 1", "u yes", "a y", "u new"],
            &["u one", "u yes", "u two", "u yes"],
            "fresh one 1 yes y | new",
        ),
        (
            "an older one edited",
            &["u uno", "a 1", "u two", "a 2", "u three"],
            &["u one", "u two"],
            "continue | three",
        ),
        (
            "the middle deleted",
            &["u one", "a 1", "u three", "a 3", "u four"],
            &["u one", "u two", "u three"],
            "continue | four",
        ),
        (
            "the last turn deleted",
            &["u one", "a 1", "u three"],
            &["u one", "u two"],
            "fresh one 1 | three",
        ),
        (
            "the last answer deleted",
            &["u one", "a 1", "u two", "u three"],
            &["u one", "u two"],
            "continue | three",
        ),
        // The same words twice.
        (
            "yes and yes",
            &["u one", "a 1", "u yes", "a y", "u yes"],
            &["u one", "u yes"],
            "continue | yes",
        ),
        (
            "yes, which claude does not know",
            &["u a", "a 1", "u yes", "a 2", "u b", "a 3", "u yes", "a 4", "u c"],
            &["u a", "u yes"],
            "with b 3 yes 4 | c",
        ),
        (
            "yes without an answer",
            &["u yes", "a y", "u yes", "u more"],
            &["u b", "u yes"],
            "continue | yes more",
        ),
        (
            "a window, then another model",
            &["u yes", "a y", "u q", "a 2", "u yes", "a 3", "u c"],
            &["u b", "u yes"],
            "with q 2 yes 3 | c",
        ),
        (
            "yes without an answer, after an edit",
            &["u x", "a 1", "u yes", "a y", "u yes", "u more"],
            &["u b", "u yes"],
            "continue | yes more",
        ),
        // Turns without an answer.
        (
            "failed before claude saw it",
            &["u one", "a 1", "u two", "u three"],
            &["u one"],
            "continue | two three",
        ),
        (
            "failed after",
            &["u one", "a 1", "u two", "u three"],
            &["u one", "u two"],
            "continue | three",
        ),
        (
            "stopped before a word",
            &["u one", "a 1", "u two", "a ", "u three"],
            &["u one", "u two"],
            "continue | three",
        ),
        ("stopped, the first", &["u one", "a ", "u two"], &["u one"], "continue | two"),
        ("stopped twice", &["u one", "u two", "u three"], &["u one", "u two"], "continue | three"),
        (
            "stopped, and the same again",
            &["u one", "a 1", "u two", "u two"],
            &["u one", "u two"],
            "continue | two",
        ),
        // OpenClaw.
        (
            "the time",
            &["u [Fri 2026-11-20 23:17 UTC] one", "a 1", "u two"],
            &["u one"],
            "continue | two",
        ),
        (
            "the Runtime line",
            &["u one\n\nRuntime: agent=main | session=x", "a 1", "u two"],
            &["u one"],
            "continue | two",
        ),
        (
            "compacted",
            &[SUMMARY, "u three", "a 3", "u four"],
            &["u one", "u two", "u three"],
            "continue | four",
        ),
        (
            "compacted to nothing",
            &[SUMMARY, "u four"],
            &["u one", "u two", "u three"],
            "continue | four",
        ),
        // A client that changes the words it has sent, such as one that adds what it found.
        (
            "changed, same answer",
            &["u one", "a this is what I have found on one", "u two"],
            &["u found: one", "a this is what I have found on one"],
            "continue | two",
        ),
        (
            "changed, twice",
            &[
                "u one",
                "a this is what I have found on one",
                "u two",
                "a that is what I have found on two",
                "u three",
            ],
            &[
                "u found: one",
                "a this is what I have found on one",
                "u found: two",
                "a that is what I have found on two",
            ],
            "continue | three",
        ),
        (
            "changed, then another model",
            &["u one", "a this is what I have found on one", "u two", "a 2", "u three"],
            &["u found: one", "a this is what I have found on one"],
            "with two 2 | three",
        ),
        (
            "the same short answer",
            &["u one", "a Done.", "u two"],
            &["u red", "a Done."],
            "fresh one Done. | two",
        ),
        (
            "back to an equal answer",
            &["u one", "a this is all done now, as you wished", "u new"],
            &[
                "u one",
                "a this is all done now, as you wished",
                "u two",
                "a this is all done now, as you wished",
            ],
            "fresh one this is all done now, as you wished | new",
        ),
        (
            "answers beside fitting words",
            &["u one", "a edited by the person, at length", "u two"],
            &["u one", "a this is what I have found on one"],
            "continue | two",
        ),
    ];
    for (what, messages, of, wanted) in cases {
        assert_eq!(told(messages, of, false), *wanted, "{what}");
    }
}

/// The AI SDK says so, and shows everything.
#[test]
fn a_client_that_says_it_went_back_is_believed() {
    for (messages, of, wanted) in [
        (&["u one"][..], &["u one"][..], "fresh  | one"),
        (&["u uno"], &["u one", "u two"], "fresh  | uno"),
        (&["u one"], &[], "continue | one"),
        (&["u yes", "a y", "u no"], &["u yes", "u yes"], "fresh yes y | no"),
        (&["u one", "a 1", "u two"], &["u one", "u two"], "fresh one 1 | two"),
        (&["u one", "a 1", "u two"], &["u one"], "continue | two"),
    ] {
        assert_eq!(told(messages, of, true), wanted);
    }
    assert_eq!(told(&["u yes", "a y", "u no"], &["u yes", "u yes"], false), "continue | no");
}

/// Each turn's request shows all before it, claude sees each new message: nothing is ever told
/// twice or lost, whatever is said, however often the same.
#[test]
fn a_client_with_whole_history_always_continues() {
    let mut numbers = 7_u64;
    for _ in 0..200 {
        let (mut messages, mut known) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = ["u yes", "u no", "u go on"][usize::try_from(numbers >> 33).unwrap() % 3];
            messages.push(word);
            let mut ask = ask(&messages);
            assert_eq!(judge(&mut ask, false, &known), Past::Continue);
            assert_eq!(ask.new.text, &word[2..], "{messages:?}");
            known.extend(ask.new.hashes());
            // Some turns fail, and their message is shown again with the next.
            if numbers & (7 << 20) != 0 {
                messages.push("a so");
            }
        }
    }
}

#[test]
fn what_is_stored_is_the_same_in_every_release() {
    assert_eq!(hash("one two"), hash(" one\n\ttwo "));
    assert_eq!(hash("[Fri 2026-11-20 23:17 UTC] one two"), hash("one two"));
    assert_ne!(hash("one two"), hash("onetwo"));
    assert_ne!(hash("one"), hash("two"));
    assert_eq!(hash("one two"), 0xa485_b9ea_ae6b_278a);
    assert_eq!(hash_answer("this is what I have found on one"), Some(0xb619_b601_3952_441f));
    assert_eq!(hash_answer("a b c d e f g h i j k l m n o p q r s t u v w"), None);
    assert!(hash_answer("a b c d e f g h i j k l m n o p q r s t u v w x").is_some());
}

#[test]
fn thousands_of_equal_messages_are_judged_at_once() {
    let said = |who| Said { who, text: "yes".to_owned() };
    let mut ask = ask(&["u yes"]);
    ask.history = (0..200_000).map(|_| said(Speaker::Person)).collect();
    ask.hashes = vec![Some(hash("yes")); 200_000];
    let started = std::time::Instant::now();
    assert_eq!(judge(&mut ask, false, &vec![hash("yes"); 4096]), Past::Continue);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn what_is_put_before_keeps_each_message_with_its_hash() {
    let body = br#"{"messages":[{"role":"user","content":"yes"},
        {"role":"assistant","content":"an answer of some length, so that it tells something"},
        {"role":"user","content":"new"}]}"#;
    let mut ask = crate::ask::chat::parse(body).unwrap();
    let said = |who, text: &str| Said { who, text: text.to_owned() };
    ask.put_before(vec![said(Speaker::Person, "first"), said(Speaker::Assistant, "short")]);
    let texts: Vec<&str> = ask.history.iter().map(|said| said.text.as_str()).collect();
    assert_eq!(texts[..3], ["first", "short", "yes"]);
    assert_eq!(ask.hashes, ask.history.iter().map(hash_of).collect::<Vec<_>>());
}
