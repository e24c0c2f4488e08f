//! What can happen in a run, and how it can end. Plain values: no clock, no I/O.

use std::sync::Arc;

use proto::bridge::TokenUsage;

/// One entry of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session took the message: claude is ready for it and it was pushed.
    Pushed,
    /// One reply, whole. The reader separates replies, not the log.
    Text(Arc<str>),
    /// Tokens of the turn so far.
    Usage(TokenUsage),
    /// The last event.
    Finished(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The one final answer was given.
    Completed,
    /// Somebody asked for the end.
    Aborted,
    /// Nothing more will come, and why.
    Failed(Failure),
}

/// Why a run ended without its answer, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: Arc<str>,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What the client can do about it; `http::error` maps each to its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Every process slot was busy for longer than the wait.
    NoSlot,
    /// Starting needs something that a retry cannot mend; `code` says what.
    CannotStart(&'static str),
    /// The workspace is outside what policy allows.
    WorkspaceNotAllowed,
    /// The workspace is missing, no directory, or somebody else's.
    WorkspaceUnusable,
    /// claude did not start this time.
    StartFailed,
    /// claude or its channel ended during the turn.
    ProcessEnded,
    /// The session's processes used more memory than they may, and the kernel ended them.
    OutOfMemory,
    /// The message left no trace in claude, twice.
    NotReceived,
    /// The model's service failed the turn.
    ModelError,
    /// The turn ended and its answer is not known.
    AnswerLost,
    /// The run's log is full.
    TooLong,
    /// The server is stopping.
    Stopping,
}
