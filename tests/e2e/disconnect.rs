//! What becomes of a run whose client has gone.

use serde_json::{Value, json};
use tests::harness::{Client, Options, Server, client};

use super::witness::{interruptions, outcome, pushes, statuses, until};

#[tokio::test]
async fn an_answer_that_nobody_read_is_there_for_who_comes_back_with_the_key() {
    let server = Server::start(Options::default()).await;
    for stream in [true, false] {
        let key = format!("key {stream}");
        let session = server.client.session(&key).with("idempotency-key", &key);
        let mut body = client::message(&format!("SLOW 700 SAY whole {stream}"));
        body["stream"] = json!(stream);
        let leaver = leave_when(&session, &body, || pushes(&server, &key_words(stream)) == 1);
        leaver.await;
        // Once while it works, once when it is over.
        for _ in 0..2 {
            let answer = if stream {
                session.stream_of(&body).await.deltas().await.unwrap().concat()
            } else {
                session.post("/v1/chat/completions", &body).await.content()
            };
            assert_eq!(answer, format!("whole {stream}"));
        }
        assert_eq!(pushes(&server, &key_words(stream)), 1);
    }
    assert_eq!(interruptions(&server), 0);
}

fn key_words(stream: bool) -> String {
    format!("SAY whole {stream}")
}

/// Sends a request and closes its connection once something holds.
async fn leave_when(client: &Client, body: &Value, holds: impl FnMut() -> bool) {
    let (client, body) = (client.clone(), body.clone());
    let asking = tokio::spawn(async move {
        if body["stream"] == true {
            // Reads nothing of it, and keeps the connection.
            let _stream = client.stream_of(&body).await;
            std::future::pending::<()>().await;
        } else {
            client.post("/v1/chat/completions", &body).await;
        }
    });
    until("the moment to leave", holds).await;
    asking.abort();
}

#[tokio::test]
async fn a_closed_connection_cancels_where_that_is_wanted() {
    for (config, header) in [
        ("", Some("cancel")),
        ("[session]\non_disconnect = \"cancel\"\n", None),
        // The request has the last word.
        ("[session]\non_disconnect = \"cancel\"\n", Some("continue")),
    ] {
        let options = Options { config: config.to_owned(), ..Options::default() };
        let server = Server::start(options).await;
        let session = server.client.session("leaver");
        let asking = match header {
            Some(word) => session.with("x-synthesis-on-disconnect", word),
            None => session.clone(),
        };
        let stream = asking.stream("SLOW 1500 SAY this").await;
        let run = stream.run.clone();
        until("the push", || pushes(&server, "SAY this") == 1).await;
        drop(stream);
        let events = session.events(&run).await;
        if header == Some("continue") {
            assert_eq!(outcome(&events), "completed", "{events:?}");
        } else {
            assert_eq!(outcome(&events), "aborted", "{config} {header:?}: {events:?}");
            assert!(statuses(&events).contains(&"aborting"), "{events:?}");
        }
        let expected = usize::from(header != Some("continue"));
        until("Esc is seen", || interruptions(&server) == expected).await;
        let described = session.get(&format!("/v1/runs/{run}")).await.json();
        assert_eq!(described["status"], outcome(&events), "{described}");
        assert_eq!(session.chat("next").await.content(), "echo: next");
        assert_eq!(server.claudes().len(), 1, "the same claude");
    }
}

#[tokio::test]
async fn a_request_without_a_stream_is_cancelled_too() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("leaver").with("x-synthesis-on-disconnect", "cancel");
    leave_when(&session, &client::message("HANG"), || pushes(&server, "HANG") == 1).await;
    until("Esc is seen", || interruptions(&server) == 1).await;
    assert_eq!(session.chat("next").await.content(), "echo: next");
}

/// Who gave no key cannot come back: its message gives up its place. Another one's stays.
#[tokio::test]
async fn a_message_that_waits_goes_with_its_client_unless_it_has_a_key() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("queue");
    let working = session.stream("HANG").await;
    let keyed = session.with("idempotency-key", "mine");
    let without = session.stream("SAY without").await;
    let with = keyed.stream("SAY with").await;
    let (given_up, kept) = (without.run.clone(), with.run.clone());
    drop(without);
    drop(with);
    let events = session.events(&given_up).await;
    assert_eq!(outcome(&events), "aborted", "{events:?}");
    assert!(!statuses(&events).contains(&"pushed"), "{events:?}");
    let abort = format!("/v1/runs/{}/abort", working.run);
    assert_eq!(session.post(&abort, &json!({})).await.status, 202);
    let mut body = client::message("SAY with");
    body["stream"] = json!(true);
    let again = keyed.stream_of(&body).await;
    assert_eq!(again.run, kept);
    assert_eq!(again.deltas().await.unwrap().concat(), "with");
    assert_eq!((pushes(&server, "SAY without"), pushes(&server, "SAY with")), (0, 1));
}

#[tokio::test]
async fn another_word_in_the_header_is_refused() {
    let server = Server::start(Options::default()).await;
    let reply = server.client.with("x-synthesis-on-disconnect", "maybe").chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (400, "invalid_header"), "{}", reply.text());
}
