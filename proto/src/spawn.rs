//! frontd ⇄ spawnd: one JSON object per SOCK_SEQPACKET packet of at most
//! [`limits::SPAWN_PACKET`](crate::limits::SPAWN_PACKET) bytes, never empty.
//!
//! Both sides say `hello` first. frontd then sends requests, each with an id that the answer
//! repeats; spawnd sends events when it has some. A refusal is an answer; a packet that does not
//! decode ends the connection.

use serde::{Deserialize, Serialize};

use crate::ids::{
    AbsolutePath, ConversationId, Grant, Instructions, ModelName, PrincipalName, Secret, SessionId,
    TokenId, TokenText, UnixUser,
};

/// Both sides must name the same version.
pub const VERSION: u32 = 4;

/// What frontd may send.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromFrontd {
    Hello { version: u32 },
    Request { id: u64, call: Call },
}

/// The privileged surface.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Who is behind a credential? Answered by [`Answer::Verified`].
    Verify { credential: Credential },
    /// Start a claude. Answered by [`Answer::Started`] with the pty leader, once it runs.
    Spawn(Box<Spawn>),
    /// Send a signal to a session's claude; [`Signal::Kill`] reaches everything it started.
    Signal { session: SessionId, signal: Signal },
    /// Sessions and kept exits in the order of their ids, those after `after`.
    List { after: Option<SessionId> },
    /// The pty leader of a live session again.
    Adopt { session: SessionId },
    /// The exit of this session was read and need not be kept.
    Forget { session: SessionId },
}

/// Everything that frontd may say about a new process. Not: a binary, an argument, a variable, a
/// group, a unit's name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    pub session: SessionId,
    pub conversation: ConversationId,
    pub user: UnixUser,
    pub proof: Proof,
    pub workspace: AbsolutePath,
    pub permission_mode: PermissionMode,
    pub model: Option<ModelName>,
    pub terminal: TerminalSize,
    /// Shall claude's hooks report to channel? Without them a turn ends at its final reply.
    pub hooks: bool,
    /// Behind the CLI's own system prompt, for as long as this process lives.
    pub instructions: Option<Instructions>,
    pub secret: Secret,
}

/// What a client proves itself with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    Token {
        token: TokenText,
    },
    /// The client's connected Unix socket comes with the packet (SCM_RIGHTS), and comes with no
    /// other packet; the kernel says whose it is.
    Peer {},
}

/// How the person behind a spawn is known. What a user's policy demands is spawnd's to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// frontd's word alone.
    None,
    /// spawnd's own, of at most [`limits::GRANT`](crate::limits::GRANT) ago.
    Grant { grant: Grant },
}

/// `--permission-mode` of the CLI, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionMode {
    #[serde(rename = "acceptEdits")]
    AcceptEdits,
    #[serde(rename = "bypassPermissions")]
    BypassPermissions,
    #[serde(rename = "dontAsk")]
    DontAsk,
    #[serde(rename = "manual")]
    Manual,
    #[serde(rename = "plan")]
    Plan,
}

impl PermissionMode {
    /// The word that the CLI takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcceptEdits => "acceptEdits",
            Self::BypassPermissions => "bypassPermissions",
            Self::DontAsk => "dontAsk",
            Self::Manual => "manual",
            Self::Plan => "plan",
        }
    }
}

/// Character cells, each side 10 to 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTerminalSize", into = "RawTerminalSize")]
pub struct TerminalSize {
    rows: u16,
    columns: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTerminalSize {
    rows: u16,
    columns: u16,
}

impl TerminalSize {
    /// # Errors
    /// When a side is under 10 or over 500: the CLI cannot draw its dialogs on less, and the
    /// screen model's memory is bounded by more.
    pub fn new(rows: u16, columns: u16) -> Result<Self, crate::ids::Invalid> {
        let side = 10..=500;
        if side.contains(&rows) && side.contains(&columns) {
            Ok(Self { rows, columns })
        } else {
            Err(crate::ids::Invalid { what: "terminal size", rule: "each side is 10 to 500" })
        }
    }

    pub fn rows(self) -> u16 {
        self.rows
    }

    pub fn columns(self) -> u16 {
        self.columns
    }
}

impl TryFrom<RawTerminalSize> for TerminalSize {
    type Error = crate::ids::Invalid;
    fn try_from(raw: RawTerminalSize) -> Result<Self, Self::Error> {
        Self::new(raw.rows, raw.columns)
    }
}

impl From<TerminalSize> for RawTerminalSize {
    fn from(size: TerminalSize) -> Self {
        Self { rows: size.rows, columns: size.columns }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Term,
    Int,
    Kill,
}

/// What spawnd may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromSpawnd {
    Hello { version: u32 },
    Answer { id: u64, answer: Answer },
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To `verify`.
    Verified { who: Who, grant: Grant },
    /// To `spawn`: claude was executed as process `pid`; the packet carries the pty leader.
    Started { session: SessionId, pid: u32, resumed: bool },
    /// To `adopt`: the packet carries the pty leader.
    Adopted { session: SessionId },
    /// To `list`.
    Sessions { sessions: Vec<Listed>, more: bool },
    /// To `signal` and `forget`.
    Done {},
    /// To any request: no, and why. Nothing was changed.
    Refused { code: RefusalCode, message: String },
}

/// Who was proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Who {
    /// The bearer of a token that the table has.
    Token { id: TokenId, principal: PrincipalName, user: UnixUser, scopes: Vec<Scope> },
    /// The user on the other end of the socket, by the kernel's word.
    Peer { uid: u32 },
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Sessions and runs of one's own.
    Chat,
    /// Everybody's sessions, without what is said in them.
    Admin,
    Metrics,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Chat, Self::Admin, Self::Metrics];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// Why spawnd said no. The message beside it is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Another frontd is connected (the connection is then closed).
    InUse,
    /// The conversation has a live process, or the session id was used before.
    StillRunning,
    /// No such session (or no longer, or not yet).
    NoSession,
    /// Policy does not name this user, or the account may not run sessions.
    UserNotAllowed,
    /// Policy does not allow this permission mode or model, or any instructions, to that user.
    NotAllowed,
    /// A credential that is none; or the user's policy demands a proof, and the one that came (or
    /// none) is not it.
    NotProved,
    /// The workspace is outside the user's roots.
    WorkspaceNotAllowed,
    /// The workspace does not exist, is no directory, is another user's, or lies on a path that
    /// others can change.
    WorkspaceUnusable,
    /// The claude executable is missing or cannot be executed.
    ClaudeMissing,
    /// A limit of policy is reached; later may do.
    Busy,
    /// `sandbox = "required"`, and the message names what the kernel lacks.
    SandboxUnavailable,
    /// `audit = "required"`, and entries cannot be written now.
    AuditUnavailable,
    /// A step of the start failed on this side; the message names it.
    StartFailed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub session: SessionId,
    pub conversation: ConversationId,
    pub user: UnixUser,
    pub state: ListedState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ListedState {
    Starting {},
    Running { pid: u32, resumed: bool, ready: Option<u32> },
    Exited { cause: ExitCause, usage: Usage },
}

/// Each is sent once per connection and stays true: `list` tells the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The process `pid`, of the session's user and below its claude, said READY=1.
    Ready { session: SessionId, pid: u32 },
    /// claude is gone and so is everything that it started.
    Exited { session: SessionId, cause: ExitCause, usage: Usage },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExitCause {
    Code { code: i32 },
    Signal { signal: i32 },
    Oom {},
    Unknown {},
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exit status {code}"),
            Self::Signal { signal } => write!(f, "signal {signal}"),
            Self::Oom {} => f.write_str("out of memory"),
            Self::Unknown {} => f.write_str("unknown cause"),
        }
    }
}

/// What the kernel counted for claude and the children it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub user_micros: u64,
    pub system_micros: u64,
    pub max_rss_kib: u64,
}

/// Why bytes are not a packet of this protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("empty packet")]
    Empty,
    #[error("packet of {0} bytes is over the limit")]
    TooLong(usize),
    #[error("packet does not decode")]
    Json(#[from] serde_json::Error),
}

/// Reads one packet, bounded before it is parsed.
///
/// # Errors
/// [`DecodeError`]; the connection must then end.
pub fn decode<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Result<T, DecodeError> {
    match packet.len() {
        0 => Err(DecodeError::Empty),
        n if n > crate::limits::SPAWN_PACKET => Err(DecodeError::TooLong(n)),
        _ => Ok(serde_json::from_slice(packet)?),
    }
}

/// One packet's bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("wire types have string keys and no failing Serialize")
}
