//! The sessions' side door: channels come in over WebSocket, prove whose they are, and talk to
//! their session's actor. Nothing that one of them sends touches another.

pub mod accept;
pub mod connection;
pub mod files;
pub mod first_version;

use std::sync::Arc;

use proto::bridge::FromFrontd;
use tokio::sync::{Notify, mpsc};

/// Frames that may wait for one channel. A turn needs a handful; a channel that lets more pile up
/// is stuck, and its connection is given up.
pub const OUTGOING: usize = 256;

/// The connection that a door has let in.
#[derive(Clone)]
pub struct Occupant {
    /// Tells this connection from the next of the same process.
    pub number: u64,
    pub frames: mpsc::Sender<FromFrontd>,
    /// Rung at every frame that the channel sends.
    pub heard: Arc<Notify>,
    /// Asks the connection to close.
    pub evict: Arc<Notify>,
}
