//! One turn and the next: what a client sees.

use serde_json::{Value, json};
use tests::harness::{Options, Server, client};

#[tokio::test]
async fn an_answer_comes_whole() {
    let server = Server::start(Options::default()).await;
    let reply = server.client.chat("hello").await;
    assert_eq!(reply.content(), "echo: hello");
    let json = reply.json();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(json["choices"][0]["message"]["role"], "assistant");
    assert_eq!(json["model"], "synthesis");
}

#[tokio::test]
async fn stream_false_is_not_a_stream() {
    let server = Server::start(Options::default()).await;
    let mut body = client::message("hello");
    body["stream"] = json!(false);
    let reply = server.client.post("/v1/chat/completions", &body).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.content(), "echo: hello");
}

#[tokio::test]
async fn a_stream_has_role_first_one_delta_for_each_reply_and_one_finish() {
    let server = Server::start(Options::default()).await;
    let events = server.client.stream("CHUNKS 3").await.all().await.unwrap();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let texts: Vec<&str> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(texts.len(), 3, "progress chunks are not glued together: {texts:?}");
    let finishes =
        chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"].is_string()).count();
    assert_eq!(finishes, 1);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[tokio::test]
async fn usage_comes_last_and_only_when_asked_for() {
    let server = Server::start(Options::default()).await;
    let mut body = client::message("hello");
    body["stream"] = json!(true);
    let events = server.client.stream_of(&body).await.all().await.unwrap();
    assert!(events.iter().all(|event| !event.contains("\"usage\"")), "{events:?}");

    body["stream_options"] = json!({ "include_usage": true });
    let events = server.client.stream_of(&body).await.all().await.unwrap();
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(last["choices"], json!([]));
    let usage = &last["usage"];
    let (prompt, completion) =
        (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
    assert!(prompt > 0 && completion > 0, "{usage}");
    assert_eq!(usage["total_tokens"].as_u64(), Some(prompt + completion));
}

#[tokio::test]
async fn a_second_message_goes_to_the_same_claude() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("one");
    session.chat("first").await.content();
    let before = server.claudes();
    assert_eq!(before.len(), 1);
    assert_eq!(session.chat("second").await.content(), "echo: second");
    assert_eq!(server.claudes(), before);
}

#[tokio::test]
async fn text_parts_are_one_message_and_the_short_route_and_a_query_work() {
    let server = Server::start(Options::default()).await;
    let parts = json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]);
    let body = json!({ "messages": [{ "role": "user", "content": parts }] });
    let reply = server.client.post("/chat/completions?api-version=1", &body).await;
    assert_eq!(reply.content(), "echo: a\nb");
}

#[tokio::test]
async fn only_what_is_new_is_sent() {
    let server = Server::start(Options::default()).await;
    assert_eq!(server.client.chat("old").await.content(), "echo: old");
    let body = json!({ "messages": [
        { "role": "system", "content": "be kind" },
        { "role": "user", "content": "old" },
        { "role": "assistant", "content": "answered" },
        { "role": "user", "content": "new" },
    ]});
    assert_eq!(server.client.post("/v1/chat/completions", &body).await.content(), "echo: new");
}

#[tokio::test]
async fn a_turn_without_a_reply_is_answered_by_its_last_text() {
    let server = Server::start(Options::default()).await;
    assert_eq!(server.client.chat("TEXT_ONLY just text").await.content(), "just text");
}

#[tokio::test]
async fn a_mute_turn_ends() {
    let server = Server::start(Options::default()).await;
    assert_eq!(server.client.chat("MUTE").await.content(), "");
    assert_eq!(server.client.chat("after").await.content(), "echo: after");
}

#[tokio::test]
async fn a_second_final_reply_a_foreign_id_and_a_late_reply_go_nowhere() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("strict");
    for strange in ["DOUBLE", "FOREIGN_ID", "WRONG_ORDER", "LATE 50"] {
        let answer = session.chat(strange).await;
        assert_eq!(answer.status, 200, "{strange}: {}", answer.text());
        assert_eq!(session.chat(strange_but(strange)).await.content(), "echo: next");
    }
}

fn strange_but(_: &str) -> &'static str {
    "next"
}

#[tokio::test]
async fn a_late_unnamed_reply_is_not_the_next_turns_answer() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("late");
    session.chat("LATE 400").await.content();
    // Claude sends the late reply at its next chance: after this turn, in the middle of the next.
    session.chat("CHUNKS 3 500").await.content();
    assert_eq!(session.chat("after").await.content(), "echo: after");
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let server = Server::start(Options::default()).await;
    assert!(server.client.chat("BIG 400").await.content().len() >= 400 * 1024);
}

#[tokio::test]
async fn an_error_of_the_models_service_is_an_error() {
    let server = Server::start(Options::default()).await;
    let reply = server.client.chat("API_ERROR").await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.error_code(), "model_error");
    assert_eq!(server.client.chat("after").await.content(), "echo: after");
}

#[tokio::test]
async fn a_flooded_terminal_stalls_nothing() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("flood");
    session.chat("FLOOD 4096").await;
    for _ in 0..50 {
        session.chat("FLOOD 64").await;
    }
    assert_eq!(session.chat("UTF8").await.status, 200);
    assert_eq!(session.chat("still here").await.content(), "echo: still here");
}

#[tokio::test]
async fn keep_alive_deltas_come_while_claude_works() {
    let config = "[stream]\nkeep_alive_seconds = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let mut stream = server.client.session("slow").stream("SLOW 4000").await;
    let mut empty = 0;
    while let Some(event) = stream.next().await.unwrap() {
        if event == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(&event).unwrap();
        let delta = &event["choices"][0]["delta"];
        if delta["content"] == "" && delta["role"].is_null() {
            empty += 1;
        }
    }
    assert!(empty >= 1);
}

#[tokio::test]
async fn an_aborted_run_ends_and_the_session_goes_on() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("abort");
    let mut stream = session.stream("HANG").await;
    let first: Value = serde_json::from_str(&stream.next().await.unwrap().unwrap()).unwrap();
    let path = format!("/v1/runs/{}/abort", first["id"].as_str().unwrap());
    assert_eq!(server.client.post(&path, &json!({})).await.status, 202);
    let rest = stream.all().await.unwrap();
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(server.client.post(&path, &json!({})).await.status, 409);
    assert_eq!(session.chat("after").await.content(), "echo: after");
    assert_eq!(server.claudes().len(), 1, "the same claude");
}
