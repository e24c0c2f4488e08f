//! Hostile peers at the sessions' side door.

use futures_util::{FutureExt, SinkExt, StreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::{Value, json};
use tests::harness::{Options, Server, binary, client::PATIENCE, have_root, processes};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

struct Session {
    server: Server,
    token: String,
    id: String,
    conversation: String,
}

/// A server with one live session, and that session's secret.
async fn session() -> Session {
    let server = Server::start(Options::default()).await;
    server.client.session("victim").chat("hello").await.content();
    let file = server.session_file("mcp.json").unwrap();
    let configuration: Value = serde_json::from_slice(&file).unwrap();
    let environment = &configuration["mcpServers"]["synthesis"]["env"];
    let text = |name: &str| environment[name].as_str().unwrap().to_owned();
    let (token, id) = (text("SYNTHESIS_BRIDGE_TOKEN"), text("SYNTHESIS_OPENCLAW_SESSION"));
    let conversation = text("SYNTHESIS_CLAUDE_SESSION");
    Session { server, token, id, conversation }
}

impl Session {
    fn hello(&self) -> Value {
        json!({
            "type": "hello", "version": 3, "openclaw_session": self.id,
            "claude_session": self.conversation, "pid": 1, "token": self.token,
            "state": "registered", "last_message_id": null, "idle": true,
        })
    }

    /// Sends one first frame from a process of its own, as the session's user (or as this test's).
    async fn first_frame(&self, as_user: bool, kind: &str, payload: &str) -> String {
        let uid = self.server.session_uid.to_string();
        let mut command = if as_user && Uid::effective().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &uid, "--clear-groups"]).arg(binary("stranger"));
            command
        } else {
            Command::new(binary("stranger"))
        };
        command.arg(self.server.state.join("run/bridge/bridge.sock")).args([kind, payload]);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn still_works(&self) {
        let reply = self.server.client.session("victim").chat("still here").await;
        assert_eq!(reply.content(), "echo: still here");
    }
}

#[tokio::test]
async fn broken_first_frames_close_only_their_connection() {
    let session = session().await;
    for text in ["null", "{}", "not json", "[]", r#"{"type":"registered"}"#, r#"{"type":"hello"}"#]
    {
        assert_eq!(session.first_frame(true, "text", text).await, "closed 4001", "{text}");
    }
    assert_eq!(session.first_frame(true, "binary", "16").await, "closed 4001");
    let outcome = session.first_frame(true, "big", "2000000").await;
    assert!(["closed 4001", "dropped"].contains(&&*outcome), "{outcome}");
    let mut old = session.hello();
    old["version"] = json!(2);
    old.as_object_mut().unwrap().remove("idle");
    assert_eq!(session.first_frame(true, "text", &old.to_string()).await, "closed 4002");
    session.still_works().await;
}

#[tokio::test]
async fn a_foreign_secret_a_foreign_session_and_a_foreign_uid_are_refused() {
    let session = session().await;
    let mut wrong = session.hello();
    wrong["token"] = json!("0".repeat(64));
    assert_eq!(session.first_frame(true, "text", &wrong.to_string()).await, "closed 4003");
    let mut wrong = session.hello();
    wrong["openclaw_session"] = json!("a".repeat(26));
    assert_eq!(session.first_frame(true, "text", &wrong.to_string()).await, "closed 4003");
    // This test has the right secret, but as root it is not the session's user.
    if Uid::effective().as_raw() != session.server.session_uid {
        let right = session.hello().to_string();
        assert_eq!(session.first_frame(false, "text", &right).await, "closed 4003");
    }
    session.still_works().await;
}

#[tokio::test]
async fn a_second_hello_is_refused_while_the_first_connection_answers() {
    let session = session().await;
    let hello = session.hello().to_string();
    assert_eq!(session.first_frame(true, "text", &hello).await, "closed 4004");
    session.still_works().await;
}

#[tokio::test]
async fn a_replaced_connection_leaves_no_turn_pending() {
    let session = session().await;
    let [claude] = session.server.claudes()[..] else { panic!("one claude") };
    let channel = processes::children(claude)
        .into_iter()
        .find(|pid| processes::name(*pid).as_deref() == Some("channel"))
        .expect("a channel");
    let signal = |signal| kill(Pid::from_raw(i32::try_from(channel).unwrap()), signal).unwrap();
    let mut stream = session.server.client.session("victim").stream("SLOW 3000 SAY whole").await;
    stream.next().await.unwrap();
    signal(Signal::SIGSTOP);
    let mut hello = session.hello();
    hello["state"] = json!("starting");
    let outcome = session.first_frame(true, "text", &hello.to_string()).await;
    assert_eq!(outcome, "admitted", "the first connection did not answer");
    signal(Signal::SIGCONT);
    // The channel comes back, and its turn ends as if nothing had happened.
    assert_eq!(stream.deltas().await.unwrap().concat(), "whole");
    session.still_works().await;
}

#[tokio::test]
async fn strangers_who_crowd_the_bridge_keep_no_session_out() {
    if !have_root() {
        return;
    }
    let server = Server::start(Options::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(
            tokio::net::UnixStream::connect(server.state.join("run/bridge/bridge.sock"))
                .await
                .unwrap(),
        );
    }
    // All but a few were dropped at once: end of file, while the session's channel comes in.
    let reply = server.client.chat("hello").await;
    assert_eq!(reply.content(), "echo: hello");
    let last = crowd.last_mut().unwrap();
    let mut rest = [0; 1];
    // By now, without waiting: one that is heard would have seconds for its handshake.
    let end = tokio::io::AsyncReadExt::read(last, &mut rest).now_or_never();
    assert_eq!(end.expect("dropped by now").unwrap(), 0);
}

#[tokio::test]
async fn a_first_version_channel_takes_a_session_only_when_allowed() {
    let config = "[bridge]\nallow_unauthenticated = true\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let log = server.log();
    let address = log.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let address = address.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{address}/"), stream).await.unwrap();
    let hello = json!({ "type": "hello", "openclaw_session": "main::chat1", "pid": 1 });
    socket.send(Message::text(hello.to_string())).await.unwrap();

    let client =
        server.client.with("x-openclaw-agent-id", "main").with("x-openclaw-chat-id", "chat1");
    // The ping says that the hello was taken.
    while !matches!(next(&mut socket).await["type"].as_str(), Some("ping")) {}
    let asking = tokio::spawn(async move { client.chat("hello").await });
    loop {
        let frame = next(&mut socket).await;
        if frame["type"] == "inbound" {
            assert_eq!(frame["content"], "hello");
            break;
        }
    }
    let reply = json!({ "type": "reply", "content": "from the first version", "final": true });
    socket.send(Message::text(reply.to_string())).await.unwrap();
    assert_eq!(asking.await.unwrap().content(), "from the first version");
    assert!(server.claudes().is_empty());
}

async fn next<S>(socket: &mut WebSocketStream<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let frame = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    if let Message::Text(text) = frame { serde_json::from_str(&text).unwrap() } else { Value::Null }
}
