//! How a claude starts, and what a client hears when it does not.

use serde_json::json;
use tests::harness::{Options, Server};

async fn with_fake(fake: serde_json::Value) -> Server {
    Server::start(Options { fake: Some(fake), ..Options::default() }).await
}

#[tokio::test]
async fn every_message_that_waits_for_a_refused_start_hears_the_cause() {
    let claude = Some("/nonexistent/claude".into());
    let server = Server::start(Options { claude, ..Options::default() }).await;
    let session = server.client.session("queue");
    let chats = (0..3).map(|_| session.chat("hello"));
    for reply in futures_util::future::join_all(chats).await {
        assert_eq!((reply.status, &*reply.error_code()), (403, "claude_missing"));
    }
}

#[tokio::test]
async fn a_channel_that_registers_late_loses_no_first_message() {
    let server = with_fake(json!({ "registration_delay_ms": 1500 })).await;
    assert_eq!(server.client.chat("early").await.content(), "echo: early");
}

#[tokio::test]
async fn a_dialog_drawn_late_and_in_pieces_is_answered_when_it_stands() {
    let fake = json!({ "dialog_delay_ms": 1500, "dialog_piece_bytes": 7, "dialog_piece_ms": 2 });
    let server = with_fake(fake).await;
    assert_eq!(server.client.chat("patient").await.content(), "echo: patient");
}

#[tokio::test]
async fn an_unknown_dialog_is_never_confirmed_and_is_quoted() {
    let server = with_fake(json!({ "dialogs": ["unknown"] })).await;
    let reply = server.client.chat("hello").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.error_code(), "unknown_dialog");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert!(reply.text().contains("Enter to confirm"), "{}", reply.text());
}

#[tokio::test]
async fn the_api_key_dialog_is_answered_only_when_policy_set_a_key() {
    let fake = json!({ "dialogs": ["api_key"] });
    let server = with_fake(fake.clone()).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "unknown_dialog"), "{}", reply.text());

    let environment = vec![("ANTHROPIC_API_KEY".to_owned(), "sk-ant-test".to_owned())];
    let options = Options { fake: Some(fake), environment, ..Options::default() };
    let server = Server::start(options).await;
    assert_eq!(server.client.chat("hello").await.content(), "echo: hello");
}

#[tokio::test]
async fn a_gated_channel_is_said_with_its_reason() {
    let reason = "channels feature is not currently available";
    let server = with_fake(json!({ "skip_reason": reason })).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "channel_gated"));
    assert!(reply.text().contains(reason));
}

#[tokio::test]
async fn not_logged_in_is_said() {
    let text = "Not logged in · Please run /login";
    let server = with_fake(json!({ "exit_at_start": { "status": 1, "text": text } })).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "not_logged_in"), "{}", reply.text());
}

#[tokio::test]
async fn a_start_that_fails_in_passing_is_502_with_the_screen_and_the_next_one_works() {
    let text = "out of luck";
    let server = with_fake(json!({ "exit_at_start": { "status": 7, "text": text } })).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "start_failed"), "{}", reply.text());
    assert!(reply.text().contains("exit status 7") && reply.text().contains(text));
    std::fs::write(server.state.join("home/.fake-claude.json"), "{}").unwrap();
    assert_eq!(server.client.chat("hello").await.content(), "echo: hello");
}

#[tokio::test]
async fn a_claude_that_is_never_ready_is_given_up() {
    let config = "[limits]\nstart_timeout_seconds = 2\n".to_owned();
    let fake = Some(json!({ "never_registers": true }));
    let server = Server::start(Options { config, fake, ..Options::default() }).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "start_failed"));
}

#[tokio::test]
async fn a_missing_claude_is_said() {
    let claude = Some("/nonexistent/claude".into());
    let server = Server::start(Options { claude, ..Options::default() }).await;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "claude_missing"), "{}", reply.text());
}

#[tokio::test]
async fn hooks_that_the_user_switched_off_are_said() {
    let server = Server::start(Options::default()).await;
    let folder = server.state.join("home/.claude");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("settings.json"), r#"{"disableAllHooks": true}"#).unwrap();
    for path in [&folder, &folder.join("settings.json")] {
        std::os::unix::fs::chown(path, Some(server.session_uid), None).unwrap();
    }
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "hooks_disabled"), "{}", reply.text());
}

#[tokio::test]
async fn a_message_that_left_no_trace_is_pushed_once_more_to_a_fresh_process() {
    let server = with_fake(json!({ "deaf_pushes": 1 })).await;
    // The second process is deaf to its first push too: the run fails, and says so.
    let reply = server.client.chat("anybody there").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "not_received"), "{}", reply.text());
}

#[tokio::test]
async fn a_claude_that_prints_without_end_at_start_stalls_nothing() {
    let server = with_fake(json!({ "print_mib": 32 })).await;
    assert_eq!(server.client.chat("hello").await.content(), "echo: hello");
}

#[tokio::test]
async fn turns_without_hooks_end_at_their_reply() {
    let config = "[session]\nhooks = false\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("bare");
    for number in 0..5 {
        let text = format!("turn {number}");
        assert_eq!(session.chat(&text).await.content(), format!("echo: {text}"));
    }
}
