//! What the voice is told, what it asks for, and what claude reads of it.

use proto::bridge::{FileRef, FromFrontd, Meta, ReplyRefusal, TokenUsage};
use proto::hook::HookBody;
use proto::ids::{ConversationId, MessageId, Secret, SessionId};

use crate::fetches::{Message, Piece};

/// The tokens of a turn and the message that began it.
pub(crate) type TurnUsage = (MessageId, TokenUsage);

/// One call of the reply tool.
pub(crate) type CallId = u64;

pub(crate) enum Input {
    /// A connection to frontd is up; nothing was said on it yet. `idle`: the CLI's state file says
    /// so since the last push.
    Connected {
        idle: bool,
    },
    Disconnected,
    Frame(FromFrontd),
    /// claude called the reply tool. `usage` is the turn's, read when a final reply came.
    Reply {
        call: CallId,
        reply: Reply,
        usage: Option<TurnUsage>,
    },
    /// A hook ran. `usage` is the turn's, read when it ended.
    Hook {
        body: HookBody,
        usage: Option<TurnUsage>,
    },
    /// The debug log proves that the CLI listens.
    Registered,
    /// It never will.
    Skipped {
        reason: String,
    },
    /// The transcript was asked for a message.
    Searched {
        message: MessageId,
        found: bool,
    },
    /// The whole conversation was asked for a message that is to be pushed.
    Sought {
        message: Message,
        found: bool,
    },
    /// A piece of a file was to be kept.
    Kept {
        length: usize,
        last: bool,
        kept: bool,
    },
    /// All tokens of a turn that has ended.
    Counted {
        message_id: MessageId,
        usage: TokenUsage,
    },
    /// The CLI's state file says idle.
    Idle,
    /// The time that [`Voice::deadline`] named has come.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) last: bool,
    pub(crate) message_id: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this frame on the connection.
    Send(String),
    /// End the connection; the next one may do better.
    HangUp(&'static str),
    /// Write this piece down and tell how that went.
    Keep(Piece),
    /// The message's files are worth nothing any more.
    Discard(MessageId),
    /// Look for this message in all of the conversation, and tell.
    Seek(Message),
    /// Show this message to claude. `alone`: no earlier one lacks its receipt.
    Push {
        content: String,
        meta: Meta,
        files: Vec<FileRef>,
        alone: bool,
    },
    /// The turn of this message, or an unknown one, has ended: count its tokens.
    Count(Option<MessageId>),
    Answer {
        call: CallId,
        answer: Answer,
    },
    /// Tell spawnd that the session is ready.
    Announce,
    /// Look for this message in the transcript.
    Search(MessageId),
    /// Watch the CLI's state file until it says idle.
    WatchIdle,
    /// Nobody waits for idle any more.
    StopWatching,
    /// For the log.
    Note(&'static str),
}

/// What claude hears of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Sent,
    Queued,
    Failed(&'static str),
}

/// Who says hello.
pub(crate) struct Identity {
    pub(crate) session: SessionId,
    pub(crate) conversation: ConversationId,
    pub(crate) token: Secret,
    pub(crate) pid: u32,
}

pub(super) const TOO_LONG: &str = "Not delivered: the text is too long for one reply. Send it in several \
                        calls of at most 100,000 characters, final=false on all but the last.";
pub(super) const NOT_AN_ID: &str = "Not delivered: message_id is malformed. Pass the message_id attribute of \
                         the channel tag as it stands.";
pub(super) const FULL: &str =
    "Not delivered: the service is away and too much waits for it. Try again later.";

/// Why frontd did not take a reply, for claude.
pub(super) fn refused(refusal: ReplyRefusal) -> &'static str {
    match refusal {
        ReplyRefusal::Closed => {
            "Not delivered: no message waits for an answer, or its final answer was given already. \
             Do not send it again."
        }
        ReplyRefusal::Foreign => {
            "Not delivered: message_id is not that of the message which waits for an answer. Pass \
             the message_id attribute of the latest channel tag."
        }
        ReplyRefusal::Unnamed => {
            "Not delivered: pass the message_id attribute of the channel tag that you answer, so \
             that the answer cannot go to another message."
        }
    }
}
