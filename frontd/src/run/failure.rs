//! Why a run ended without its answer. Plain values.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cause, in words for the client. Its JSON is `{"code": …, "message": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(rename = "code")]
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
    /// Likewise every one that this client may have.
    TooManyProcesses,
    /// Starting needs something that a retry cannot mend; the code, one of [`LASTING`], says what.
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
    /// The store took nothing of the run's beginning.
    StoreFull,
    /// The server is stopping.
    Stopping,
}

/// The codes of [`FailureKind::CannotStart`].
pub const LASTING: [&str; 11] = [
    "channel_gated",
    "claude_missing",
    "claude_refuses_root",
    "hooks_disabled",
    "not_allowed",
    "not_logged_in",
    "not_proved",
    "not_set_up",
    "sandbox_unavailable",
    "unknown_dialog",
    "user_not_allowed",
];

const PASSING: [FailureKind; 13] = [
    FailureKind::NoSlot,
    FailureKind::TooManyProcesses,
    FailureKind::WorkspaceNotAllowed,
    FailureKind::WorkspaceUnusable,
    FailureKind::StartFailed,
    FailureKind::ProcessEnded,
    FailureKind::OutOfMemory,
    FailureKind::NotReceived,
    FailureKind::ModelError,
    FailureKind::AnswerLost,
    FailureKind::TooLong,
    FailureKind::StoreFull,
    FailureKind::Stopping,
];

impl FailureKind {
    /// The `code` of the error object.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoSlot => "no_slot",
            Self::TooManyProcesses => "too_many_processes",
            Self::CannotStart(code) => code,
            Self::WorkspaceNotAllowed => "workspace_not_allowed",
            Self::WorkspaceUnusable => "workspace_unusable",
            Self::StartFailed => "start_failed",
            Self::ProcessEnded => "process_ended",
            Self::OutOfMemory => "out_of_memory",
            Self::NotReceived => "not_received",
            Self::ModelError => "model_error",
            Self::AnswerLost => "answer_lost",
            Self::TooLong => "answer_too_long",
            Self::StoreFull => "store_full",
            Self::Stopping => "stopping",
        }
    }

    /// A stored code of a later version counts as a lost answer: it is over, and was not given.
    pub fn of_code(code: &str) -> Self {
        let lasting = LASTING.into_iter().find(|known| *known == code).map(Self::CannotStart);
        lasting
            .or_else(|| PASSING.into_iter().find(|kind| kind.code() == code))
            .unwrap_or(Self::AnswerLost)
    }
}

impl Serialize for FailureKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for FailureKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Ok(Self::of_code(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_as_its_kind() {
        let lasting = LASTING.into_iter().map(FailureKind::CannotStart);
        for kind in lasting.chain(PASSING) {
            assert_eq!(FailureKind::of_code(kind.code()), kind);
        }
        assert_eq!(FailureKind::of_code("of tomorrow"), FailureKind::AnswerLost);
    }
}
