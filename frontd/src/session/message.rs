//! What other tasks tell a session's actor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proto::ids::{AbsolutePath, ModelName, SessionId};
use proto::spawn::{ExitCause, RefusalCode};
use tokio::sync::oneshot;

use super::machine::Input;
use super::pool::Slot;
use super::process::Link;
use crate::run::Run;
use crate::spawner::Started;

pub enum Message {
    Submit(Submission),
    Input(Input),
    Slot(Option<Slot>),
    Spawned {
        process: SessionId,
        result: Result<Started, (RefusalCode, String)>,
    },
    /// A process of an earlier frontd is alive: its pty leader. If it is registered, spawnd's
    /// `ready` came before.
    Adopted {
        process: SessionId,
        leader: OwnedFd,
    },
    Exited {
        process: SessionId,
        cause: ExitCause,
    },
    Connected {
        process: SessionId,
        link: Link,
    },
    Disconnected {
        process: SessionId,
        number: u64,
    },
    /// A first-version channel wants this session; the answer says whether it has it.
    Attach {
        process: SessionId,
        link: Link,
        taken: oneshot::Sender<bool>,
    },
    /// The server stops and with it every session: every run ends now.
    Shutdown,
    /// Only frontd stops. Runs and processes go on; the next frontd takes them over.
    Leave,
}

/// One message of a person, for the queue.
pub struct Submission {
    pub run: Arc<Run>,
    pub content: Arc<str>,
    pub chat_id: Arc<str>,
    /// Where a new conversation shall live; an old one must live there already.
    pub workspace: Option<AbsolutePath>,
    /// For the next process, if there is none; a change takes effect then.
    pub model: Option<ModelName>,
    pub taken: oneshot::Sender<Result<(), NotTaken>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum NotTaken {
    QueueFull,
    /// The conversation lives elsewhere.
    OtherWorkspace(AbsolutePath),
    Store,
}
