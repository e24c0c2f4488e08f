use serde_json::Value;

use super::*;
use crate::render::sample::{self, commentary, logged, output, reply, tool};

fn run(events: impl IntoIterator<Item = Event>) -> RunMessages {
    let mut run = RunMessages::new(RunId::random(), 5);
    for event in logged(events) {
        run.event(&event);
    }
    run
}

fn page(runs: impl IntoIterator<Item = RunMessages>) -> Vec<Value> {
    let mut page = Page::default();
    for run in runs {
        assert!(page.push(run));
    }
    let mut body: Value = serde_json::from_slice(&page.render(None)).unwrap();
    assert_eq!(body["before"], Value::Null);
    serde_json::from_value(body["data"].take()).unwrap()
}

fn asked(id: Option<&str>, text: &str) -> Event {
    let id = id.map(Into::into);
    Event::Started {
        message: UserMessage { id, text: text.into(), files: vec![], previous_response_id: None },
    }
}

#[test]
fn a_message_that_was_sent_again_stands_there_once_and_first() {
    let end = || Event::Finished(Outcome::Aborted);
    let again = run([asked(Some("m1"), "hi"), reply("second"), end()]);
    let once = run([asked(Some("m1"), "hi"), reply("first"), end()]);
    let messages = page([again, once]);
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "assistant"]);
    assert_eq!(messages[1]["parts"][0]["text"], "first");
    assert_eq!(messages[0]["id"], "m1");
}

#[test]
fn messages_without_an_id_of_the_client_are_all_there() {
    let messages = page([run([asked(None, "hi")]), run([asked(None, "hi")])]);
    assert_eq!(messages.len(), 4);
    let ids: HashSet<_> = messages.iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn an_answer_is_marked_until_it_is_finished() {
    let told = |messages: &[Value]| {
        let answer = messages.last().unwrap();
        (answer["streaming"].as_bool().unwrap(), answer["status"].as_str().unwrap().to_owned())
    };
    let (begun, end) = ([asked(None, "hi"), reply("so")], Event::Finished(Outcome::Completed));
    assert_eq!(told(&page([run(begun.clone())])), (true, "running".to_owned()));
    assert_eq!(told(&page([run(begun.into_iter().chain([end]))])), (false, "completed".to_owned()));
}

#[test]
fn an_output_ends_the_latest_call_of_its_id_and_an_unknown_one_nothing() {
    let messages = page([run([
        tool("t", "A", "1"),
        output("t", "10", false),
        tool("t", "B", "2"),
        output("t", "20", true),
        output("t", "30", true),
        output("u", "40", true),
    ])]);
    let parts = messages[0]["parts"].as_array().unwrap();
    let told: Vec<_> = parts.iter().map(|part| (&part["name"], &part["output"])).collect();
    assert_eq!(told, [(&"A".into(), &10.into()), (&"B".into(), &20.into())]);
    assert_eq!(parts[1]["is_error"], true);
}

#[test]
fn work_is_bounded_and_the_answer_still_there() {
    let much = "x".repeat(WORK_BYTES / 3);
    let mut events = vec![tool("t", "A", "{}")];
    events.extend((0..10).map(|_| commentary("c", &much)));
    events.extend((0..WORK_BYTES / PART).map(|_| commentary("d", "")));
    events.push(output("t", "{}", false));
    events.push(reply("the answer"));
    let messages = page([run(events)]);
    let answer = &messages[0];
    assert_eq!(answer["truncated"], true);
    assert_eq!(answer["parts"].as_array().unwrap().last().unwrap()["text"], "the answer");
    assert!(answer.to_string().len() < WORK_BYTES + 1024);
    let untouched = page([run([commentary("c", "short")])]);
    assert_eq!(untouched[0].get("truncated"), None);
}

#[test]
fn a_full_page_takes_no_more_but_at_least_one_run() {
    let large = || run([reply(&"x".repeat(PAGE_BYTES + 1))]);
    let mut page = Page::default();
    assert!(page.push(large()));
    assert!(!page.push(run([])));
    let mut page = Page::default();
    assert!(page.push(run([])));
    assert!(!page.push(large()));
    assert!(page.push(run([])));
}

#[test]
fn samples_have_their_time_from_the_log() {
    let mut answered = RunMessages::new(RunId::random(), 5);
    for event in sample::answered() {
        answered.event(&event);
    }
    let messages = page([answered]);
    let at = |seq: u64| Value::from((sample::CREATED + seq) * 1000);
    assert_eq!((&messages[0]["timestamp"], &messages[1]["timestamp"]), (&at(1), &at(5)));
}
