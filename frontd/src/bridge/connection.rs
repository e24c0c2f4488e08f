//! One bridge connection: hello and its proof, then frames both ways until one side closes.
//! Whatever is wrong with it ends this connection only.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proto::bridge::{self, ChannelState, FromChannel, FromFrontd, Hello, close};
use proto::limits;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use super::files::Files;
use super::{OUTGOING, Occupant};
use crate::app::App;
use crate::foreign::{self, QuietStream};
use crate::session::directory::{Door, Taken};
use crate::session::machine::{FromProcess, Input};
use crate::session::message::Message;
use crate::session::process::Link;

/// From accept to the end of a valid hello. A machine under load starts twenty claudes at once.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// What a first connection has to answer the ping that a second hello causes.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A channel that does not take a frame for this long is stuck.
const SEND_WITHIN: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<QuietStream>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("websocket")]
    WebSocket(#[from] tungstenite::Error),
    #[error("peer credentials")]
    Credentials(#[from] std::io::Error),
    #[error("no hello in time")]
    Late,
    #[error("channel closed it")]
    Closed,
    #[error("refused with {code}: {reason}")]
    Refused { code: u16, reason: &'static str },
}

fn refuse(code: u16, reason: &'static str) -> Ended {
    Ended::Refused { code, reason }
}

/// The settings of every bridge WebSocket of this process.
pub fn websocket_config() -> WebSocketConfig {
    // The default read buffer of 128 KiB would cost 130 MB for a thousand sessions.
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(8 << 10)
        .max_message_size(Some(limits::BRIDGE_FRAME))
        .max_frame_size(Some(limits::BRIDGE_FRAME))
}

/// Serves one connection to its end.
///
/// # Errors
/// [`Ended`] says why it ended; there is no other way.
pub async fn serve(socket: foreign::Socket, app: &App) -> Result<(), Ended> {
    let peer = socket.credentials()?;
    let stream = QuietStream::new(Arc::new(socket))?;
    let handshake = tokio_tungstenite::accept_async_with_config(stream, Some(websocket_config()));
    let mut socket = timeout(HELLO_WITHIN, handshake).await.map_err(|_| Ended::Late)??;
    let result = admit_and_talk(&mut socket, peer, app).await;
    match &result {
        Err(Ended::Refused { code, reason }) => farewell(&mut socket, *code, reason).await,
        Err(Ended::WebSocket(tungstenite::Error::Capacity(_))) => {
            farewell(&mut socket, close::BROKEN, "frame over the limit").await;
        }
        Err(Ended::Late) => farewell(&mut socket, close::BROKEN, "no hello").await,
        Ok(()) | Err(Ended::WebSocket(_) | Ended::Credentials(_) | Ended::Closed) => {}
    }
    result
}

async fn admit_and_talk(
    socket: &mut Socket,
    peer: foreign::Credentials,
    app: &App,
) -> Result<(), Ended> {
    let hello = timeout(HELLO_WITHIN, first_frame(socket)).await.map_err(|_| Ended::Late)??;
    let door = judge(&hello, peer.uid, app)?;
    let pid = u32::try_from(peer.pid).map_err(|_| refuse(close::REFUSED, "no pid"))?;
    challenge_occupant(&door).await?;
    let (frames, mut outgoing) = mpsc::channel(OUTGOING);
    let occupant = occupy(&door, frames.clone());
    let link = Link { number: occupant.number, pid, frames, evict: Arc::clone(&occupant.evict) };
    let connected = Message::Connected { process: door.process.clone(), link };
    let talk = async {
        send(socket, &FromFrontd::HelloAck { version: bridge::VERSION, received: door.held_seq() })
            .await?;
        tell(&door, connected).await?;
        if hello.state == ChannelState::Registered {
            tell_machine(&door, FromProcess::Registered { pid }).await?;
        }
        talk(socket, &door, pid, app, &occupant, &mut outgoing).await
    };
    let result = talk.await;
    vacate(&door, occupant.number);
    let gone = Message::Disconnected { process: door.process.clone(), number: occupant.number };
    // The actor may be gone itself, and then needs no word.
    let _ = door.inbox.send(gone).await;
    result
}

async fn first_frame(socket: &mut Socket) -> Result<Hello, Ended> {
    match decode(socket.next().await)? {
        Some(FromChannel::Hello(hello)) => Ok(hello),
        Some(
            FromChannel::Registered {}
            | FromChannel::Skipped { .. }
            | FromChannel::Event { .. }
            | FromChannel::FileGet { .. }
            | FromChannel::Pong {},
        )
        | None => Err(refuse(close::BROKEN, "hello comes first")),
    }
}

/// Whose hello is this? The same answer for every wrong one, so that nothing can be probed.
fn judge(hello: &Hello, uid: u32, app: &App) -> Result<Arc<Door>, Ended> {
    if hello.version != bridge::VERSION {
        return Err(refuse(close::VERSION, "another protocol version"));
    }
    let door = app.directory.door(&hello.openclaw_session);
    door.filter(|door| {
        door.uid == uid && door.opens_to(&hello.token) && door.conversation == hello.claude_session
    })
    .ok_or_else(|| refuse(close::REFUSED, "not a session of yours"))
}

/// A second hello waits for the first connection to show that it lives, and then is refused.
async fn challenge_occupant(door: &Door) -> Result<(), Ended> {
    let Some(occupant) = door.lock_occupant().clone() else { return Ok(()) };
    let heard = occupant.heard.notified();
    tokio::pin!(heard);
    heard.as_mut().enable();
    let asked = occupant.frames.try_send(FromFrontd::Ping {}).is_ok();
    if asked && timeout(ANSWER_WITHIN, heard).await.is_ok() {
        return Err(refuse(close::IN_USE, "the session has a live connection"));
    }
    occupant.evict.notify_one();
    Ok(())
}

fn occupy(door: &Door, frames: mpsc::Sender<FromFrontd>) -> Occupant {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let occupant = Occupant { number, frames, heard: Arc::default(), evict: Arc::default() };
    *door.lock_occupant() = Some(occupant.clone());
    occupant
}

/// Leaves the door free, unless a successor has it.
fn vacate(door: &Door, number: u64) {
    let mut occupant = door.lock_occupant();
    if occupant.as_ref().is_some_and(|occupant| occupant.number == number) {
        *occupant = None;
    }
}

async fn talk(
    socket: &mut Socket,
    door: &Door,
    pid: u32,
    app: &App,
    occupant: &Occupant,
    outgoing: &mut mpsc::Receiver<FromFrontd>,
) -> Result<(), Ended> {
    let mut files = Files::default();
    let mut last_heard = Instant::now();
    let mut ping = tokio::time::interval_at(last_heard + limits::PING_EVERY, limits::PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Every arm is cancel-safe: a queue, a stream, a timer and a permit.
        tokio::select! {
            frame = socket.next() => {
                let Some(frame) = decode(frame)? else { continue };
                last_heard = Instant::now();
                occupant.heard.notify_waiters();
                take(frame, socket, door, pid, (app, &mut files)).await?;
            }
            Some(frame) = outgoing.recv() => send_all(socket, &frame, outgoing).await?,
            _ = ping.tick() => {
                if last_heard.elapsed() > limits::SILENCE {
                    return Err(refuse(close::SILENT, "silent for too long"));
                }
                send(socket, &FromFrontd::Ping {}).await?;
            }
            () = wait(&occupant.evict) => return Err(refuse(close::SILENT, "replaced")),
        }
    }
}

async fn wait(notify: &Notify) {
    notify.notified().await;
}

/// One frame of an admitted channel.
async fn take(
    frame: FromChannel,
    socket: &mut Socket,
    door: &Door,
    pid: u32,
    (app, files): (&App, &mut Files),
) -> Result<(), Ended> {
    match frame {
        FromChannel::Hello(_) => Err(refuse(close::BROKEN, "hello comes once")),
        FromChannel::Registered {} => tell_machine(door, FromProcess::Registered { pid }).await,
        FromChannel::Skipped { reason } => {
            tell_machine(door, FromProcess::Skipped { reason }).await
        }
        FromChannel::Pong {} => Ok(()),
        FromChannel::FileGet { id, offset } => {
            let piece = files.piece(id, offset, door, app).await;
            send(socket, &piece).await
        }
        FromChannel::Event { seq, event } => {
            let gone = |_| refuse(close::REFUSED, "the session is over");
            let room = door.inbox.reserve().await.map_err(gone)?;
            // No wait between the two: a successor's events must not come in between.
            match door.take(seq) {
                Taken::New => {}
                Taken::Gap => return Err(refuse(close::BROKEN, "a seq is missing")),
                // The acknowledgement was lost, or waits for the commit.
                Taken::Before if seq > door.held_seq() => return Ok(()),
                Taken::Before => {
                    return send(socket, &FromFrontd::Ack { seq, refused: None }).await;
                }
            }
            let said = FromProcess::Told { seq, event };
            room.send(Message::Input(Input::Of(door.process.clone(), said)));
            Ok(())
        }
    }
}

async fn tell_machine(door: &Door, said: FromProcess) -> Result<(), Ended> {
    tell(door, Message::Input(Input::Of(door.process.clone(), said))).await
}

async fn tell(door: &Door, message: Message) -> Result<(), Ended> {
    door.inbox.send(message).await.map_err(|_| refuse(close::REFUSED, "the session is over"))
}

/// `None` is a control frame of WebSocket itself.
fn decode(frame: Option<Result<Frame, tungstenite::Error>>) -> Result<Option<FromChannel>, Ended> {
    match frame.ok_or(Ended::Closed)?? {
        Frame::Text(text) => serde_json::from_str(text.as_str())
            .map(Some)
            .map_err(|_| refuse(close::BROKEN, "not a frame of this protocol")),
        Frame::Binary(_) => Err(refuse(close::BROKEN, "binary frame")),
        Frame::Close(_) => Err(Ended::Closed),
        Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => Ok(None),
    }
}

async fn send(socket: &mut Socket, frame: &FromFrontd) -> Result<(), Ended> {
    let sent = timeout(SEND_WITHIN, socket.send(encode(frame))).await;
    sent.map_err(|_| refuse(close::SILENT, "takes no frames"))??;
    Ok(())
}

/// The frame and all that wait behind it, in one write: each write wakes channel.
async fn send_all(
    socket: &mut Socket,
    first: &FromFrontd,
    waiting: &mut mpsc::Receiver<FromFrontd>,
) -> Result<(), Ended> {
    let write = async {
        socket.feed(encode(first)).await?;
        while let Ok(frame) = waiting.try_recv() {
            socket.feed(encode(&frame)).await?;
        }
        socket.flush().await
    };
    timeout(SEND_WITHIN, write).await.map_err(|_| refuse(close::SILENT, "takes no frames"))??;
    Ok(())
}

fn encode(frame: &FromFrontd) -> Frame {
    Frame::text(serde_json::to_string(frame).expect("wire types have string keys"))
}

async fn farewell(socket: &mut Socket, code: u16, reason: &'static str) {
    let reason = Cow::Borrowed(reason).into_owned().into();
    let frame = CloseFrame { code: code.into(), reason };
    // Best effort: the peer may be gone or stuck.
    let _ = timeout(ANSWER_WITHIN, socket.close(Some(frame))).await;
}
