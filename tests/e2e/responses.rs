//! The Responses API: one turn and the next, by hand and with the official clients.

use bytes::Bytes;
use serde_json::{Value, json};
use tests::harness::{Client, Options, Reply, Server};

use crate::clients::{node_script, python_script};
use crate::runs;
use crate::streams::lines;

async fn ask(client: &Client, input: &str, more: Value) -> Reply {
    let mut body = json!({ "input": input });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post("/v1/responses", &body).await
}

fn text(response: &Value) -> String {
    let output = response["output"].as_array().unwrap_or_else(|| panic!("{response}")).iter();
    let texts = output.filter(|item| item["type"] == "message");
    texts.map(|item| item["content"][0]["text"].as_str().unwrap()).collect()
}

fn told(reply: &Reply) -> (u16, String) {
    (reply.status, reply.error_code())
}

#[tokio::test]
async fn a_response_continues_the_one_before_it() {
    let server = Server::start(Options::default()).await;
    let first = ask(&server.client, "one", json!({})).await;
    let session = first.header("x-synthesis-session").unwrap().to_owned();
    let first = first.json();
    assert_eq!((&first["object"], &first["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(text(&first), "echo: one");
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("resp_"), "{id}");
    let second = ask(&server.client, "two", json!({ "previous_response_id": id })).await;
    assert_eq!(second.header("x-synthesis-session"), Some(&*session));
    let second = second.json();
    assert_eq!((&second["previous_response_id"], &*text(&second)), (&json!(id), "echo: two"));
    assert_eq!(server.claudes().len(), 1);
    // Another without a name is another conversation.
    let other = ask(&server.client, "three", json!({})).await;
    assert_ne!(other.header("x-synthesis-session"), Some(&*session));
    assert_eq!(server.claudes().len(), 2);
    // By its id it is the same as it was.
    let again = server.client.get(&format!("/v1/responses/{id}")).await.json();
    assert_eq!((&again["id"], &again["output"]), (&first["id"], &first["output"]));
}

/// Three ways from one answer: each knows what led to it, and nothing of the others.
#[tokio::test]
async fn an_earlier_response_can_be_continued_in_another_way() {
    let server = Server::start(Options::default()).await;
    let next = async |input: &str, previous: &str| {
        let more = json!({ "previous_response_id": previous });
        let response = ask(&server.client, input, more).await.json();
        assert_eq!(response["status"], "completed", "{response}");
        (response["id"].as_str().unwrap().to_owned(), text(&response))
    };
    let first = ask(&server.client, "sun", json!({})).await.json();
    let first = first["id"].as_str().unwrap();
    let (_, answer) = next("moon", first).await;
    assert_eq!(answer, "echo: moon");
    let [before] = server.claudes()[..] else { panic!("one claude") };
    // Back to the first, whose claude has heard of the moon.
    let (star, told) = next("what was said", first).await;
    assert!(told.contains("sun") && told.contains("echo: sun"), "{told}");
    assert!(!told.contains("moon"), "{told}");
    assert_ne!(server.claudes(), [before], "a conversation of its own");
    // It goes on there, without being told anything again.
    let (comet, told) = next("and now", &star).await;
    assert_eq!(told, "echo: and now");
    let (_, _) = next("other", &comet).await;
    // What led to the comet: the sun, but not the moon, which came between in time alone.
    let (_, told) = next("what led here", &comet).await;
    assert!(told.contains("sun") && told.contains("and now"), "{told}");
    assert!(!told.contains("moon") && !told.contains("other"), "{told}");
    let looked = server.client.get(&format!("/v1/responses/{comet}")).await.json();
    assert_eq!(looked["previous_response_id"], json!(star));
}

#[tokio::test]
async fn a_conversation_names_its_session_and_previous_beats_every_name() {
    let server = Server::start(Options::default()).await;
    let session_of = |reply: &Reply| reply.header("x-synthesis-session").unwrap().to_owned();
    let one = ask(&server.client, "a", json!({ "conversation": "conv_1" })).await;
    assert_eq!(session_of(&one), "5:local,4:chat,7:default,6:conv_1,");
    let same = ask(&server.client, "b", json!({ "conversation": { "id": "conv_1" } })).await;
    assert_eq!(session_of(&same), session_of(&one));
    let id = same.json()["id"].as_str().unwrap().to_owned();
    // An ephemeral one would take the whole conversation with it.
    let once = server.client.with("x-synthesis-ephemeral", "true");
    let refused = ask(&once, "c", json!({ "previous_response_id": id })).await;
    assert_eq!(told(&refused), (400, "invalid_value".to_owned()));
    let named = server.client.session("other");
    let next = ask(&named, "c", json!({ "previous_response_id": id })).await;
    assert_eq!(session_of(&next), session_of(&one));
}

#[tokio::test]
async fn what_is_not_there_or_cannot_be_continued_is_refused() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    let unknown = format!("resp_{}", "0".repeat(32));
    for id in [&*unknown, "resp_x", "x", "../../etc/passwd"] {
        let reply = ask(client, "a", json!({ "previous_response_id": id })).await;
        assert_eq!(told(&reply), (404, "unknown_response".to_owned()), "{id}");
        let id = id.replace('/', "%2f");
        let reply = client.get(&format!("/v1/responses/{id}")).await;
        assert_eq!(told(&reply), (404, "unknown_response".to_owned()), "{id}");
        let path = format!("/v1/responses/{id}/cancel");
        let reply = client.request("POST", &path, Bytes::new()).await;
        assert_eq!(told(&reply), (404, "unknown_response".to_owned()), "{id}");
    }
    for (body, param) in [
        ("{", None),
        ("{}", Some("input")),
        (r#"{"input":[]}"#, Some("input")),
        (r#"{"input":"a","stream":"yes"}"#, Some("stream")),
        (r#"{"input":"a","background":1}"#, Some("background")),
        (r#"{"input":"a","conversation":7}"#, Some("conversation")),
    ] {
        let reply = client.request("POST", "/v1/responses", body.into()).await;
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, param), "{body}");
    }
    assert!(server.claudes().is_empty(), "nothing was spawned");
}

#[tokio::test]
async fn a_response_in_the_background_is_answered_at_once_and_can_be_cancelled() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    let begun = ask(client, "HANG", json!({ "background": true })).await;
    assert_eq!((begun.status, &begun.json()["status"]), (200, &json!("in_progress")));
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let looked = client.get(&format!("/v1/responses/{id}")).await.json();
    assert_eq!(looked["status"], "in_progress");
    let cancel = format!("/v1/responses/{id}/cancel");
    let cancelled = client.request("POST", &cancel, Bytes::new()).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    let again = client.request("POST", &cancel, Bytes::new()).await;
    assert_eq!((again.status, &again.json()["status"]), (200, &json!("cancelled")));

    let begun = ask(client, "SLOW 200 SAY done", json!({ "background": true })).await.json();
    let id = begun["id"].as_str().unwrap();
    runs::finished(client, &id.replace("resp_", "run_")).await;
    let done = client.get(&format!("/v1/responses/{id}")).await.json();
    assert_eq!((&done["status"], &*text(&done)), (&json!("completed"), "done"));
}

#[tokio::test]
async fn a_failed_response_is_an_error_and_stays_failed() {
    let server = Server::start(Options::default()).await;
    let reply = ask(&server.client, "API_ERROR 500", json!({})).await;
    assert_eq!(told(&reply), (502, "model_error".to_owned()));
}

#[tokio::test]
async fn the_official_clients_hold_a_conversation_of_two_turns() {
    let server = Server::start(Options::default()).await;
    let url = format!("http://{}/v1", server.client.address);
    let scripts = [node_script("openai_responses.js"), python_script("openai_responses.py")];
    for mut script in scripts.into_iter().flatten() {
        script.args([&*url, "s", "CHUNKS 2"]);
        let found = lines(script).await.remove(0);
        for way in ["streamed", "helper", "whole"] {
            let (first, second) = (&found[way][0], &found[way][1]);
            for turn in [first, second] {
                assert_eq!(turn["status"], "completed", "{way}: {turn}");
                assert_eq!(turn["text"], "chunk 1/2\n\n\nchunk 2/2\n", "{way}: {turn}");
            }
            assert_eq!(second["previous"], first["id"], "{way}");
            assert_ne!(second["id"], first["id"], "{way}");
        }
    }
}
