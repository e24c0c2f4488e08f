//! What frontd holds of one running claude: its terminal, its channel's link, and the frames that
//! still have to reach it.

use std::path::Path;
use std::time::Duration;

use proto::bridge::{FromFrontd, Meta};
use proto::ids::SessionId;

use super::turn::Pending;
use crate::terminal::drain::Terminal;

/// A channel whose process lives has this long to come back: its longest backoff and some.
const RECONNECT_WITHIN: Duration = Duration::from_secs(8);
/// How often a lost channel's process is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The exit of claude itself explains more than that of its channel: it gets a head start.
const EXIT_FIRST: Duration = Duration::from_millis(300);

/// The connection of a channel, as its actor sees it.
#[derive(Debug, Clone)]
pub struct Link {
    /// Tells this connection from the next of the same process.
    pub number: u64,
    /// The peer's process id, from the kernel.
    pub pid: u32,
    pub frames: tokio::sync::mpsc::Sender<FromFrontd>,
}

impl Link {
    /// Returns when the channel's process is gone (and claude's own exit had its chance), or when
    /// it had the time to come back.
    pub async fn await_death(&self) {
        let entry = format!("/proc/{}", self.pid);
        let end = tokio::time::Instant::now() + RECONNECT_WITHIN;
        while tokio::time::Instant::now() < end {
            if !Path::new(&entry).exists() {
                tokio::time::sleep(EXIT_FIRST).await;
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
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
        if let Some(link) = &mut self.link
            && link.frames.try_send(frame).is_err()
        {
            // It does not read: without a sender its connection ends, and a new one starts with
            // hello. The link itself stays until that end is told, or nobody would look whether
            // the channel lives.
            link.frames = tokio::sync::mpsc::channel(1).0;
        }
    }

    /// channel pushes a message id only once, so sending it again is safe.
    pub fn push(&mut self, pending: &Pending) {
        let chat_id = pending.chat_id.to_string();
        let ts = timestamp();
        let meta = Meta { chat_id, message_id: pending.message.clone(), ts };
        let (content, files) = (pending.content.to_string(), Vec::new());
        self.send(FromFrontd::Inbound { content, meta, files });
    }
}

/// Now, as RFC 3339 in UTC.
fn timestamp() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_takes_nothing_is_closed_and_still_known() {
        let (frames, mut outgoing) = tokio::sync::mpsc::channel(1);
        let mut process = Process::new(SessionId::random());
        process.link = Some(Link { number: 7, pid: 1, frames });
        for _ in 0..3 {
            process.send(FromFrontd::Ping {});
        }
        assert!(outgoing.try_recv().is_ok());
        let end = outgoing.try_recv();
        assert_eq!(end, Err(tokio::sync::mpsc::error::TryRecvError::Disconnected));
        assert_eq!(process.link.map(|link| link.number), Some(7));
    }
}
