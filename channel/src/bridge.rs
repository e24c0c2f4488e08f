//! The connection to frontd: WebSocket over a Unix socket, made again for ever. Carries frames and
//! knows their form; what they mean is the voice's business.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use proto::bridge::{FromFrontd, close};
use proto::limits::{BRIDGE_FRAME, OUTBOX_FRAMES, SILENCE};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::log::log;
use crate::pump::Event;
use crate::quiet::QuietStream;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Connecting, the WebSocket handshake and hello_ack, each. frontd may be starting.
const GREETING: Duration = Duration::from_secs(5);
/// frontd pings well within [`SILENCE`]; it closes first, we are the fallback.
const DEAF: Duration = SILENCE.saturating_add(Duration::from_secs(15));
/// Frames between the voice and the socket: the whole outbox after a reconnect, and some control.
const FRAMES: usize = OUTBOX_FRAMES + 64;
/// A closing handshake that takes longer is not worth it.
const FAREWELL: Duration = Duration::from_millis(250);

type Socket = WebSocketStream<QuietStream>;

pub(crate) struct Target {
    pub(crate) path: PathBuf,
    /// The uid that the peer must have before anything is said to it.
    pub(crate) uid: u32,
}

/// Why a connection ended, or did not come about.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Ended {
    #[error("connect to the bridge: {0}")]
    Connect(std::io::ErrorKind),
    #[error("the bridge's peer has uid {0}, which is not frontd's: it is told nothing")]
    Stranger(u32),
    #[error("the bridge's handshake failed")]
    Handshake,
    #[error("no hello_ack in time")]
    NoWelcome,
    #[error("frontd is silent")]
    Silent,
    #[error("frontd sent a frame that is not of the protocol")]
    Broken,
    #[error("frontd closed the connection with code {0}")]
    Closed(u16),
    #[error("the connection to frontd was lost")]
    Lost,
    #[error("the connection was given up")]
    HungUp,
}

/// Connects again and again until the pump is gone: soon after a connection that lasted, later and
/// later after ones that did not.
pub(crate) async fn run(target: Target, events: mpsc::Sender<Event>) {
    let mut pause = FIRST_PAUSE;
    let mut said = None;
    while !events.is_closed() {
        let begun = Instant::now();
        let ended = attempt(&target, &events).await;
        if events.is_closed() {
            return;
        }
        let lasted = begun.elapsed() > LONGEST_PAUSE;
        // A refusal does not mend itself in milliseconds.
        if matches!(ended, Ended::Closed(close::REFUSED | close::VERSION) | Ended::Stranger(_)) {
            pause = LONGEST_PAUSE;
        } else if lasted {
            pause = FIRST_PAUSE;
        }
        // Once for each cause: frontd may be away for hours.
        if lasted || said.as_ref() != Some(&ended) {
            log!("{ended}");
            said = Some(ended);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            () = events.closed() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between half of `pause` and all of it: many channels must not return at the same moment.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

async fn attempt(target: &Target, events: &mpsc::Sender<Event>) -> Ended {
    let socket = match connect(target).await {
        Ok(socket) => socket,
        Err(ended) => return ended,
    };
    let (sink, stream) = socket.split();
    let (frames, outgoing) = mpsc::channel(FRAMES);
    if events.send(Event::Linked(frames)).await.is_err() {
        return Ended::HungUp;
    }
    // Both halves at the same time: while we wait for frontd to read, it may wait for us to.
    // Dropping the other half midway is fine, the connection is over.
    let ended = tokio::select! {
        ended = write(sink, outgoing) => ended,
        ended = read(stream, events) => ended,
    };
    // The pump is gone: nobody needs to know.
    let _told = events.send(Event::Unlinked).await;
    ended
}

async fn connect(target: &Target) -> Result<Socket, Ended> {
    let stream = match timeout(GREETING, UnixStream::connect(&target.path)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Ended::Connect(error.kind())),
        Err(_) => return Err(Ended::Connect(std::io::ErrorKind::TimedOut)),
    };
    // SO_PEERCRED: whoever called listen(2) on it. Checked before a single byte is sent.
    let peer = stream.peer_cred().map_err(|error| Ended::Connect(error.kind()))?;
    if peer.uid() != target.uid {
        return Err(Ended::Stranger(peer.uid()));
    }
    let quiet = stream.into_std().and_then(QuietStream::new);
    let stream = quiet.map_err(|error| Ended::Connect(error.kind()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
        .max_message_size(Some(BRIDGE_FRAME))
        .max_frame_size(Some(BRIDGE_FRAME));
    let handshake = client_async_with_config("ws://localhost/", stream, Some(config));
    match timeout(GREETING, handshake).await {
        Ok(Ok((socket, _response))) => Ok(socket),
        Ok(Err(_)) | Err(_) => Err(Ended::Handshake),
    }
}

/// Writes frames, as many at a time as there are, until the pump lets go of the connection.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut outgoing: mpsc::Receiver<String>,
) -> Ended {
    while let Some(frame) = outgoing.recv().await {
        if sink.feed(Message::text(frame)).await.is_err() {
            return Ended::Lost;
        }
        if outgoing.is_empty() && sink.flush().await.is_err() {
            return Ended::Lost;
        }
    }
    let _closed = timeout(FAREWELL, sink.close()).await;
    Ended::HungUp
}

async fn read(mut stream: SplitStream<Socket>, events: &mpsc::Sender<Event>) -> Ended {
    let mut welcomed = false;
    let greeted_by = Instant::now() + GREETING;
    loop {
        let next = if welcomed {
            timeout(DEAF, stream.next()).await.map_err(|_| Ended::Silent)
        } else {
            timeout_at(greeted_by, stream.next()).await.map_err(|_| Ended::NoWelcome)
        };
        let text = match next {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Binary(_) | Message::Frame(_)))) => return Ended::Broken,
            Ok(Some(Ok(Message::Close(frame)))) => {
                return Ended::Closed(frame.map_or(1005, |frame| frame.code.into()));
            }
            Ok(Some(Err(
                tungstenite::Error::Capacity(_)
                | tungstenite::Error::Protocol(_)
                | tungstenite::Error::Utf8(_),
            ))) => return Ended::Broken,
            Ok(Some(Err(_)) | None) => return Ended::Lost,
            Err(ended) => return ended,
        };
        let Ok(frame) = serde_json::from_str::<FromFrontd>(&text) else {
            return Ended::Broken;
        };
        welcomed = welcomed || matches!(frame, FromFrontd::HelloAck { .. });
        if events.send(Event::Frame(frame)).await.is_err() {
            return Ended::HungUp;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_jittered_within_their_half() {
        for _ in 0..100 {
            let pause = jittered(LONGEST_PAUSE);
            assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{pause:?}");
        }
    }
}
