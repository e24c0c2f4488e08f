//! Why a request is answered with no. The peer's affair, or the user's: nothing is broken here.

use proto::ids::{AbsolutePath, ConversationId, ModelName, SessionId, TokenId, UnixUser};
use proto::spawn::{Answer, PermissionMode, RefusalCode};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("another frontd is connected")]
    InUse,
    #[error("conversation {conversation} still runs as session {session}")]
    ConversationRuns { conversation: ConversationId, session: SessionId },
    #[error("conversation {0} is held by a process that spawnd does not know")]
    ConversationLocked(ConversationId),
    #[error("session {0} was used before")]
    SessionUsed(SessionId),
    #[error("no such session: {0}")]
    NoSession(SessionId),
    #[error("policy names no user {0}")]
    User(UnixUser),
    #[error("account {user} may not run sessions: {why}")]
    Account { user: UnixUser, why: &'static str },
    #[error("group {group} of user {user} {why}")]
    Group { user: UnixUser, group: String, why: &'static str },
    #[error("not proved: {0}")]
    NotProved(&'static str),
    #[error("not proved: token {0} has expired")]
    TokenExpired(TokenId),
    #[error("look-up of account {user} {why}")]
    Lookup { user: UnixUser, why: &'static str },
    #[error("too many look-ups are under way")]
    Lookups,
    #[error("spawns come too fast")]
    Pace,
    #[error("user {user} may not use permission mode {}", mode.as_str())]
    Mode { user: UnixUser, mode: PermissionMode },
    #[error("user {user} may not use model {model}")]
    Model { user: UnixUser, model: ModelName },
    #[error("user {0} may not be given instructions")]
    Instructions(UnixUser),
    #[error("workspace {workspace} is outside the roots of user {user}: {roots}")]
    Workspace { user: UnixUser, workspace: AbsolutePath, roots: String },
    #[error("policy names no claude")]
    ClaudeNotFound,
    #[error("there was no {0} when spawnd looked: install it, then reload spawnd")]
    ClaudeMissing(AbsolutePath),
    #[error("{0} sessions run, which is the limit")]
    Full(usize),
    #[error("{limit} sessions of user {user} run, which is the limit")]
    UserFull { user: UnixUser, limit: usize },
    #[error("spawnd is ending")]
    Closing,
    #[error("audit entries cannot be written now")]
    Unrecorded,
    /// launch looked at the user's world and stopped.
    #[error("{message}")]
    Launch { code: RefusalCode, message: String },
    #[error("launch failed at {step}: {}", std::io::Error::from_raw_os_error(*errno))]
    LaunchStep { step: String, errno: i32 },
    #[error("systemd did not put the session into its scope")]
    Scope,
    #[error("launch ended without a record")]
    LaunchSilent,
    #[error("launch wrote no readable record")]
    LaunchGarbled,
    #[error("start took longer than {0} s")]
    Deadline(u64),
    #[error("{step}: {}", std::io::Error::from_raw_os_error(*errno))]
    Start { step: &'static str, errno: i32 },
}

impl Refusal {
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::InUse => RefusalCode::InUse,
            Self::ConversationRuns { .. } | Self::ConversationLocked(_) | Self::SessionUsed(_) => {
                RefusalCode::StillRunning
            }
            Self::NoSession(_) => RefusalCode::NoSession,
            Self::User(_) | Self::Account { .. } | Self::Group { .. } => {
                RefusalCode::UserNotAllowed
            }
            Self::NotProved(_) | Self::TokenExpired(_) => RefusalCode::NotProved,
            Self::Mode { .. } | Self::Model { .. } | Self::Instructions(_) => {
                RefusalCode::NotAllowed
            }
            Self::Workspace { .. } => RefusalCode::WorkspaceNotAllowed,
            Self::ClaudeNotFound | Self::ClaudeMissing(_) => RefusalCode::ClaudeMissing,
            Self::Unrecorded => RefusalCode::AuditUnavailable,
            Self::Full(_) | Self::UserFull { .. } | Self::Lookups | Self::Pace | Self::Closing => {
                RefusalCode::Busy
            }
            Self::Launch { code, .. } => *code,
            Self::Lookup { .. }
            | Self::Scope
            | Self::LaunchStep { .. }
            | Self::LaunchSilent
            | Self::LaunchGarbled
            | Self::Deadline(_)
            | Self::Start { .. } => RefusalCode::StartFailed,
        }
    }

    pub fn answer(&self) -> Answer {
        Answer::Refused { code: self.code(), message: self.to_string() }
    }
}
