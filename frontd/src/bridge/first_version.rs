//! The first version of the bridge: WebSocket on loopback TCP, no secret, no acknowledgements.
//! Off unless `bridge.allow_unauthenticated` is set. Such a channel belongs to a claude that
//! somebody started by hand; it may take only a session that never had a process of ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proto::bridge::{Event, FromFrontd, v1};
use proto::ids::{Seq, SessionId};
use proto::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message as Frame};

use super::OUTGOING;
use super::connection::websocket_config;
use crate::app::{Access, App};
use crate::identity;
use crate::principal;
use crate::session::actor;
use crate::session::machine::{FromProcess, Input};
use crate::session::message::Message;
use crate::session::process::Link;

/// Connections at once: this bridge is for a few sessions of one person.
const CONNECTIONS: usize = 64;
/// From accept to hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TcpStream>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("websocket")]
    WebSocket(#[from] WebSocketError),
    #[error("socket")]
    Io(#[from] std::io::Error),
    #[error("the peer is another user's")]
    Stranger,
    #[error("no hello in time")]
    Late,
    #[error("not a frame of this protocol")]
    Broken,
    #[error("the session is not to be had")]
    Taken,
    #[error("closed")]
    Closed,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, app: Arc<App>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(reason) = connection(stream, peer, &app).await {
                tracing::debug!(%reason, "first-version connection ended");
            }
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: &Arc<App>) -> Result<(), Ended> {
    // It proves nothing, so it can speak for the one client alone.
    let Access::Local { uid: own, client } = &app.site.access else { return Err(Ended::Stranger) };
    let uid = principal::peer_uid(stream.local_addr()?, peer)?;
    if uid.is_none() || (uid != Some(*own) && uid != client.runner.as_ref().map(|r| r.uid)) {
        return Err(Ended::Stranger);
    }
    let handshake = tokio_tungstenite::accept_async_with_config(stream, Some(websocket_config()));
    let mut socket = timeout(HELLO_WITHIN, handshake).await.map_err(|_| Ended::Late)??;
    let first = timeout(HELLO_WITHIN, next(&mut socket)).await.map_err(|_| Ended::Late)??;
    let v1::FromChannel::Hello { openclaw_session, pid, .. } = first else {
        return Err(Ended::Broken);
    };
    let key = identity::of_first_version(&client.principal, &openclaw_session)
        .map_err(|_| Ended::Broken)?;

    let (frames, mut outgoing) = mpsc::channel(OUTGOING);
    let process = SessionId::random();
    let (taken, answer) = oneshot::channel();
    let link = Link { number: 0, pid, frames, evict: Arc::default() };
    let attach = Message::Attach { process: process.clone(), link, taken };
    let start = || actor::start(Arc::clone(app), key.clone());
    let inbox = app
        .directory
        .with_session(&key, start, |inbox| inbox.try_send(attach).ok().map(|()| inbox.clone()));
    let inbox = inbox.ok_or(Ended::Taken)?;
    if !answer.await.unwrap_or(false) {
        return Err(Ended::Taken);
    }
    let result = talk(&mut socket, &inbox, &process, &mut outgoing).await;
    let _ = inbox.send(Message::Disconnected { process, number: 0 }).await;
    result
}

async fn talk(
    socket: &mut Socket,
    inbox: &mpsc::Sender<Message>,
    process: &SessionId,
    outgoing: &mut mpsc::Receiver<FromFrontd>,
) -> Result<(), Ended> {
    let mut seq = Seq(0);
    let mut ping = tokio::time::interval(limits::PING_EVERY);
    loop {
        // Every arm is cancel-safe: a stream, a queue and a timer.
        tokio::select! {
            frame = next(socket) => match frame? {
                v1::FromChannel::Hello { .. } => return Err(Ended::Broken),
                v1::FromChannel::Pong {} => {}
                v1::FromChannel::Reply { content, r#final } => {
                    seq = Seq(seq.0 + 1);
                    let event = Event::Reply { content, r#final, message_id: None };
                    let said = Input::Of(process.clone(), FromProcess::Told { seq, event });
                    inbox.send(Message::Input(said)).await.map_err(|_| Ended::Closed)?;
                }
            },
            frame = outgoing.recv() => match frame {
                Some(FromFrontd::Inbound { content, meta, files: _ }) => {
                    send(socket, &v1::FromFrontd::Inbound { content, meta }).await?;
                }
                // This version has no words for them.
                Some(
                    FromFrontd::HelloAck { .. }
                    | FromFrontd::File { .. }
                    | FromFrontd::NoFile { .. }
                    | FromFrontd::Ack { .. }
                    | FromFrontd::AwaitIdle {}
                    | FromFrontd::Ping {},
                ) => {}
                // The session let go of this channel.
                None => return Err(Ended::Closed),
            },
            _ = ping.tick() => send(socket, &v1::FromFrontd::Ping {}).await?,
        }
    }
}

async fn next(socket: &mut Socket) -> Result<v1::FromChannel, Ended> {
    loop {
        match socket.next().await.ok_or(Ended::Closed)?? {
            Frame::Text(text) => {
                return serde_json::from_str(text.as_str()).map_err(|_| Ended::Broken);
            }
            Frame::Ping(_) | Frame::Pong(_) => {}
            Frame::Binary(_) | Frame::Frame(_) => return Err(Ended::Broken),
            Frame::Close(_) => return Err(Ended::Closed),
        }
    }
}

async fn send(socket: &mut Socket, frame: &v1::FromFrontd) -> Result<(), Ended> {
    let text = serde_json::to_string(frame).expect("wire types have string keys");
    socket.send(Frame::text(text)).await?;
    Ok(())
}
