//! What is written and what is read back, as plain values.

use std::sync::Arc;

use bytes::Bytes;
use proto::bridge::TokenUsage;
use proto::ids::{AbsolutePath, ConversationId, Seq, SessionId, UnixUser};

use super::{Conversation, StoreError};
use crate::identity::SessionKey;
use crate::run::{Logged, Outcome, RunId};

/// One thing to keep. What names a run that the store does not have is passed over: the run was
/// forgotten, or its beginning could not be stored.
#[derive(Debug)]
pub enum Change {
    Begin(Box<NewRun>),
    /// Must be the run's next event. Passed over when the run is over.
    Append {
        run: RunId,
        logged: Arc<Logged>,
    },
    /// What a restart needs to go on with the run: replaces what Begin said. `None` keeps it.
    Progress {
        run: RunId,
        pushed: bool,
        prompt: Option<String>,
    },
    /// The run is over: outcome for lists; prompt and files go.
    End {
        run: RunId,
        outcome: Outcome,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// Exact tokens, also after the end.
    Usage {
        run: RunId,
        usage: TokenUsage,
    },
    /// Inserted, or in place of the key's former one; what that one has seen is forgotten if the
    /// conversation is another.
    Conversation(Conversation),
    /// Appended to the conversation's list, which keeps the latest [`super::SEEN`].
    Seen {
        key: SessionKey,
        hashes: Vec<u64>,
    },
    /// Conversation, runs, events and files.
    ForgetSession(SessionKey),
    ProcessUp(ProcessRow),
    ProcessSeq {
        process: SessionId,
        seq: Seq,
    },
    ProcessGone(SessionId),
}

#[derive(Debug, Clone)]
pub struct NewRun {
    pub id: RunId,
    pub key: SessionKey,
    pub model: String,
    /// Milliseconds since 1970.
    pub created: u64,
    pub idempotency: Option<Idempotency>,
    /// The client's own id of the message.
    pub client_message: Option<String>,
    /// What is pushed to claude.
    pub prompt: String,
    pub files: Vec<StoredFile>,
}

/// The client's key, unique within a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// Of the request.
    pub fingerprint: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub name: String,
    pub media_type: String,
    pub data: Bytes,
}

/// A process that a restart may find again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    pub id: SessionId,
    pub key: SessionKey,
    pub conversation: ConversationId,
    pub uid: u32,
    pub secret_hash: [u8; 32],
    /// Of the bridge's events.
    pub last_seq: Seq,
    /// Milliseconds since 1970.
    pub started: u64,
}

/// Changes that are committed together or not at all.
pub struct Batch {
    pub changes: Vec<Change>,
    pub done: Option<Done>,
}

/// Called on the writer's thread after the commit, in the order of the batches; must not block.
/// An `Err` says that nothing of the batch is stored.
pub type Done = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub id: RunId,
    /// Later runs have greater numbers.
    pub number: u64,
    pub key: SessionKey,
    pub model: String,
    /// Milliseconds since 1970.
    pub created: u64,
    /// Milliseconds since 1970; `None` while the run is under way.
    pub finished: Option<u64>,
    pub outcome: Option<Outcome>,
    /// The first event that is kept.
    pub first_seq: u64,
    /// 0 before the first event.
    pub last_seq: u64,
    /// Of all its events, also those that are no longer kept.
    pub bytes: u64,
    pub pushed: bool,
    /// `None` once the run is over.
    pub prompt: Option<String>,
    pub client_message: Option<String>,
    pub usage: Option<TokenUsage>,
    /// Events after `last_seq` happened and could not be stored.
    pub incomplete: bool,
}

/// A stretch of a run's events.
#[derive(Debug, Clone)]
pub struct Page {
    pub events: Vec<Logged>,
    /// The first event that is kept; what a reader wants before it is gone.
    pub first_seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub key: SessionKey,
    pub conversation: ConversationId,
    pub workspace: AbsolutePath,
    pub user: UnixUser,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub last_used: u64,
}
