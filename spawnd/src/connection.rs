//! One SOCK_SEQPACKET connection: whole packets in, whole packets out, nothing that blocks. What
//! is wrong with a packet ends the connection; a packet that cannot be queued does too, for the
//! peer learns everything again from `list`.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, getsockopt, sendmsg, sockopt};
use proto::limits;
use proto::spawn::{Call, Credential, DecodeError, FromFrontd, FromSpawnd, decode, encode};

use crate::sys::message;
use crate::undertaker::Foreign;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("closed by the peer")]
    Closed,
    #[error("receive: {0}")]
    Receive(std::io::Error),
    #[error("packet over {} bytes", limits::SPAWN_PACKET)]
    Truncated,
    #[error("packet with {came} descriptors, where {due} belong")]
    Descriptors { came: usize, due: usize },
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("speaks version {0}")]
    Version(u32),
    #[error("request before hello")]
    RequestBeforeHello,
    #[error("second hello")]
    SecondHello,
    #[error("no hello in time")]
    Silent,
    #[error("refused: another frontd is connected")]
    InUse,
    #[error("send: {0}")]
    Send(Errno),
}

pub struct Connection {
    /// What the peer queued in it comes down with it.
    socket: Foreign,
    /// Never given twice, so that an answer cannot reach a later peer.
    pub serial: u64,
    /// The uid on the other end when the connection was made (SO_PEERCRED, unix(7)).
    pub peer: u32,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    /// # Errors
    /// When the kernel does not say whose the other end is.
    pub fn new(socket: OwnedFd, serial: u64) -> nix::Result<Self> {
        let socket = Foreign::from(socket);
        let peer = getsockopt(&socket, sockopt::PeerCredentials)?.uid();
        Ok(Self { socket, serial, peer })
    }

    /// The next packet; `None` when there is none now. `buffer` is the limit of a packet. Only
    /// what verifies a peer brings a descriptor, and it brings one.
    ///
    /// # Errors
    /// [`Broken`]: the connection must end. No descriptor of the packet stays open.
    pub fn receive(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<(FromFrontd, Option<Foreign>)>, Broken> {
        let received = match message::receive(self.socket.as_fd(), buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(Broken::Receive(error)),
        };
        let mut fds = received.fds;
        if fds.len() > 1 {
            return Err(Broken::Descriptors { came: fds.len(), due: 1 });
        }
        if received.truncated {
            return Err(Broken::Truncated);
        }
        // An empty packet cannot be told from the end, and both are the end.
        if received.len == 0 {
            return Err(Broken::Closed);
        }
        let packet = decode(buffer.get(..received.len).unwrap_or_default())?;
        match (fds.pop(), verifies_peer(&packet)) {
            (Some(_), false) => Err(Broken::Descriptors { came: 1, due: 0 }),
            (None, true) => Err(Broken::Descriptors { came: 0, due: 1 }),
            (fd, _) => Ok(Some((packet, fd))),
        }
    }

    /// Queues one packet, with a descriptor if there is one to hand over.
    ///
    /// # Errors
    /// [`Broken::Send`] when the kernel does not take it now.
    pub fn send(&self, packet: &FromSpawnd, fd: Option<BorrowedFd<'_>>) -> Result<(), Broken> {
        let bytes = encode(packet);
        let raw: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(
            self.socket.as_fd().as_raw_fd(),
            &[IoSlice::new(&bytes)],
            rights,
            flags,
            None,
        )
        .map_err(Broken::Send)?;
        Ok(())
    }
}

fn verifies_peer(packet: &FromFrontd) -> bool {
    match packet {
        FromFrontd::Request { call: Call::Verify { credential }, .. } => match credential {
            Credential::Peer {} => true,
            Credential::Token { .. } => false,
        },
        FromFrontd::Hello { .. }
        | FromFrontd::Request {
            call:
                Call::Spawn(_)
                | Call::Signal { .. }
                | Call::List { .. }
                | Call::Adopt { .. }
                | Call::Forget { .. },
            ..
        } => false,
    }
}
