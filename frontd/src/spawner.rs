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
use std::sync::atomic::{AtomicU64, Ordering};

use proto::ids::{Grant, SessionId};
use proto::spawn::{Answer, Call, Credential, RefusalCode, Signal, Spawn, VERSION, Who};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_seqpacket::UnixSeqpacket;

pub use connection::Connection;

use crate::foreign::Socket;
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
    /// A client's socket, for `verify` of a peer alone.
    socket: Option<Arc<Socket>>,
    answer: Option<oneshot::Sender<Answered>>,
}

/// The handle that sessions hold.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
    connects: Arc<AtomicU64>,
}

pub fn new(directory: Arc<Directory>) -> (Spawner, Connection) {
    let (sender, requests) = mpsc::channel(QUEUE);
    let (connected, watching) = watch::channel(false);
    let connects = Arc::<AtomicU64>::default();
    let connection = Connection::new(requests, connected, Arc::clone(&connects), directory);
    (Spawner { requests: sender, connected: watching, connects }, connection)
}

impl Spawner {
    /// Asks for a process and waits for its start.
    ///
    /// # Errors
    /// spawnd's refusal, or `StartFailed` when it cannot be reached.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Started, (RefusalCode, String)> {
        let session = spawn.session.clone();
        match self.ask(Call::Spawn(Box::new(spawn)), None).await? {
            (Answer::Started { pid, resumed, .. }, Some(leader)) => {
                Ok(Started { pid, resumed, leader })
            }
            (Answer::Refused { code, message }, _) => {
                note(&session, code, &message);
                Err((code, message))
            }
            (
                Answer::Verified { .. }
                | Answer::Started { .. }
                | Answer::Adopted { .. }
                | Answer::Sessions { .. }
                | Answer::Done {},
                _,
            ) => Err(failed(OTHER)),
        }
    }

    /// Asks who is behind a credential; `socket` is the client's own, with [`Credential::Peer`]
    /// alone. Waits for a spawnd that is away as long as the caller does. Cancel-safe.
    ///
    /// # Errors
    /// spawnd's refusal (`NotProved`: it is none), or `StartFailed` when it cannot be reached.
    pub async fn verify(
        &self,
        credential: Credential,
        socket: Option<Arc<Socket>>,
    ) -> Result<(Who, Grant), (RefusalCode, String)> {
        if matches!(credential, Credential::Peer {}) != socket.is_some() {
            // spawnd would end the connection for it.
            return Err(failed("a socket belongs to a peer's credential, and to no other"));
        }
        match self.ask(Call::Verify { credential }, socket).await?.0 {
            Answer::Verified { who, grant } => Ok((who, grant)),
            Answer::Refused { code, message } => Err((code, message)),
            Answer::Started { .. }
            | Answer::Adopted { .. }
            | Answer::Sessions { .. }
            | Answer::Done {} => Err(failed(OTHER)),
        }
    }

    async fn ask(
        &self,
        call: Call,
        socket: Option<Arc<Socket>>,
    ) -> Result<Answered, (RefusalCode, String)> {
        let (answer, answered) = oneshot::channel();
        let request = Request { call, socket, answer: Some(answer) };
        self.requests.send(request).await.map_err(|_| failed("spawnd is gone"))?;
        answered.await.map_err(|_| failed("the connection to spawnd was lost"))
    }

    /// How often both sides have said hello.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
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
        if self.requests.try_send(Request { call, socket: None, answer: None }).is_err() {
            tracing::warn!("request to spawnd dropped: its queue is full");
        }
    }
}

/// A refused start, told once: its client hears of it by its run. What a client asked for is its own
/// affair; the rest is for whoever runs the machine.
fn note(session: &SessionId, code: RefusalCode, message: &str) {
    match code {
        RefusalCode::NotAllowed
        | RefusalCode::NotProved
        | RefusalCode::UserNotAllowed
        | RefusalCode::WorkspaceNotAllowed
        | RefusalCode::WorkspaceUnusable
        | RefusalCode::Busy => tracing::info!(%session, ?code, message, "spawnd refused a start"),
        RefusalCode::InUse
        | RefusalCode::StillRunning
        | RefusalCode::NoSession
        | RefusalCode::ClaudeMissing
        | RefusalCode::SandboxUnavailable
        | RefusalCode::AuditUnavailable
        | RefusalCode::StartFailed => {
            tracing::warn!(%session, ?code, message, "spawnd refused a start");
        }
    }
}

const OTHER: &str = "spawnd gave another answer than asked for";

fn failed(text: &str) -> (RefusalCode, String) {
    (RefusalCode::StartFailed, text.to_owned())
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
