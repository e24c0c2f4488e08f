//! What other tasks tell a session's actor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proto::ids::{AbsolutePath, Instructions, ModelName, SessionId};
use proto::spawn::{ExitCause, RefusalCode};
use tokio::sync::oneshot;

use super::machine::Input;
use super::pool::{NoSlot, Slot};
use super::process::Link;
use crate::ask::Ask;
use crate::client::Runner;
use crate::http::visit::Asked;
use crate::run::{Keyed, Run, RunId};
use crate::spawner::Started;

pub enum Message {
    Submit(Box<Submission>),
    Input(Input),
    Slot(Result<Slot, NoSlot>),
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
    /// The beginning of this run could not be stored.
    Unstored(RunId),
    /// Every run of the session is aborted and its process ends; the conversation stays.
    Stop,
    /// The session is to be forgotten; the answer comes when it is.
    Discard(oneshot::Sender<()>),
    /// The server stops and with it every session: every run ends now.
    Shutdown,
    /// Only frontd stops. Runs and processes go on; the next frontd takes them over.
    Leave,
}

/// One message of a person, for the queue.
pub struct Submission {
    /// As whom its process runs, if one is started for it.
    pub runner: Arc<Runner>,
    pub run: Arc<Run>,
    /// The client can ask for this run again: it must not begin twice, whatever happens.
    pub keyed: Option<Keyed>,
    /// What the person says, and what the client says was said before.
    pub ask: Ask,
    /// The session is for this message alone.
    pub ephemeral: bool,
    /// The run that this one continues, if the client named it.
    pub previous: Option<RunId>,
    /// The client takes back what followed the message before.
    pub rewinds: bool,
    /// For the process that takes it, if it is started for it.
    pub instructions: Option<Instructions>,
    pub chat_id: Arc<str>,
    /// Where a new conversation shall live; an old one must live there already.
    pub workspace: Option<AbsolutePath>,
    /// For the next process, if there is none; a change takes effect then.
    pub model: Option<ModelName>,
    pub asked: Asked,
    pub taken: oneshot::Sender<Result<(), NotTaken>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum NotTaken {
    QueueFull,
    /// The conversation lives elsewhere.
    OtherWorkspace(AbsolutePath),
    /// The conversation's processes ran as another Unix user.
    OtherUser,
    /// The store cannot be read.
    Store,
    /// The store takes nothing: what would come of the run could not be kept.
    StoreFull,
}
