//! One-off sessions: a request's own, and gone with it.

use serde_json::json;
use tests::harness::{Options, Server, client};

use super::witness::{pushes, until, until_asked};

fn options() -> Options {
    let config = "[session]\nephemeral_models = [\"titles\"]\n\
        [[models]]\nid = \"synthesis\"\n[[models]]\nid = \"titles\"\n";
    Options { config: config.to_owned(), ..Options::default() }
}

#[tokio::test]
async fn a_one_off_session_is_of_one_request_and_leaves_nothing() {
    let server = Server::start(options()).await;
    let session = server.client.session("chat");
    session.chat("hello").await.content();
    let lasting = server.claudes();
    let by_header = session.with("x-synthesis-ephemeral", "true");
    let mut by_model = client::message("SAY by model");
    by_model["model"] = json!("titles");
    assert_eq!(by_header.chat("SAY by header").await.content(), "by header");
    let reply = session.post("/v1/chat/completions", &by_model).await;
    assert_eq!(reply.content(), "by model");
    let run = reply.header("x-synthesis-run").unwrap().to_owned();
    until("their processes are stopped", || server.claudes() == lasting).await;

    known(&server, &["5:local,7:session,4:chat,"]).await;
    let reply = session.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(reply.status, 404, "{}", reply.text());
    // The lasting conversation knows nothing of them.
    assert_eq!(session.chat("and").await.content(), "echo: and");
    assert_eq!(server.claudes(), lasting);
}

/// Waits until the server knows these sessions and no others.
async fn known(server: &Server, keys: &[&str]) {
    until_asked("these sessions and no others", async || {
        let sessions = server.client.get("/v1/sessions").await.json()["data"].clone();
        let found = sessions.as_array().unwrap().iter().map(|session| session["key"].clone());
        found.collect::<Vec<_>>() == keys
    })
    .await;
}

#[tokio::test]
async fn two_one_off_requests_do_not_share() {
    let server = Server::start(options()).await;
    let session = server.client.session("chat").with("x-synthesis-ephemeral", "true");
    let both = futures_util::future::join(
        session.chat("SLOW 500 SAY one"),
        session.chat("SLOW 500 SAY two"),
    );
    let look = until("two processes", || {
        pushes(&server, "SAY one") == 1 && pushes(&server, "SAY two") == 1
    });
    let ((one, two), ()) = futures_util::future::join(both, look).await;
    assert_eq!((one.content().as_str(), two.content().as_str()), ("one", "two"));
    let seen = super::witness::prompts(&server);
    assert_ne!(seen[0].conversation, seen[1].conversation);
    until("both are stopped", || server.claudes().is_empty()).await;
}

/// It has an end also where nobody answers.
#[tokio::test]
async fn a_one_off_session_that_fails_is_gone_too() {
    let server = Server::start(options()).await;
    let session = server.client.with("x-synthesis-ephemeral", "true");
    assert_eq!(session.chat("API_ERROR").await.status, 502);
    assert_eq!(session.chat("CRASH").await.status, 502);
    let leaver = session.with("x-synthesis-on-disconnect", "cancel");
    let stream = leaver.stream("HANG").await;
    drop(stream);
    until("all are stopped", || server.session_processes().is_empty()).await;
    known(&server, &[]).await;
    let reply = server.client.with("x-synthesis-ephemeral", "maybe").chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (400, "invalid_header"));
}
