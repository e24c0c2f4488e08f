//! What frontd holds of one running claude: its terminal, its channel's link, and the frames that
//! still have to reach it.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use proto::bridge::{FileRef, FromFrontd, Meta};
use proto::ids::SessionId;
use tokio::sync::Notify;

use super::turn::Pending;
use crate::ask::{Said, context};
use crate::bridge::files;
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
    /// Asks the connection to close.
    pub evict: Arc<Notify>,
}

impl Link {
    /// Returns when the channel's process is gone (and claude's own exit had its chance), or when
    /// it had the time to come back.
    pub async fn await_death(&self) {
        let end = tokio::time::Instant::now() + RECONNECT_WITHIN;
        while tokio::time::Instant::now() < end {
            if !lives(self.pid) {
                tokio::time::sleep(EXIT_FIRST).await;
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Is there such a process? Asked of the kernel, not of /proc, where a confined frontd sees nobody
/// else's: another user's answers EPERM (kill(2)).
fn lives(pid: u32) -> bool {
    // 0 and what is negative name groups of processes.
    let one = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    one.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
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
            // It does not read: its connection is closed, and a new one starts with hello. The link itself stays until that end is told, or nobody would look whether
            // the channel lives.
            link.evict.notify_one();
            link.frames = tokio::sync::mpsc::channel(1).0;
        }
    }

    /// Where frames go now, if somebody listens.
    pub fn frames(&self) -> Option<&tokio::sync::mpsc::Sender<FromFrontd>> {
        self.link.as_ref().map(|link| &link.frames)
    }
}

/// The frame that gives claude a message. channel pushes a message id only once, so sending it
/// again is safe. `recall` is what claude has forgotten: it comes first, as far as there is room.
pub fn inbound(pending: &Pending, recall: &[Said]) -> FromFrontd {
    let prompt = &pending.prompt;
    let chat_id = prompt.chat_id.to_string();
    let meta = Meta { chat_id, message_id: pending.message.clone(), ts: timestamp() };
    let mut content = String::new();
    if !recall.is_empty() {
        let told = prompt.context.as_deref().map_or(0, context::json_len);
        let room = context::room(&prompt.content).unwrap_or(0).saturating_sub(told);
        content.extend([&*context::context(recall, room), "\n\n"]);
    }
    if let Some(told) = prompt.context.as_deref() {
        content.extend([told, "\n\n"]);
    }
    content.push_str(&prompt.content);
    let files = prompt.files.iter().enumerate().map(|(index, file)| FileRef {
        id: files::id(pending.run, index),
        name: file.name.to_string(),
        media_type: file.media_type.to_string(),
        bytes: file.bytes,
    });
    FromFrontd::Inbound { content, meta, files: files.collect() }
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
    fn a_process_of_another_user_lives_and_one_that_was_waited_for_does_not() {
        assert!(lives(1));
        assert!(lives(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        for gone in [pid, 0, u32::MAX] {
            assert!(!lives(gone));
        }
    }

    #[test]
    fn a_link_that_takes_nothing_is_closed_and_still_known() {
        let (frames, mut outgoing) = tokio::sync::mpsc::channel(1);
        let mut process = Process::new(SessionId::random());
        process.link = Some(Link { number: 7, pid: 1, frames, evict: Arc::default() });
        for _ in 0..3 {
            process.send(FromFrontd::Ping {});
        }
        assert!(outgoing.try_recv().is_ok());
        let end = outgoing.try_recv();
        assert_eq!(end, Err(tokio::sync::mpsc::error::TryRecvError::Disconnected));
        assert_eq!(process.link.map(|link| link.number), Some(7));
    }
}
