//! What the official packages make of recorded streams: the fixtures in `fixtures/streams`, which
//! are what frontd renders for three runs (its own tests hold the two together). One is answered
//! and has everything that a run can have, one fails, one is aborted.

use serde_json::{Value, json};
use tests::harness::client::PATIENCE;
use tokio::process::Command;

use crate::clients::{node_script, python_script};

mod recorded;

use recorded::Recorded;

/// As tests/scripts/clients.sh installs them.
pub(crate) const AI_SDK_VERSIONS: [&str; 5] = ["5.0.0", "5.0.277", "6.0.0", "6.0.326", "7.0.173"];

const ANSWER: &str = "first \"reply\"\n\nsecond\r\n\u{2028}data: [DONE]";
const RESPONSE: &str = "resp_0123456789abcdef0123456789abcdef";

/// What a script prints, a line of JSON each.
pub(crate) async fn lines(mut script: Command) -> Vec<Value> {
    let output = tokio::time::timeout(PATIENCE, script.kill_on_drop(true).output()).await;
    let output = output.expect("the script ends in time").expect("the script runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{complained}", output.status);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What each version of the AI SDK makes of `run`.
async fn chats(recorded: &Recorded, run: &str) -> Option<Vec<Value>> {
    use_chat(recorded, run, &["hello"]).await
}

/// Sends `texts`, or resumes if there are none.
async fn use_chat(recorded: &Recorded, run: &str, texts: &[&str]) -> Option<Vec<Value>> {
    let mut script = node_script("ai_sdk.mjs")?;
    script.arg(recorded.url(run, "/api/chat")).arg("c").args(AI_SDK_VERSIONS);
    script.arg("--").args(texts);
    let chats = lines(script).await;
    let versions: Vec<_> = chats.iter().map(|chat| chat["version"].as_str().unwrap()).collect();
    assert_eq!(versions, AI_SDK_VERSIONS);
    Some(chats)
}

/// The parts of the answer that the page shows. Later versions keep the stream's id of a
/// reasoning, the others do not.
fn parts(chat: &Value) -> Value {
    let messages = chat["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant"], "{chat}");
    assert_eq!(messages[1]["id"], "msg_0123456789abcdef0123456789abcdef");
    let mut parts = messages[1]["parts"].clone();
    for part in parts.as_array_mut().unwrap() {
        if part["type"] == "reasoning" {
            part.as_object_mut().unwrap().remove("id");
        }
    }
    parts
}

#[tokio::test]
async fn every_ai_sdk_shows_all_of_an_answered_run() {
    let recorded = Recorded::start().await;
    let Some(chats) = chats(&recorded, "answered").await else { return };
    let tool = |name: &str, id: &str, input: Value, state: &str, key: &str, end: Value| {
        json!({"type": "dynamic-tool", "toolName": name, "toolCallId": id, "state": state,
            "input": input, key: end})
    };
    let unended = "the turn ended without this tool's result";
    let wanted = json!([
        {"type": "step-start"},
        {"type": "reasoning", "text": "I shall look \u{1f50d}\n", "state": "done"},
        tool("Bash", "toolu_1", json!({"command": "ls \"a\"", "z": 1, "a": 2}),
            "output-available", "output", json!({"stdout": "one\ntwo"})),
        {"type": "reasoning", "text": "There it is.", "state": "done"},
        tool("Read", "toolu_2", json!({"file_path": "/x"}),
            "output-error", "errorText", json!("no such file")),
        tool("Task", "toolu_3", json!({"prompt": "go"}),
            "output-error", "errorText", json!(unended)),
        {"type": "text", "text": "first \"reply\"", "state": "done"},
        {"type": "file", "mediaType": "image/png", "url": "https://example.com/a.png"},
        {"type": "text", "text": "second\r\n\u{2028}data: [DONE]", "state": "done"},
    ]);
    for chat in chats {
        assert_eq!((&chat["status"], &chat["error"]), (&json!("ready"), &Value::Null), "{chat}");
        assert_eq!(parts(&chat), wanted);
        let data = chat["data"].as_array().unwrap();
        let told: Vec<_> = data.iter().map(|part| part["type"].as_str().unwrap()).collect();
        let (status, permission) = ("data-status", "data-permission");
        assert_eq!(
            told,
            [status, status, status, permission, status, permission, status, "data-usage"]
        );
        assert_eq!(data[0]["data"], json!({"status": "queued", "position": 1}));
    }
}

#[tokio::test]
async fn every_ai_sdk_shows_why_a_run_failed_and_what_it_had() {
    let recorded = Recorded::start().await;
    let Some(chats) = chats(&recorded, "failed").await else { return };
    for chat in chats {
        let told = (&chat["status"], &chat["error"]);
        assert_eq!(told, (&json!("error"), &json!("claude ended: exit status 3")), "{chat}");
        let parts = parts(&chat);
        assert_eq!((&parts[1]["text"], &parts[1]["state"]), (&json!("I begin"), &json!("done")));
        assert_eq!(parts[2]["state"], "output-error");
    }
}

#[tokio::test]
async fn every_ai_sdk_is_ready_again_after_an_aborted_run() {
    let recorded = Recorded::start().await;
    let Some(chats) = chats(&recorded, "aborted").await else { return };
    for chat in chats {
        assert_eq!((&chat["status"], &chat["error"]), (&json!("ready"), &Value::Null), "{chat}");
        let parts = parts(&chat);
        assert_eq!((&parts[1]["text"], &parts[1]["state"]), (&json!("so far"), &json!("done")));
        assert_eq!(parts[2]["state"], "output-error");
    }
}

#[tokio::test]
async fn every_ai_sdk_resumes_a_run_from_its_beginning_and_takes_204_for_none() {
    let recorded = Recorded::start().await;
    let Some(chats) = use_chat(&recorded, "answered", &[]).await else { return };
    for chat in chats {
        assert_eq!((&chat["status"], &chat["error"]), (&json!("ready"), &Value::Null), "{chat}");
        let messages = chat["messages"].as_array().unwrap();
        assert_eq!((messages.len(), &messages[0]["role"]), (1, &json!("assistant")));
        assert_eq!(messages[0]["parts"].as_array().unwrap().len(), 9);
        assert_eq!(chat["sent"][0]["method"], "GET");
    }
    for chat in use_chat(&recorded, "none", &[]).await.unwrap() {
        assert_eq!((&chat["error"], &chat["messages"]), (&Value::Null, &json!([])), "{chat}");
    }
}

/// Keys that the packages refuse, halves of characters, foreign markup, nesting without end.
#[tokio::test]
async fn every_ai_sdk_suffers_whatever_a_tool_may_say() {
    let recorded = Recorded::start().await;
    let Some(chats) = chats(&recorded, "odd").await else { return };
    for chat in chats {
        let told = (&chat["version"], &chat["status"], &chat["error"]);
        assert_eq!(told, (&chat["version"], &json!("ready"), &Value::Null));
        let parts = parts(&chat);
        let state = |part: &Value| part["state"].as_str().unwrap_or_default().to_owned();
        let tools = parts.as_array().unwrap().iter().filter(|part| part["type"] == "dynamic-tool");
        for tool in tools {
            assert!(state(tool).starts_with("output-"), "{tool}");
        }
    }
}

/// The tests above would notice: what only some versions suffer stops exactly those.
#[tokio::test]
async fn strict_versions_refuse_what_the_stream_must_not_have() {
    let errors = |chats: Vec<Value>| -> Vec<bool> {
        chats.iter().map(|chat| chat["status"] == "error").collect()
    };
    let extra_key: recorded::Change =
        |body| body.replace(r#""type":"start-step""#, r#""type":"start-step","step":1"#);
    let finish_reason: recorded::Change =
        |body| body.replace(r#""type":"finish""#, r#""type":"finish","finishReason":"stop""#);
    let newer_type: recorded::Change = |body| body.replace("data-usage", "custom");
    for (change, refused) in [
        (extra_key, [true, false, true, false, false]),
        (finish_reason, [true, false, false, false, false]),
        (newer_type, [true, true, true, true, true]),
    ] {
        let recorded = Recorded::start_with(change).await;
        let Some(chats) = chats(&recorded, "answered").await else { return };
        assert_eq!(errors(chats), refused);
    }
}

/// Both official OpenAI clients; each prints one line.
async fn responses(run: &str) -> Vec<Value> {
    let recorded = Recorded::start().await;
    let scripts = [node_script("openai_responses.js"), python_script("openai_responses.py")];
    let mut found = Vec::new();
    for mut script in scripts.into_iter().flatten() {
        script.args([&recorded.url(run, ""), "s", "hello"]);
        found.extend(lines(script).await);
    }
    found
}

fn types(turn: &Value) -> Vec<&str> {
    let types = turn["types"].as_array().unwrap();
    types.iter().map(|name| name.as_str().unwrap().strip_prefix("response.").unwrap()).collect()
}

#[tokio::test]
async fn both_openai_clients_read_an_answered_response() {
    for found in responses("answered").await {
        for way in ["streamed", "helper", "whole"] {
            let turn = &found[way][0];
            assert_eq!(turn["id"], RESPONSE, "{way}: {turn}");
            assert_eq!(turn["status"], "completed");
            assert_eq!(turn["text"], ANSWER);
            assert_eq!(turn["reasoning"], json!(["I shall look \u{1f50d}\n", "There it is."]));
            let done = |kind| json!([kind, "completed"]);
            let items = [done("reasoning"), done("reasoning"), done("message")];
            assert_eq!(turn["output"], json!(items));
            assert_eq!(turn["usage"], json!([123, 9, 132]));
            assert_eq!(turn["previous"], "resp_before");
        }
        assert_eq!(found["helper"][0]["deltas"], ANSWER);
        assert_eq!(types(&found["streamed"][0]).last(), Some(&"completed"));
    }
}

#[tokio::test]
async fn both_openai_clients_learn_why_a_response_failed() {
    for found in responses("failed").await {
        for way in ["streamed", "whole"] {
            let turn = &found[way][0];
            assert_eq!(
                (&turn["status"], &turn["error"]),
                (&json!("failed"), &json!("process_ended"))
            );
        }
        assert_eq!(types(&found["streamed"][0]).last(), Some(&"failed"));
        // Python's helper knows one end alone and raises at every other.
        let helper = &found["helper"][0];
        assert!(helper["status"] == "failed" || helper["raised"] == "RuntimeError", "{helper}");
    }
}

#[tokio::test]
async fn an_aborted_response_is_cancelled_and_not_completed_to_both_openai_clients() {
    for found in responses("aborted").await {
        for way in ["streamed", "whole"] {
            let turn = &found[way][0];
            assert_eq!((&turn["status"], &turn["text"]), (&json!("cancelled"), &json!("so far")));
            assert_eq!(turn["output"], json!([["message", "incomplete"]]));
        }
        assert_eq!(types(&found["streamed"][0]).last(), Some(&"incomplete"));
        let helper = &found["helper"][0];
        assert!(helper["status"] == "cancelled" || helper["raised"] == "RuntimeError", "{helper}");
    }
}
