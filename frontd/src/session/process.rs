//! What frontd holds of one running claude: its terminal, its channel's link, and the frames that
//! still have to reach it.

use proto::bridge::{FromFrontd, Meta};
use proto::ids::SessionId;

use super::turn::Pending;
use crate::terminal::drain::Terminal;

/// The connection of a channel, as its actor sees it.
#[derive(Debug, Clone)]
pub struct Link {
    /// Tells this connection from the next of the same process.
    pub number: u64,
    /// The peer's process id, from the kernel.
    pub pid: u32,
    pub frames: tokio::sync::mpsc::Sender<FromFrontd>,
}

pub struct Process {
    pub id: SessionId,
    /// `None` until spawnd has handed over the leader, and for a first-version channel.
    pub terminal: Option<Terminal>,
    pub link: Option<Link>,
}

impl Process {
    pub fn new(id: SessionId) -> Self {
        Self { id, terminal: None, link: None }
    }

    /// Hands a frame to the channel. One that is away gets what matters again when it is back.
    pub fn send(&mut self, frame: FromFrontd) {
        if let Some(link) = &self.link
            && link.frames.try_send(frame).is_err()
        {
            // It does not read; its connection ends, and a new one starts with hello.
            self.link = None;
        }
    }

    /// channel pushes a message id only once, so sending it again is safe.
    pub fn push(&mut self, pending: &Pending, ts: String) {
        let chat_id = pending.chat_id.to_string();
        let meta = Meta { chat_id, message_id: pending.message.clone(), ts };
        self.send(FromFrontd::Inbound { content: pending.content.to_string(), meta });
    }
}
