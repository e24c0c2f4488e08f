//! A disk that is full, a database that is broken, and the bounds of what a run may keep.

use std::time::Duration;

use serde_json::json;
use tests::harness::{Options, Server, client, have_root};
use tokio::io::AsyncWriteExt as _;

use super::witness::{outcome, pushes, statuses, until};

#[tokio::test]
async fn a_full_disk_refuses_new_runs_and_lets_those_in_progress_finish() {
    if !have_root() {
        return;
    }
    let options = Options { store_bytes: Some(4 << 20), ..Options::default() };
    let server = Server::start(options).await;
    let session = server.client.session("full");
    session.chat("hello").await.content();
    let stream = session.stream("SLOW 1500 BIG 400").await;
    let events = session.watch(&stream.run).await;
    until("the push", || pushes(&server, "BIG 400") == 1).await;
    // All the room there is.
    let ballast = server.state.join("frontd/ballast");
    fill(&ballast);
    let answer = stream.deltas().await.unwrap().concat();
    assert_eq!(answer, tests::directive::big_text(400));
    let events = events.values().await;
    assert!(statuses(&events).contains(&"not-stored"), "{:?}", statuses(&events));
    assert_eq!(outcome(&events), "completed");

    let reply = session.chat("more").await;
    assert_eq!((reply.status, &*reply.error_code()), (507, "store_full"), "{}", reply.text());
    assert_eq!(pushes(&server, "more"), 0);
    std::fs::remove_file(&ballast).unwrap();
    let deadline = tokio::time::Instant::now() + client::PATIENCE;
    let reply = loop {
        let reply = session.chat("room again").await;
        if reply.status == 200 {
            break reply;
        }
        assert_eq!(reply.status, 507, "{}", reply.text());
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(reply.content(), "echo: room again");
    let run = reply.header("x-synthesis-run").unwrap();
    assert_eq!(outcome(&session.events(run).await), "completed");
}

/// The first that finds the disk full is refused like those after it.
#[tokio::test]
async fn a_run_whose_beginning_finds_no_room_is_refused() {
    if !have_root() {
        return;
    }
    for streamed in [false, true] {
        let options = Options { store_bytes: Some(4 << 20), ..Options::default() };
        let server = Server::start(options).await;
        let session = server.client.session("full");
        assert_eq!(session.chat("hello").await.content(), "echo: hello");
        fill(&server.state.join("frontd/ballast"));
        let text = "x".repeat(256 << 10);
        let reply = if streamed {
            let messages = json!([{ "role": "user", "content": text }]);
            let body = json!({ "messages": messages, "stream": true });
            session.post("/v1/chat/completions", &body).await
        } else {
            session.post("/v1/runs", &json!({ "input": text })).await
        };
        assert_eq!((reply.status, &*reply.error_code()), (507, "store_full"), "{}", reply.text());
    }
}

/// Writes until nothing more goes.
fn fill(path: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[tokio::test]
async fn a_corrupt_database_is_set_aside_and_named() {
    let server = Server::start(Options::default()).await;
    server.client.session("before").chat("hello").await.content();
    let server = server
        .restart_after(|state| {
            let folder = state.join("frontd");
            for file in std::fs::read_dir(&folder).unwrap().flatten() {
                if file.file_name().to_string_lossy().starts_with("synthesis.db-") {
                    std::fs::remove_file(file.path()).unwrap();
                }
            }
            std::fs::write(folder.join("synthesis.db"), "This is no database.".repeat(1000))
                .unwrap();
        })
        .await;
    let session = server.client.session("before");
    assert_eq!(session.chat("hello again").await.content(), "echo: hello again");
    let names = std::fs::read_dir(server.state.join("frontd")).unwrap().flatten();
    let aside: Vec<std::path::PathBuf> = names
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().contains(".corrupt"))
        .collect();
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    assert!(std::fs::read(aside).unwrap().starts_with(b"This is no database."));
    let log = server.log();
    assert!(log.contains(&aside.display().to_string()), "{log}");
}

#[tokio::test]
async fn a_run_that_outgrows_its_bound_fails_and_says_so() {
    let config = "[store]\nrun_max_bytes = 1048576\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("long");
    let text = format!("{}\nBIG 400", "\"".repeat(400 << 10));
    let stream = session.stream(&text).await;
    let run = stream.run.clone();
    let frames = stream.all().await.unwrap();
    assert!(frames.last().unwrap().contains("answer_too_long"), "{:?}", frames.last());
    let described = session.get(&format!("/v1/runs/{run}")).await.json();
    assert_eq!(described["error"]["code"], "answer_too_long", "{described}");
    // claude was stopped in what it did, and answers what comes next.
    assert_eq!(session.chat("after").await.content(), "echo: after");
    let reply = session.chat(&text).await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "answer_too_long"), "{}", reply.text());
    assert_eq!(session.chat("after").await.content(), "echo: after");
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_up() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("readers").with("idempotency-key", "one");
    // A request whose answer nobody takes, over a connection that takes little.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut idle = socket.connect(server.client.address).await.unwrap();
    let text = format!("{}\nSLOW 300 BIG 500", "x".repeat(10 << 10));
    let mut body = client::message(&text);
    body["stream"] = json!(true);
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         x-synthesis-session: readers\r\nidempotency-key: one\r\ncontent-length: {}\r\n\r\n",
        server.client.address,
        body.len()
    );
    idle.write_all(head.as_bytes()).await.unwrap();
    idle.write_all(body.as_bytes()).await.unwrap();
    until("the push", || pushes(&server, "BIG 500") == 1).await;
    // Another reader of the same run, and the session's next one.
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let whole = session.stream_of(&body).await.deltas().await.unwrap().concat();
    assert_eq!(whole, tests::directive::big_text(500));
    let next = server.client.session("readers").chat("next").await;
    assert_eq!(next.content(), "echo: next");
    // Whenever it reads, all of it is there.
    let mut rest = Vec::new();
    let read = async {
        let mut piece = [0; 16 << 10];
        while !rest.ends_with(b"0\r\n\r\n") {
            let count = tokio::io::AsyncReadExt::read(&mut idle, &mut piece).await.unwrap();
            assert!(count > 0, "the connection stays until all is told");
            rest.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(client::PATIENCE, read).await.unwrap();
    let said = String::from_utf8_lossy(&rest).into_owned();
    assert!(said.contains("[DONE]") && said.len() > 500 << 10, "{}", said.len());
}
