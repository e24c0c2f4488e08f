//! The AI SDK's chats against a live server.

use bytes::Bytes;
use serde_json::{Value, json};
use tests::harness::{Client, Options, Server, Stream};

use crate::clients::node_script;
use crate::runs::{events, finished, until};
use crate::streams::{AI_SDK_VERSIONS, lines};

fn submit(chat: &str, id: &str, text: &str) -> Value {
    let message = json!({ "id": id, "role": "user", "parts": [{ "type": "text", "text": text }] });
    json!({ "id": chat, "messages": [message], "trigger": "submit-message" })
}

async fn send(client: &Client, body: &Value) -> Stream {
    client.stream_at("POST", "/api/chat", body.to_string().into()).await
}

/// The chunks of a stream that `[DONE]` ends.
async fn chunks(stream: Stream) -> Vec<Value> {
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["x-vercel-ai-ui-message-stream"], "v1");
    let mut all = stream.all().await.unwrap();
    assert_eq!(all.pop().as_deref(), Some("[DONE]"));
    all.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

fn types(chunks: &[Value]) -> Vec<&str> {
    let types = chunks.iter().map(|chunk| chunk["type"].as_str().unwrap());
    types.filter(|kind| !kind.starts_with("data-")).collect()
}

/// All the texts.
fn answer(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["delta"].as_str()).collect()
}

async fn stop(client: &Client, chat: &str) -> u16 {
    client.request("POST", &format!("/api/chat/{chat}/stop"), Bytes::new()).await.status
}

#[tokio::test]
async fn a_message_is_one_turn_however_often_it_is_sent() {
    let server = Server::start(Options::default()).await;
    let body = submit("c", "m1", "CHUNKS 3 50");
    let mut first = send(&server.client, &body).await;
    let run = first.headers["x-synthesis-run"].to_str().unwrap().to_owned();
    assert_eq!(first.headers["x-synthesis-session"], "5:local,2:ui,1:c,");
    first.next().await.unwrap();
    // The page does not know whether it arrived.
    drop(first);
    let second = send(&server.client, &body).await;
    assert_eq!(second.headers["x-synthesis-run"], *run);
    let second = chunks(second).await;
    let part = ["text-start", "text-delta", "text-end"];
    let wanted = [&["start", "start-step"][..], &part, &part, &part, &["finish-step", "finish"]];
    assert_eq!(types(&second), wanted.concat());
    let third = send(&server.client, &body).await;
    assert_eq!(third.headers["x-synthesis-run"], *run);
    assert_eq!(types(&chunks(third).await), types(&second));
    // Other words under the same id are another message, and so is another answer.
    let edited = chunks(send(&server.client, &submit("c", "m1", "SAY edited")).await).await;
    assert_eq!(answer(&edited), "edited");
    let mut again = body.clone();
    again["trigger"] = json!("regenerate-message");
    let again = send(&server.client, &again).await;
    assert_ne!(again.headers["x-synthesis-run"], *run);
    assert_eq!(types(&chunks(again).await), types(&second));
    // Another chat is another session.
    chunks(send(&server.client, &submit("d", "m1", "CHUNKS 3 50")).await).await;
    assert_eq!(server.claudes().len(), 2);
}

#[tokio::test]
async fn a_page_comes_back_to_the_run_from_its_beginning() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    assert_eq!(client.get("/api/chat/c/stream").await.status, 204);
    let mut first = send(client, &submit("c", "m1", "CHUNKS 4 100")).await;
    let run = first.headers["x-synthesis-run"].to_str().unwrap().to_owned();
    while !first.next().await.unwrap().unwrap().contains("text-delta") {}
    drop(first);
    let resumed = client.stream_at("GET", "/api/chat/c/stream?z=1", Bytes::new()).await;
    let resumed = chunks(resumed).await;
    let texts = resumed.iter().filter(|chunk| chunk["type"] == "text-delta").count();
    assert_eq!(texts, 4, "{resumed:?}");
    assert_eq!(resumed[0]["messageId"], run.replace("run_", "msg_"));
    let reply = client.get("/api/chat/c/stream").await;
    assert_eq!((reply.status, &reply.body[..]), (204, &b""[..]));
}

#[tokio::test]
async fn a_stopped_chat_is_aborted_and_goes_on() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    // The page encodes its id.
    let (chat, encoded) = ("a/../b c", "a%2F..%2Fb%20c");
    assert_eq!(stop(client, encoded).await, 204);
    let open = send(client, &submit(chat, "m1", "HANG")).await;
    let run = open.headers["x-synthesis-run"].to_str().unwrap().to_owned();
    until(&mut events(client, &run, 0).await, "status").await;
    assert_eq!(stop(client, encoded).await, 202);
    let open = chunks(open).await;
    assert_eq!(types(&open).last(), Some(&"abort"));
    assert_eq!(finished(client, &run).await["status"], "aborted");
    assert_eq!(stop(client, encoded).await, 204);
    let next = chunks(send(client, &submit(chat, "m2", "SAY on")).await).await;
    assert_eq!(answer(&next), "on");
}

#[tokio::test]
async fn a_page_that_leaves_does_not_end_its_run_unless_it_says_so() {
    let server = Server::start(Options::default()).await;
    for (word, wanted) in [("continue", "completed"), ("cancel", "aborted")] {
        let client = server.client.with("x-synthesis-on-disconnect", word);
        let open = send(&client, &submit(word, "m1", "SLOW 1500 SAY late")).await;
        let run = open.headers["x-synthesis-run"].to_str().unwrap().to_owned();
        drop(open);
        assert_eq!(finished(&client, &run).await["status"], wanted, "{word}");
    }
}

#[tokio::test]
async fn what_no_chat_can_be_is_400() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    for (body, param) in [
        ("{".to_owned(), None),
        ("{}".to_owned(), Some("id")),
        (json!({ "id": "c" }).to_string(), Some("messages")),
        (json!({ "id": "x".repeat(513), "messages": [] }).to_string(), Some("id")),
        (submit("", "m", "a").to_string(), Some("id")),
        (submit("c", &"m".repeat(513), "a").to_string(), Some("messages")),
    ] {
        let reply = client.request("POST", "/api/chat", body.clone().into()).await;
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, param), "{body}");
    }
    let long = "x".repeat(513);
    for path in [format!("/api/chat/{long}/stream"), format!("/api/chat/{long}x/stream")] {
        let reply = client.get(&path).await;
        assert_eq!((reply.status, &*reply.error_code()), (400, "too_long"));
    }
    assert_eq!(stop(client, &long).await, 400);
    // Headers name no session of a chat: the page could not come back to it.
    let named = send(&client.session("other"), &submit("c", "m", "SAY a")).await;
    assert_eq!(named.headers["x-synthesis-session"], "5:local,2:ui,1:c,");
}

#[tokio::test]
async fn every_ai_sdk_comes_back_in_the_middle_of_an_answer_and_stops_another() {
    let server = Server::start(Options::default()).await;
    let Some(mut script) = node_script("ai_live.mjs") else { return };
    script.arg(format!("http://{}/api/chat", server.client.address)).arg("live");
    script.args(AI_SDK_VERSIONS);
    let found = lines(script).await;
    let versions: Vec<_> = found.iter().map(|page| page["version"].as_str().unwrap()).collect();
    assert_eq!(versions, AI_SDK_VERSIONS);
    for page in found {
        let (resumed, version) = (&page["resumed"], &page["version"]);
        assert_eq!(
            (&resumed["status"], &resumed["error"]),
            (&json!("ready"), &Value::Null),
            "{page}"
        );
        let partial = resumed["partial"].as_u64().unwrap();
        assert!((1..6).contains(&partial), "{version} left in the middle: {partial}");
        let messages = resumed["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 2, "{page}");
        assert_eq!(messages[1]["texts"].as_array().unwrap().len(), 6, "{page}");
        // The oldest version waits for good after a 204, which is its own affair.
        let again = &page["again"];
        assert_eq!((&again["http"], &again["error"]), (&json!(204), &Value::Null), "{page}");
        assert_eq!(page["again"]["messages"], resumed["messages"], "{version}");

        let stopped = &page["stopped"];
        assert_eq!(
            (&stopped["http"], &stopped["status"]),
            (&json!(202), &json!("ready")),
            "{page}"
        );
        assert_eq!(stopped["error"], Value::Null, "{page}");
        let after = page["after"]["messages"].as_array().unwrap();
        assert_eq!(after.last().unwrap()["texts"], json!(["still here"]), "{page}");
    }
}
