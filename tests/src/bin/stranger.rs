//! `stranger SOCKET text FRAME | binary BYTES | big BYTES`: sends one first frame on the bridge, as
//! whoever runs it, and prints what comes of it: `closed CODE`, `admitted`, or `dropped`.
#![forbid(unsafe_code)]

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: stranger SOCKET KIND PAYLOAD");
    let (socket, kind, payload) = (next()?, next()?, next()?);
    let frame = match kind.as_str() {
        "binary" => Message::binary(vec![0; payload.parse()?]),
        "big" => Message::text("x".repeat(payload.parse()?)),
        _ => Message::text(payload),
    };
    let stream = UnixStream::connect(socket).await?;
    let Ok((mut socket, _)) = client_async("ws://bridge/", stream).await else {
        tell("dropped");
        return Ok(());
    };
    // The server may close while a large frame is still being written.
    let _ = socket.send(frame).await;
    tell(&match socket.next().await {
        Some(Ok(Message::Close(frame))) => {
            format!("closed {}", frame.map_or(0, |frame| frame.code.into()))
        }
        Some(Ok(Message::Text(_))) => "admitted".to_owned(),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
            "something else".to_owned()
        }
        Some(Err(_)) | None => "dropped".to_owned(),
    });
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to the test that asks")]
fn tell(outcome: &str) {
    println!("{outcome}");
}
