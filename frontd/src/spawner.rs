//! The client of spawnd: one SOCK_SEQPACKET connection, answers matched to requests, exits and
//! readiness passed on to the door of their process. After every connect the two compare lists.

use std::collections::{BTreeSet, HashMap};
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::SessionId;
use proto::limits;
use proto::spawn::{
    Answer, Call, Event, ExitCause, FromFrontd, FromSpawnd, Listed, ListedState, RefusalCode,
    Signal, Spawn, Usage, VERSION, decode, encode,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::OwnedAncillaryMessage;

use crate::session::directory::Directory;
use crate::session::machine::{FromProcess, Input};
use crate::session::message::Message;

/// Requests that may wait to be written. Each session has at most one spawn and one signal.
const QUEUE: usize = 1024;
/// Room for one SCM_RIGHTS with one descriptor, and for a second that must not be there.
const ANCILLARY: usize = 64;
/// Between tries to reach spawnd.
const RETRY: Duration = Duration::from_millis(200);

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

/// The connection's side of the handle.
pub struct Connection {
    requests: mpsc::Receiver<Request>,
    connected: watch::Sender<bool>,
    directory: Arc<Directory>,
}

pub fn new(directory: Arc<Directory>) -> (Spawner, Connection) {
    let (sender, requests) = mpsc::channel(QUEUE);
    let (connected, watching) = watch::channel(false);
    let spawner = Spawner { requests: sender, connected: watching };
    (spawner, Connection { requests, connected, directory })
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

impl Connection {
    /// Serves until spawnd is gone for good: the dev pair at the first loss, a path never.
    pub async fn serve(mut self, address: Address) -> Error {
        match address {
            Address::Connected(socket) => self.until_lost(&socket).await,
            Address::Path(path) => {
                let mut told = String::new();
                loop {
                    let error = match UnixSeqpacket::connect(&path).await {
                        Ok(socket) => self.until_lost(&socket).await,
                        Err(error) => Error::Connect(error),
                    };
                    // Tried again five times a second, told when it is another than before.
                    let said = chain(&error).to_string();
                    if said != told {
                        tracing::warn!(error = %said, path = %path.display(), "spawnd");
                        told = said;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn until_lost(&mut self, socket: &UnixSeqpacket) -> Error {
        let result = self.converse(socket).await;
        self.connected.send_replace(false);
        match result {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn converse(
        &mut self,
        socket: &UnixSeqpacket,
    ) -> Result<std::convert::Infallible, Error> {
        let mut link = Link { socket, pending: HashMap::new(), next_id: 1 };
        link.greet().await?;
        self.compare(&mut link).await?;
        self.connected.send_replace(true);
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        loop {
            // Both arms are cancel-safe: a datagram is received whole or not at all.
            tokio::select! {
                packet = receive(socket, &mut buffer) => {
                    let (said, leader) = packet?;
                    match said {
                        FromSpawnd::Hello { .. } => return Err(Error::OutOfTurn),
                        FromSpawnd::Answer { id, answer } => {
                            link.answered(id, (answer, leader)).await?;
                        }
                        FromSpawnd::Event(event) => self.pass_on(event).await,
                    }
                }
                Some(request) = self.requests.recv() => link.ask(request).await?,
            }
        }
    }

    /// Ends what frontd does not know, and tells sessions what they missed.
    async fn compare(&self, link: &mut Link<'_>) -> Result<(), Error> {
        let listed = link.list(self).await?;
        let alive: BTreeSet<&SessionId> = listed.iter().map(|entry| &entry.session).collect();
        for door in self.directory.processes() {
            if door.is_started() && !alive.contains(&door.process) {
                let cause = ExitCause::Unknown {};
                self.tell(&door.process, Message::Exited { process: door.process.clone(), cause })
                    .await;
            }
        }
        for entry in listed {
            let known = self.directory.door(&entry.session).is_some();
            let session = entry.session;
            match (entry.state, known) {
                (ListedState::Exited { cause, usage }, true) => {
                    self.pass_on(Event::Exited { session, cause, usage }).await;
                }
                (ListedState::Exited { .. }, false) => {
                    link.call(Call::Forget { session }, self).await?;
                }
                (ListedState::Starting {} | ListedState::Running { .. }, false) => {
                    tracing::info!(%session, "ending a process that nobody here knows");
                    let call = Call::Signal { session, signal: Signal::Kill };
                    link.call(call, self).await?;
                }
                (ListedState::Running { ready: Some(pid), .. }, true) => {
                    self.pass_on(Event::Ready { session, pid }).await;
                }
                (ListedState::Starting {} | ListedState::Running { ready: None, .. }, true) => {}
            }
        }
        Ok(())
    }

    async fn pass_on(&self, event: Event) {
        match event {
            Event::Ready { session, pid } => {
                let said = FromProcess::ReadyPid(pid);
                self.tell(&session, Message::Input(Input::Of(session.clone(), said))).await;
            }
            Event::Exited { session, cause, usage } => {
                let Usage { user_micros, system_micros, max_rss_kib } = usage;
                tracing::info!(%session, %cause, user_micros, system_micros, max_rss_kib, "exited");
                self.tell(&session, Message::Exited { process: session.clone(), cause }).await;
            }
        }
    }

    async fn tell(&self, process: &SessionId, message: Message) {
        if let Some(door) = self.directory.door(process) {
            // An actor that is gone has no use for it.
            let _ = door.inbox.send(message).await;
        }
    }
}

/// One connection's requests under way.
struct Link<'a> {
    socket: &'a UnixSeqpacket,
    pending: HashMap<u64, oneshot::Sender<Answered>>,
    next_id: u64,
}

impl Link<'_> {
    async fn greet(&mut self) -> Result<(), Error> {
        self.write(&FromFrontd::Hello { version: VERSION }).await?;
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        let hello = timeout(limits::HELLO_WITHIN * 5, receive(self.socket, &mut buffer));
        match hello.await.map_err(|_| Error::Late)??.0 {
            FromSpawnd::Hello { version: VERSION } => Ok(()),
            FromSpawnd::Hello { version } => Err(Error::Version(version)),
            FromSpawnd::Answer { .. } | FromSpawnd::Event(_) => Err(Error::OutOfTurn),
        }
    }

    /// Asks and reads until the answer, so that spawnd never waits for us to read. Events that
    /// come in between are passed on.
    async fn call(&mut self, call: Call, connection: &Connection) -> Result<Answer, Error> {
        let asked = self.next_id;
        self.ask(Request { call, answer: None }).await?;
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        loop {
            match receive(self.socket, &mut buffer).await?.0 {
                FromSpawnd::Answer { id, answer } if id == asked => return Ok(answer),
                FromSpawnd::Event(event) => connection.pass_on(event).await,
                FromSpawnd::Answer {
                    answer: Answer::Refused { code: RefusalCode::InUse, .. },
                    ..
                } => return Err(Error::InUse),
                FromSpawnd::Hello { .. } | FromSpawnd::Answer { .. } => {
                    return Err(Error::OutOfTurn);
                }
            }
        }
    }

    /// Every page of `list`.
    async fn list(&mut self, connection: &Connection) -> Result<Vec<Listed>, Error> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.session.clone());
            match self.call(Call::List { after }, connection).await? {
                Answer::Sessions { sessions, more } => {
                    let more = more && !sessions.is_empty();
                    all.extend(sessions);
                    if !more {
                        return Ok(all);
                    }
                }
                Answer::Started { .. }
                | Answer::Adopted { .. }
                | Answer::Done {}
                | Answer::Refused { .. } => return Err(Error::OutOfTurn),
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Result<(), Error> {
        if request.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // Whoever asked has given up while the request waited.
            return Ok(());
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Some(answer) = request.answer {
            self.pending.insert(id, answer);
        }
        self.write(&FromFrontd::Request { id, call: request.call }).await
    }

    async fn answered(&mut self, id: u64, answered: Answered) -> Result<(), Error> {
        match self.pending.remove(&id) {
            Some(waiting) => {
                // Nobody waits for this process any more: it must not live on unknown.
                if let Err((Answer::Started { session, .. }, _)) = waiting.send(answered) {
                    let call = Call::Signal { session, signal: Signal::Kill };
                    self.ask(Request { call, answer: None }).await?;
                }
            }
            None => {
                if let Answer::Refused { code, message } = answered.0 {
                    tracing::debug!(?code, message, "spawnd refused");
                }
            }
        }
        Ok(())
    }

    async fn write(&self, message: &FromFrontd) -> Result<(), Error> {
        self.socket.send(&encode(message)).await?;
        Ok(())
    }
}

/// One packet, whole, with at most one descriptor.
async fn receive(
    socket: &UnixSeqpacket,
    buffer: &mut [u8],
) -> Result<(FromSpawnd, Option<OwnedFd>), Error> {
    let mut ancillary = [0; ANCILLARY];
    let mut parts = [IoSliceMut::new(buffer)];
    let (info, reader) = socket.recv_vectored_with_ancillary(&mut parts, &mut ancillary).await?;
    let mut descriptors = Vec::new();
    for message in reader.into_messages() {
        if let OwnedAncillaryMessage::FileDescriptors(received) = message {
            descriptors.extend(received);
        }
    }
    if info.truncated() || info.ancillary_truncated() || descriptors.len() > 1 {
        return Err(Error::Cut);
    }
    if info.bytes_read() == 0 {
        return Err(Error::Closed);
    }
    let packet = buffer.get(..info.bytes_read()).ok_or(Error::Cut)?;
    Ok((decode(packet)?, descriptors.pop()))
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
