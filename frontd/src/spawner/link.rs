//! One connection's packets: requests under way, what their answers are for, one packet in.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use proto::ids::SessionId;
use proto::limits;
use proto::spawn::{
    Answer, Call, Event, FromFrontd, FromSpawnd, Listed, RefusalCode, Signal, VERSION, decode,
    encode,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};

use super::{Answered, Error, Request};
use crate::foreign::Socket;

/// Room for one SCM_RIGHTS with one descriptor, and for a second that must not be there.
const ANCILLARY: usize = 64;

pub(super) struct Link<'a> {
    pub(super) socket: &'a UnixSeqpacket,
    pending: HashMap<u64, Waiting>,
    next_id: u64,
}

/// Who waits for an answer.
enum Waiting {
    Caller(oneshot::Sender<Answered>),
    /// The connection itself, which settles this session.
    Settling(SessionId),
}

impl<'a> Link<'a> {
    pub(super) fn new(socket: &'a UnixSeqpacket) -> Self {
        Self { socket, pending: HashMap::new(), next_id: 1 }
    }

    pub(super) async fn greet(&mut self) -> Result<(), Error> {
        self.write(&FromFrontd::Hello { version: VERSION }).await?;
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        let hello = timeout(limits::HELLO_WITHIN * 5, receive(self.socket, &mut buffer));
        match hello.await.map_err(|_| Error::Late)??.0 {
            FromSpawnd::Hello { version: VERSION } => Ok(()),
            FromSpawnd::Hello { version } => Err(Error::Version(version)),
            FromSpawnd::Answer { .. } | FromSpawnd::Event(_) => Err(Error::OutOfTurn),
        }
    }

    /// Asks and reads until the answer, so that spawnd never waits for us to read. Only before any
    /// other request. Events that come in between are kept for the caller.
    pub(super) async fn call(
        &mut self,
        call: Call,
        events: &mut Vec<Event>,
    ) -> Result<Answered, Error> {
        let asked = self.write_request(call, None).await?;
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        loop {
            let (said, leader) = receive(self.socket, &mut buffer).await?;
            match said {
                FromSpawnd::Answer { id, answer } if id == asked => return Ok((answer, leader)),
                FromSpawnd::Event(event) => events.push(event),
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
    pub(super) async fn list(&mut self, events: &mut Vec<Event>) -> Result<Vec<Listed>, Error> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.session.clone());
            match self.call(Call::List { after }, events).await?.0 {
                Answer::Sessions { sessions, more } => {
                    let more = more && !sessions.is_empty();
                    all.extend(sessions);
                    if !more {
                        return Ok(all);
                    }
                }
                Answer::Verified { .. }
                | Answer::Started { .. }
                | Answer::Adopted { .. }
                | Answer::Done {}
                | Answer::Refused { .. } => return Err(Error::OutOfTurn),
            }
        }
    }

    /// Writes a session's request.
    pub(super) async fn ask(&mut self, request: Request) -> Result<(), Error> {
        if request.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // Whoever asked has given up while the request waited.
            return Ok(());
        }
        let id = self.write_request(request.call, request.socket).await?;
        if let Some(answer) = request.answer {
            self.pending.insert(id, Waiting::Caller(answer));
        }
        Ok(())
    }

    /// Writes a request of the connection's own; [`answered`](Self::answered) gives the answer back.
    pub(super) async fn settle(&mut self, session: &SessionId, call: Call) -> Result<(), Error> {
        let id = self.write_request(call, None).await?;
        self.pending.insert(id, Waiting::Settling(session.clone()));
        Ok(())
    }

    /// Hands an answer to whoever waits for it; one to the connection itself is returned.
    pub(super) async fn answered(
        &mut self,
        id: u64,
        answered: Answered,
    ) -> Result<Option<(SessionId, Answered)>, Error> {
        match self.pending.remove(&id) {
            Some(Waiting::Settling(session)) => return Ok(Some((session, answered))),
            Some(Waiting::Caller(caller)) => {
                // Nobody waits for this process any more: it must not live on unknown.
                if let Err((Answer::Started { session, .. }, _)) = caller.send(answered) {
                    let kill = Call::Signal { session, signal: Signal::Kill };
                    self.write_request(kill, None).await?;
                }
            }
            None => {
                // Of a signal or a forgotten exit. That its session is gone already is no news.
                if let Answer::Refused { code, message } = answered.0
                    && code != RefusalCode::NoSession
                {
                    tracing::warn!(?code, message, "spawnd refused");
                }
            }
        }
        Ok(None)
    }

    async fn write_request(
        &mut self,
        call: Call,
        socket: Option<Arc<Socket>>,
    ) -> Result<u64, Error> {
        let id = self.next_id;
        self.next_id += 1;
        let request = FromFrontd::Request { id, call };
        let Some(socket) = socket else {
            self.write(&request).await?;
            return Ok(id);
        };
        let mut space = [0; ANCILLARY];
        let mut ancillary = AncillaryMessageWriter::new(&mut space);
        let sockets = [socket.as_fd()];
        ancillary.add_fds(&sockets).map_err(|_| Error::OutOfTurn)?;
        self.socket.send_with_ancillary(&encode(&request), &mut ancillary).await?;
        Ok(id)
    }

    async fn write(&self, message: &FromFrontd) -> Result<(), Error> {
        self.socket.send(&encode(message)).await?;
        Ok(())
    }
}

/// One packet, whole, with at most one descriptor.
pub(super) async fn receive(
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
