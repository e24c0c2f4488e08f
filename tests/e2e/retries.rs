//! A request that comes again is not a second turn.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::harness::{Options, Server, client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::clients::node_script;
use super::witness::{pushes, until};

#[tokio::test]
async fn a_key_attaches_to_the_run_in_progress_and_replays_the_finished_one() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("keyed").with("idempotency-key", "one");
    let mut body = client::message("CHUNKS 4 150");
    body["stream"] = json!(true);
    let mut first = session.stream_of(&body).await;
    let mut chunks = vec![first.next().await.unwrap().unwrap()];
    until("the push", || pushes(&server, "CHUNKS") == 1).await;
    let second = session.stream_of(&body).await;
    assert_eq!(second.run, first.run);
    let second = second.all().await.unwrap();
    chunks.extend(first.all().await.unwrap());
    assert_eq!(second, chunks, "in progress");
    assert_eq!(session.stream_of(&body).await.all().await.unwrap(), chunks, "finished");
    assert_eq!(pushes(&server, "CHUNKS"), 1);
    // What was not streamed is replayed as the same bytes.
    let other = server.client.session("keyed").with("idempotency-key", "two");
    let reply = other.chat("SAY said").await;
    assert_eq!(reply.content(), "said");
    assert_eq!(other.chat("SAY said").await.body, reply.body);
    assert_eq!(pushes(&server, "SAY said"), 1);
}

#[tokio::test]
async fn a_key_is_of_one_request() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("reused").with("idempotency-key", "one");
    session.chat("first").await.content();
    for _ in 0..2 {
        let reply = session.chat("second").await;
        let (status, code) = (reply.status, reply.error_code());
        assert_eq!((status, &*code), (422, "idempotency_key_reused"), "{}", reply.text());
    }
    assert_eq!(pushes(&server, "second"), 0);
    assert_eq!(session.chat("first").await.content(), "echo: first");
}

#[tokio::test]
async fn a_run_that_failed_before_claude_had_it_is_tried_afresh() {
    let fake = Some(json!({ "exit_at_start": { "status": 1, "text": "not today" } }));
    let server = Server::start(Options { fake, ..Options::default() }).await;
    let session = server.client.session("afresh").with("idempotency-key", "one");
    let reply = session.chat("SAY made it").await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    std::fs::write(server.state.join("home/.fake-claude.json"), "{}").unwrap();
    assert_eq!(session.chat("SAY made it").await.content(), "made it");
    assert_eq!(session.chat("SAY made it").await.content(), "made it");
    assert_eq!(pushes(&server, "SAY made it"), 1);
}

/// claude may have acted on it: the same key gets the same failure.
#[tokio::test]
async fn a_run_that_failed_after_claude_had_it_is_replayed() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("failed").with("idempotency-key", "one");
    let reply = session.chat("CRASH").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "process_ended"), "{}", reply.text());
    let again = session.chat("CRASH").await;
    assert_eq!((again.status, again.body), (reply.status, reply.body));
    assert_eq!(pushes(&server, "CRASH"), 1);
}

#[tokio::test]
async fn requests_with_one_key_at_the_same_time_begin_one_run() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("at once").with("idempotency-key", "one");
    let asking = (0..6).map(|_| session.chat("SLOW 200 SAY once"));
    let replies = futures_util::future::join_all(asking).await;
    for reply in &replies {
        assert_eq!(reply.content(), "once");
        assert_eq!(reply.body, replies[0].body);
    }
    assert_eq!(pushes(&server, "SAY once"), 1);
}

#[tokio::test]
async fn what_a_client_counts_as_a_repetition_is_one() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("counted");
    let again = session.with("x-stainless-retry-count", "1");
    let first = session.stream("SLOW 400 SAY counted").await;
    let run = first.run.clone();
    let second = again.stream("SLOW 400 SAY counted").await;
    assert_eq!(second.run, run, "in progress");
    assert_eq!(second.deltas().await.unwrap().concat(), "counted");
    assert_eq!(again.stream("SLOW 400 SAY counted").await.run, run, "finished");
    assert_eq!(pushes(&server, "SAY counted"), 1);
    // Another text, and the same one said anew, are new.
    assert_eq!(again.chat("SAY another").await.content(), "another");
    let none = session.with("x-stainless-retry-count", "0");
    assert_eq!(none.chat("SAY another").await.content(), "another");
    assert_eq!(pushes(&server, "SAY another"), 2);
}

fn openclaw(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../frontd/tests/data/openclaw");
    serde_json::from_str(&std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap())
        .unwrap()
}

/// As OpenClaw was seen to send it; only its pace is the test's.
fn paced(name: &str, text: &str) -> Value {
    let body = openclaw(name).to_string();
    let paced = body.replace(text, &format!("SLOW 500 {text}"));
    assert_ne!(paced, body, "{name}");
    serde_json::from_str(&paced).unwrap()
}

fn openclaw_server() -> Options {
    let config = "[[models]]\nid = \"m1\"\n".to_owned();
    Options { config, ..Options::default() }
}

#[tokio::test]
async fn openclaws_first_turn_sent_again_is_the_same_turn() {
    let server = Server::start(openclaw_server()).await;
    let again = paced("retry-first-turn", "Say one");
    // What it sent first: the same without what it has written around it.
    let text = again.to_string();
    let (before, rest) = text.split_once("[Queued user message").unwrap();
    let (_, rest) = rest.split_once("active prompt below.]\\n").unwrap();
    let (said, rest) = rest.split_once("\\n\\nContinue the current task").unwrap();
    let (_, rest) = rest.split_once("completed actions.").unwrap();
    let first: Value = serde_json::from_str(&format!("{before}{said}{rest}")).unwrap();

    let stream = server.client.stream_of(&first).await;
    let run = stream.run.clone();
    drop(stream);
    let second = server.client.stream_of(&again).await;
    assert_eq!(second.run, run, "in progress");
    let answer = second.deltas().await.unwrap().concat();
    assert!(answer.contains("Say one") && !answer.contains("Queued user"), "{answer}");
    let third = server.client.stream_of(&again).await;
    assert_eq!(third.run, run, "finished");
    assert_eq!(third.deltas().await.unwrap().concat(), answer);
    assert_eq!(pushes(&server, "Say one"), 1);
}

#[tokio::test]
async fn openclaws_later_turns_sent_again_are_the_same_turns() {
    let server = Server::start(openclaw_server()).await;
    let second = paced("second-turn", "Say two");
    for again in ["retry-second-turn", "retry-after-tool"] {
        let session = server.client.session(again);
        let stream = session.stream_of(&second).await;
        let run = stream.run.clone();
        until("the push", || pushes(&server, &format!("chat_id=\"{again}\"")) == 1).await;
        drop(stream);
        let again_body = paced(again, "Say two");
        let stream = session.stream_of(&again_body).await;
        assert_eq!(stream.run, run, "{again}");
        stream.deltas().await.unwrap();
        assert_eq!(session.stream_of(&again_body).await.run, run, "{again}, finished");
        assert_eq!(pushes(&server, &format!("chat_id=\"{again}\"")), 1, "{again}");
        // The next message is one.
        let next = session.stream_of(&paced("after-retry", "Say three")).await;
        assert_ne!(next.run, run);
        let answer = next.deltas().await.unwrap().concat();
        assert!(answer.ends_with("Say three"), "{answer}");
    }
}

/// When a connection is cut.
enum Cut {
    At(oneshot::Receiver<()>),
    /// Once the server has said this.
    Behind(&'static str),
}

/// Forwards connections to the server; the first one is cut.
async fn proxy(server: &Server, cut: Cut) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), server.client.address);
    tokio::spawn(async move {
        let mut cut = Some(cut);
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, to, cut.take()));
        }
    });
    address
}

async fn forward(mut client: TcpStream, to: SocketAddr, cut: Option<Cut>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    match cut {
        None => {
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        }
        Some(Cut::At(moment)) => tokio::select! {
            done = tokio::io::copy_bidirectional(&mut client, &mut server) => { done?; }
            _ = moment => {}
        },
        Some(Cut::Behind(words)) => {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let answers = async {
                let (mut said, mut buffer) = (String::new(), [0; 4096]);
                while !said.contains(words) {
                    let count = from_server.read(&mut buffer).await?;
                    said.push_str(&String::from_utf8_lossy(&buffer[..count]));
                    to_client.write_all(&buffer[..count]).await?;
                }
                std::io::Result::Ok(())
            };
            tokio::select! {
                done = answers => done?,
                done = tokio::io::copy(&mut from_client, &mut to_server) => { done?; }
            }
        }
    }
    Ok(())
}

/// Runs a check of the script through a proxy that cuts its first connection. `false` skips.
async fn through_a_cut(
    server: &Server,
    check: &str,
    cut: Cut,
    now: oneshot::Sender<()>,
    holds: impl FnMut() -> bool,
) -> bool {
    let Some(mut script) = node_script("openai_retry.js") else { return false };
    let address = proxy(server, cut).await;
    script.arg(format!("http://{address}/v1")).arg(check).kill_on_drop(true);
    let running = tokio::spawn(async move { script.output().await });
    until("the moment to cut", holds).await;
    let _cut = now.send(());
    let output = tokio::time::timeout(client::PATIENCE, running).await.unwrap().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said == "OK\n", "{said}{complained}\n{}", server.log());
    true
}

#[tokio::test]
async fn the_official_client_repeats_what_was_cut_and_gets_the_one_answer() {
    let server = Server::start(Options::default()).await;
    let (now, moment) = oneshot::channel();
    let pushed = || pushes(&server, "SAY whole") == 1;
    if !through_a_cut(&server, "whole", Cut::At(moment), now, pushed).await {
        return;
    }
    assert_eq!(pushes(&server, "SAY whole"), 1);
    // Before the head, which comes with the push.
    let config = json!({ "registration_delay_ms": 800 });
    std::fs::write(server.state.join("home/.fake-claude.json"), config.to_string()).unwrap();
    let before = server.claudes().len();
    let (now, moment) = oneshot::channel();
    let starts = || server.claudes().len() > before;
    through_a_cut(&server, "before_the_head", Cut::At(moment), now, starts).await;
    assert_eq!(pushes(&server, "SAY headless"), 1);

    let (now, _) = oneshot::channel();
    let cut = Cut::Behind("chunk 1/4");
    through_a_cut(&server, "in_the_middle", cut, now, || true).await;
    assert_eq!(pushes(&server, "CHUNKS"), 1);
}
