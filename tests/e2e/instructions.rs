//! System and developer text: given to claude at its start where that is wanted, whole or not.

use serde_json::json;
use tests::harness::{Options, Server, TwoDaemons, Wanted};

use super::witness::{conversation, until};

fn appending() -> Options {
    let config = "[session]\nsystem_text = \"append\"\n".to_owned();
    Options { config, ..Options::default() }
}

#[tokio::test]
async fn system_and_developer_text_is_what_claude_is_started_with() {
    let server = Server::start(appending()).await;
    let session = server.client.session("told");
    let body = conversation(&[
        ("system", "Be <kind>.\n\"Always\"."),
        ("developer", "And short."),
        ("u", "ECHO_INSTRUCTIONS"),
    ]);
    let answer = session.post("/v1/chat/completions", &body).await.content();
    assert_eq!(answer, "Be <kind>.\n\"Always\".\n\nAnd short.");
    // A process that runs keeps what it was started with.
    let body = conversation(&[("system", "Be otherwise."), ("u", "ECHO_INSTRUCTIONS")]);
    assert_eq!(session.post("/v1/chat/completions", &body).await.content(), answer);
    assert_eq!(session.chat("ECHO_INSTRUCTIONS").await.content(), answer);
    // Another conversation is another process.
    let none = server.client.session("not told").chat("ECHO_INSTRUCTIONS").await;
    assert_eq!(none.content(), "none");
}

#[tokio::test]
async fn a_process_that_is_started_again_is_told_again() {
    let config = "[session]\nsystem_text = \"append\"\n[limits]\nidle_seconds = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    for text in ["first", "second"] {
        let body = conversation(&[("system", text), ("u", "ECHO_INSTRUCTIONS")]);
        let answer = server.client.post("/v1/chat/completions", &body).await.content();
        assert_eq!(answer, text);
        until("the idle claude is stopped", || server.claudes().is_empty()).await;
    }
}

#[tokio::test]
async fn system_text_is_ignored_unless_it_is_wanted() {
    let server = Server::start(Options::default()).await;
    let long = "x".repeat(60 << 10);
    let body = conversation(&[("system", &*long), ("u", "ECHO_INSTRUCTIONS")]);
    assert_eq!(server.client.post("/v1/chat/completions", &body).await.content(), "none");
}

#[tokio::test]
async fn the_longest_text_is_given_whole_and_a_longer_one_is_refused() {
    let server = Server::start(appending()).await;
    let mut text = "y".repeat(48 << 10);
    let body = conversation(&[("system", &*text), ("u", "ECHO_INSTRUCTIONS")]);
    let answer = server.client.session("whole").post("/v1/chat/completions", &body).await;
    assert_eq!(answer.content(), text);
    let before = server.claudes();
    text.push('y');
    let body = conversation(&[("system", &*text), ("u", "hello")]);
    let session = server.client.session("too long");
    let reply = session.post("/v1/chat/completions", &body).await;
    assert_eq!((reply.status, &*reply.error_code()), (413, "instructions_too_large"));
    assert_eq!(server.claudes(), before, "nothing was started");
    assert_eq!(server.client.get("/health").await.json()["processes"], json!(1));
    // The session is as if nobody had asked.
    assert_eq!(session.chat("hello").await.content(), "echo: hello");
}

/// What policy does not allow is said, and is no reason to leave the text out.
#[tokio::test]
async fn a_policy_that_forbids_it_is_said() {
    let config = "[session]\nsystem_text = \"append\"\n".to_owned();
    let wanted = Wanted { config, forbids_instructions: true, ..Wanted::default() };
    let daemons = TwoDaemons::start(wanted).await;
    let session = daemons.client.session("forbidden");
    let body = conversation(&[("system", "Be kind."), ("u", "hello")]);
    let reply = session.post("/v1/chat/completions", &body).await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "not_allowed"), "{}", reply.text());
    assert!(reply.text().contains("instructions"), "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert!(daemons.claudes().is_empty());
    assert_eq!(session.chat("hello").await.content(), "echo: hello");
}
