//! Who may connect. One connection is active. Others may wait for their hello, a bounded number for
//! a bounded time, so that a silent peer cannot keep frontd out.

use std::os::fd::OwnedFd;
use std::time::Instant;

use proto::limits;

use crate::connection::Connection;

/// Connections that have not said hello yet.
const GREETINGS: usize = 8;

/// Where peers come from.
pub enum Entrance {
    /// One connection, made by our parent: its end is the daemon's.
    Single,
    Listener(OwnedFd),
}

pub struct Greeting {
    pub connection: Connection,
    pub deadline: Instant,
}

pub struct Doors {
    pub entrance: Entrance,
    pub greetings: Vec<Greeting>,
    pub active: Option<Connection>,
    pub peers: [u32; 3],
    next_serial: u64,
}

/// A connection that is not even heard.
#[derive(Debug, thiserror::Error)]
pub enum TurnedAway {
    #[error("connection refused: not the uid that may connect")]
    Foreign { uid: u32 },
    #[error("connection refused: too many wait for their hello")]
    Crowded { uid: u32 },
    #[error("connection refused: {0}")]
    Nameless(#[from] nix::Error),
}

impl Doors {
    /// `peers`: the uids that may connect.
    pub fn new(entrance: Entrance, peers: [u32; 3]) -> Self {
        Self { entrance, greetings: Vec::new(), active: None, peers, next_serial: 1 }
    }

    /// Lets a connection wait for its hello, if the kernel says that its peer may.
    ///
    /// # Errors
    /// Why the connection was closed.
    pub fn greet(&mut self, socket: OwnedFd, now: Instant) -> Result<(), TurnedAway> {
        let connection = Connection::new(socket, self.next_serial)?;
        self.next_serial += 1;
        let uid = connection.peer;
        if !self.peers.contains(&uid) {
            return Err(TurnedAway::Foreign { uid });
        }
        if self.greetings.len() >= GREETINGS {
            return Err(TurnedAway::Crowded { uid });
        }
        let deadline = now + limits::HELLO_WITHIN;
        self.greetings.push(Greeting { connection, deadline });
        Ok(())
    }

    /// No peer is left that could come back.
    pub fn is_deserted(&self) -> bool {
        matches!(self.entrance, Entrance::Single)
            && self.active.is_none()
            && self.greetings.is_empty()
    }
}
