//! frontd ⇄ channel: WebSocket text frames of JSON, each at most
//! [`limits::BRIDGE_FRAME`](crate::limits::BRIDGE_FRAME) bytes, on a Unix socket.
//!
//! channel says `hello` first. Its events carry a `seq` and are sent again until `ack`ed; frontd
//! drops what it has seen. [`v1`] is the first version of this protocol.

use serde::{Deserialize, Serialize};

use crate::hook::HookEvent;
use crate::ids::{ConversationId, FileId, MessageId, Secret, Seq, SessionId};

pub const VERSION: u32 = 3;

/// Close codes of frontd, in the private range of RFC 6455.
pub mod close {
    /// The first frame is not a `hello`, or a later one breaks the protocol.
    pub const BROKEN: u16 = 4001;
    /// Another protocol version.
    pub const VERSION: u16 = 4002;
    /// Wrong secret, uid or session.
    pub const REFUSED: u16 = 4003;
    /// The session has a connection that answers pings.
    pub const IN_USE: u16 = 4004;
    /// Silent for too long.
    pub const SILENT: u16 = 4005;
}

/// What channel sends.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromChannel {
    Hello(Hello),
    /// The debug log proves that the CLI listens to the channel.
    Registered {},
    /// The CLI refuses the channel, or its hooks are off; nothing will change that.
    Skipped {
        reason: String,
    },
    /// Kept and repeated until acknowledged.
    Event {
        seq: Seq,
        event: Event,
    },
    /// Send a piece of this file of a message, from this byte on.
    FileGet {
        id: FileId,
        offset: u64,
    },
    Pong {},
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    pub version: u32,
    pub openclaw_session: SessionId,
    pub claude_session: ConversationId,
    /// channel's own process id.
    pub pid: u32,
    pub token: Secret,
    pub state: ChannelState,
    /// The last message that this channel pushed to claude.
    pub last_message_id: Option<MessageId>,
    /// The CLI's own state file says idle, and has said so since the last push. Version 2 lacks it:
    /// its hello must be readable to be refused for its version.
    #[serde(default)]
    pub idle: bool,
}

/// Where channel stands with the CLI when it says hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    Starting,
    Registered,
    Skipped,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// claude has the message: a hook or a reply of its turn was seen, or its transcript has it.
    Received {
        message_id: MessageId,
    },
    /// No sign of the message within
    /// [`limits::RECEIPT_WITHIN`](crate::limits::RECEIPT_WITHIN), and the transcript lacks it.
    Missed {
        message_id: MessageId,
    },
    /// The reply tool was called.
    Reply {
        content: String,
        r#final: bool,
        message_id: Option<MessageId>,
    },
    Hook(HookEvent),
    /// The CLI's own state file says idle, after `await_idle` asked for it.
    Idle {},
    /// Tokens of a turn, from the transcript.
    Usage {
        /// The message that began the turn.
        message_id: MessageId,
        usage: TokenUsage,
        /// `false`: what the transcript tells so far; comes before the event that ends the turn.
        /// `true`: all of the turn; comes once, after it ended, and maybe never.
        exact: bool,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenUsage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_input_tokens: u64,
    pub cache_creation_input_tokens: u64,
}

/// What frontd sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromFrontd {
    /// `received` is the last seq that frontd holds; channel forgets up to it.
    HelloAck {
        version: u32,
        received: Seq,
    },
    /// Push this message to claude, once, now; first fetch its files.
    Inbound {
        content: String,
        meta: Meta,
        /// At most [`limits::FILES`](crate::limits::FILES).
        files: Vec<FileRef>,
    },
    /// A piece of a file, from byte `offset` on: the answer to `file_get`.
    File {
        id: FileId,
        offset: u64,
        /// Base64 (RFC 4648, padded) of at most
        /// [`limits::FILE_CHUNK`](crate::limits::FILE_CHUNK) bytes; none of them only at the end.
        data: String,
        /// The file ends with this piece.
        last: bool,
    },
    /// There is no such file, or no more.
    NoFile {
        id: FileId,
    },
    /// Event `seq` is held. `refused` is the verdict on a reply.
    Ack {
        seq: Seq,
        refused: Option<ReplyRefusal>,
    },
    /// Watch the CLI's state file and send `idle` when it says so.
    AwaitIdle {},
    Ping {},
}

/// A file of a message. What it is called comes from a client and is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    pub id: FileId,
    pub name: String,
    pub media_type: String,
    /// At most [`limits::FILE_BYTES`](crate::limits::FILE_BYTES).
    pub bytes: u64,
}

/// Attributes of the message's tag, as claude sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub chat_id: String,
    pub message_id: MessageId,
    /// RFC 3339, UTC.
    pub ts: String,
}

/// Why a reply went nowhere; the tool call fails with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyRefusal {
    /// No turn is open, or its final answer was given already.
    Closed,
    /// The message id is not that of the open turn.
    Foreign,
    /// No message id, and it is not the process's first turn: the reply may be a late one.
    Unnamed,
}

/// The first version: WebSocket on loopback TCP, no version, no secret, no acknowledgement.
pub mod v1 {
    use serde::{Deserialize, Serialize};

    /// Unknown fields are tolerated: the first version never said that it had none.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    pub enum FromChannel {
        Hello {
            openclaw_session: String,
            claude_session: Option<String>,
            pid: u32,
        },
        Reply {
            content: String,
            #[serde(default = "yes")]
            r#final: bool,
        },
        Pong {},
    }

    fn yes() -> bool {
        true
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    pub enum FromFrontd {
        Inbound { content: String, meta: super::Meta },
        Ping {},
    }
}
