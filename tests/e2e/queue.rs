//! Several messages at once for one session.

use serde_json::{Value, json};
use tests::harness::{Options, Server};

use super::runs::begin;
use super::witness::{of_type, outcome, prompts, pushes, statuses, until};

fn positions(events: &[Value]) -> Vec<u64> {
    let statuses = of_type(events, "status");
    statuses.iter().filter_map(|event| event["position"].as_u64()).collect()
}

fn answer(events: &[Value]) -> String {
    of_type(events, "text-delta").iter().map(|event| event["delta"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn messages_are_answered_in_order_and_told_how_many_come_first() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("queue");
    let texts = ["SLOW 800 SAY first", "SLOW 100 SAY second", "SAY third"];
    let mut runs = Vec::new();
    for text in texts {
        runs.push(begin(&session, text).await);
        until("the first push", || pushes(&server, texts[0]) == 1).await;
    }
    let [first, second, third] = &runs[..] else { panic!("{runs:?}") };
    for (run, text, expected) in
        [(third, "third", &[1, 0][..]), (second, "second", &[0]), (first, "first", &[])]
    {
        let events = session.events(run).await;
        assert_eq!((outcome(&events), answer(&events).as_str()), ("completed", text));
        assert_eq!(positions(&events), expected, "{events:?}");
        let told = statuses(&events);
        assert_eq!(told.last(), Some(&"pushed"), "{told:?}");
    }
    let seen = prompts(&server);
    let in_order = seen.iter().zip(texts).all(|(prompt, text)| prompt.text.contains(text));
    assert!(in_order && seen.len() == 3, "{seen:?}");
}

#[tokio::test]
async fn an_aborted_message_that_waits_leaves_its_neighbours() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("queue");
    let first = begin(&session, "SLOW 1000 SAY first").await;
    until("the push", || pushes(&server, "SAY first") == 1).await;
    let second = begin(&session, "SAY second").await;
    let third = begin(&session, "SAY third").await;
    let abort = format!("/v1/runs/{second}/abort");
    assert_eq!(session.post(&abort, &json!({})).await.status, 202);
    let gone = session.events(&second).await;
    assert_eq!((outcome(&gone), statuses(&gone)), ("aborted", vec!["queued"]));
    assert_eq!(pushes(&server, "SAY"), 1, "the first one still works");
    assert_eq!(session.post(&abort, &json!({})).await.status, 409, "it is over");

    let stayed = session.events(&third).await;
    assert_eq!(answer(&stayed), "third");
    assert_eq!(positions(&stayed), [1, 0], "{stayed:?}");
    let first = session.events(&first).await;
    assert_eq!(answer(&first), "first");
    assert_eq!(prompts(&server).len(), 2);
}
