//! Hostile peers at the sessions' side door.

use std::path::PathBuf;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::harness::{Options, Server, client::PATIENCE};
use tokio::net::{TcpStream, UnixStream};
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
    let folder = std::fs::read_dir(server.state.join("run/sessions")).unwrap().next().unwrap();
    let file: PathBuf = folder.unwrap().path().join("mcp.json");
    let configuration: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let environment = &configuration["mcpServers"]["synthesis"]["env"];
    let text = |name: &str| environment[name].as_str().unwrap().to_owned();
    let (token, id) = (text("SYNTHESIS_BRIDGE_TOKEN"), text("SYNTHESIS_OPENCLAW_SESSION"));
    let conversation = text("SYNTHESIS_CLAUDE_SESSION");
    Session { server, token, id, conversation }
}

impl Session {
    fn hello(&self) -> Value {
        json!({
            "type": "hello", "version": 2, "openclaw_session": self.id,
            "claude_session": self.conversation, "pid": 1, "token": self.token,
            "state": "registered", "last_message_id": null,
        })
    }

    async fn connect(&self) -> WebSocketStream<UnixStream> {
        let stream = UnixStream::connect(self.server.state.join("run/bridge.sock")).await.unwrap();
        client_async("ws://bridge/", stream).await.unwrap().0
    }

    /// Sends one frame as the first and returns the close code that it gets.
    async fn close_code(&self, first: Message) -> u16 {
        let mut socket = self.connect().await;
        // The server may close while a large frame is still being written.
        let _ = socket.send(first).await;
        close_code(&mut socket).await
    }

    async fn still_works(&self) {
        let reply = self.server.client.session("victim").chat("still here").await;
        assert_eq!(reply.content(), "echo: still here");
    }
}

async fn close_code<S>(socket: &mut WebSocketStream<S>) -> u16
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let end = async {
        while let Some(frame) = socket.next().await {
            match frame {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(_) => {}
                Err(_) => return 0,
            }
        }
        0
    };
    tokio::time::timeout(PATIENCE, end).await.expect("it closes")
}

#[tokio::test]
async fn broken_first_frames_close_only_their_connection() {
    let session = session().await;
    for text in ["null", "{}", "not json", "[]", r#"{"type":"registered"}"#, r#"{"type":"hello"}"#]
    {
        assert_eq!(session.close_code(Message::text(text)).await, 4001, "{text}");
    }
    assert_eq!(session.close_code(Message::binary(vec![0; 16])).await, 4001);
    let large = "x".repeat(2 << 20);
    assert!([4001, 0].contains(&session.close_code(Message::text(large)).await));
    let mut old = session.hello();
    old["version"] = json!(1);
    assert_eq!(session.close_code(Message::text(old.to_string())).await, 4002);
    session.still_works().await;
}

#[tokio::test]
async fn a_foreign_secret_a_foreign_session_and_a_foreign_uid_are_refused() {
    let session = session().await;
    let mut wrong = session.hello();
    wrong["token"] = json!("0".repeat(64));
    assert_eq!(session.close_code(Message::text(wrong.to_string())).await, 4003);
    let mut wrong = session.hello();
    wrong["openclaw_session"] = json!("a".repeat(26));
    assert_eq!(session.close_code(Message::text(wrong.to_string())).await, 4003);
    // This test has the right secret, but as root it is not the session's user.
    if nix::unistd::Uid::effective().as_raw() != session.server.session_uid {
        let right = Message::text(session.hello().to_string());
        assert_eq!(session.close_code(right).await, 4003);
    }
    session.still_works().await;
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
