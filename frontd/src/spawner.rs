//! The client of spawnd: one SOCK_SEQPACKET connection, answers matched to requests, exits and
//! readiness passed on to the door of their process. After every connect the two compare lists.
//!
//! Here is the handle that sessions hold; [`connection`] is its other side, [`link`] the requests
//! and packets of one connection.

mod connection;
mod link;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use proto::ids::SessionId;
use proto::spawn::{Answer, Call, RefusalCode, Signal, Spawn, VERSION};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_seqpacket::UnixSeqpacket;

pub use connection::Connection;

use crate::session::directory::Directory;

/// Requests that may wait to be written. Each session has at most one spawn and one signal.
const QUEUE: usize = 1024;

/// Where spawnd is.
pub enum Address {
    /// The dev pair: its end is the end of this process too.
    Connected(UnixSeqpacket),
    Path(PathBuf),
}

/// A running claude.
#[derive(Debug)]
pub struct Started {
    pub pid: u32,
    pub resumed: bool,
    pub leader: OwnedFd,
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect to spawnd")]
    Connect(#[source] std::io::Error),
    #[error("talk to spawnd")]
    Io(#[from] std::io::Error),
    #[error("spawnd closed the connection")]
    Closed,
    #[error("packet from spawnd was cut")]
    Cut,
    #[error("packet from spawnd")]
    Decode(#[from] proto::spawn::DecodeError),
    #[error("spawnd speaks version {0}, this is version {VERSION}")]
    Version(u32),
    #[error("another frontd is connected to it")]
    InUse,
    #[error("spawnd said something out of turn")]
    OutOfTurn,
    #[error("spawnd did not answer in time")]
    Late,
}

/// An answer and the descriptor that may come with it.
type Answered = (Answer, Option<OwnedFd>);

struct Request {
    call: Call,
    answer: Option<oneshot::Sender<Answered>>,
}

/// The handle that sessions hold.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
}

pub fn new(directory: Arc<Directory>) -> (Spawner, Connection) {
    let (sender, requests) = mpsc::channel(QUEUE);
    let (connected, watching) = watch::channel(false);
    let spawner = Spawner { requests: sender, connected: watching };
    (spawner, Connection::new(requests, connected, directory))
}

impl Spawner {
    /// Asks for a process and waits for its start.
    ///
    /// # Errors
    /// spawnd's refusal, or `StartFailed` when it cannot be reached.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Started, (RefusalCode, String)> {
        let failed = |text: &str| (RefusalCode::StartFailed, text.to_owned());
        let (answer, answered) = oneshot::channel();
        let call = Call::Spawn(Box::new(spawn));
        let request = Request { call, answer: Some(answer) };
        self.requests.send(request).await.map_err(|_| failed("spawnd is gone"))?;
        match answered.await.map_err(|_| failed("the connection to spawnd was lost"))? {
            (Answer::Started { pid, resumed, .. }, Some(leader)) => {
                Ok(Started { pid, resumed, leader })
            }
            (Answer::Refused { code, message }, _) => Err((code, message)),
            (
                Answer::Started { .. }
                | Answer::Adopted { .. }
                | Answer::Sessions { .. }
                | Answer::Done {},
                _,
            ) => Err(failed("spawnd gave another answer than asked for")),
        }
    }

    /// Have both sides said hello?
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Returns when both sides have said hello. Cancel-safe.
    pub async fn connected(&self) {
        // A connection that is gone is told by its task's end.
        let _ = self.connected.clone().wait_for(|connected| *connected).await;
    }

    /// Asks for a signal; what comes of it is told by the exit.
    pub fn signal(&self, session: SessionId, signal: Signal) {
        self.send(Call::Signal { session, signal });
    }

    /// Lets spawnd forget an exit.
    pub fn forget(&self, session: SessionId) {
        self.send(Call::Forget { session });
    }

    fn send(&self, call: Call) {
        // A full queue means that spawnd is stuck; the machines' deadlines ask again.
        if self.requests.try_send(Request { call, answer: None }).is_err() {
            tracing::warn!("request to spawnd dropped: its queue is full");
        }
    }
}

/// An error with its sources on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
