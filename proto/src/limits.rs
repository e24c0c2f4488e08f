//! Every cap of the wire, each with its reason. Units are in the names or the docs.

use std::time::Duration;

/// Bytes of one packet between frontd and spawnd: room for a page of `list`, and for a spawn
/// request with [`INSTRUCTIONS_JSON`]. Far under the socket's 208 KiB buffer.
pub const SPAWN_PACKET: usize = 64 * 1024;

/// Bytes of text that a session may be started with: about 12,000 tokens, which every request to
/// the model then repeats.
pub const INSTRUCTIONS: usize = 48 * 1024;

/// Bytes of the same as a JSON string, quotes included. The rest of a spawn request is under 10 KiB
/// (one path of [`PATH`] bytes that may double when escaped, a grant, and names), so that the whole always
/// fits into [`SPAWN_PACKET`].
pub const INSTRUCTIONS_JSON: usize = SPAWN_PACKET - 10 * 1024;

/// Bytes of one frame on the bridge: a message of [`MESSAGE_TEXT`] bytes may double when escaped.
pub const BRIDGE_FRAME: usize = 1024 * 1024;

/// Bytes of text in one message to claude or one reply from it. A 200,000-token context is
/// about 800 KB of text; half of it in one message is already more than a conversation survives.
pub const MESSAGE_TEXT: usize = 512 * 1024;

/// Bytes of one hook body that the hook process reads; a longer one is cut and marked so.
pub const HOOK_BODY: usize = 1024 * 1024;

/// Bytes of a tool's input or output, or of a piece of displayed text, in one hook's event. As much
/// as a person reads of it; escaped it may take six times that, still well within a frame.
pub const HOOK_TEXT: usize = 64 * 1024;

/// Files of one message: twice what people attach, and each becomes three attributes of its tag.
pub const FILES: usize = 8;

/// Bytes of one file of a message: what the model's service takes of a picture or PDF is less.
pub const FILE_BYTES: u64 = 20 * 1024 * 1024;

/// Bytes of a file in one frame: in base64 two thirds of [`BRIDGE_FRAME`], so that the rest of the
/// frame fits, and a ping is never behind more than one.
pub const FILE_CHUNK: usize = 512 * 1024;

/// Bytes of a file's name: NAME_MAX of Linux.
pub const FILE_NAME: usize = 255;

/// Bytes of a media type: RFC 6838 gives type and subtype 127 each.
pub const MEDIA_TYPE: usize = 255;

/// Frames that channel keeps until frontd acknowledges them; with [`OUTBOX_BYTES`] the bound on
/// its memory while frontd is away.
pub const OUTBOX_FRAMES: usize = 4096;

/// Bytes that channel keeps until frontd acknowledges them.
pub const OUTBOX_BYTES: usize = 16 * 1024 * 1024;

/// Sessions in one answer to `list`: 100 entries of at most 600 bytes fit in one packet.
pub const LIST_PAGE: usize = 100;

/// Exits that spawnd keeps until `forget`.
pub const KEPT_EXITS: usize = 1000;

/// Bytes of a path in a request: PATH_MAX of Linux.
pub const PATH: usize = 4096;

/// How long a grant of spawnd's is good for: a run whose client has left may still wait for its
/// process. What a frontd that was taken over can still do for others ends with it, too.
pub const GRANT: Duration = Duration::from_secs(15 * 60);

/// How long a fresh connection may stay without a `hello`.
pub const HELLO_WITHIN: Duration = Duration::from_secs(1);

/// frontd pings each channel this often, and closes one that was silent for [`SILENCE`].
pub const PING_EVERY: Duration = Duration::from_secs(30);

/// A bridge connection that said nothing for this long is closed.
pub const SILENCE: Duration = Duration::from_secs(60);

/// A pushed message without a receipt is looked for in the transcript after this long.
pub const RECEIPT_WITHIN: Duration = Duration::from_secs(15);

/// The reply tool waits this long for frontd's verdict before it answers "queued".
pub const VERDICT_WITHIN: Duration = Duration::from_secs(2);

/// The CLI writes a turn's last message into its transcript 100 to 250 ms after it was said; a
/// turn's exact tokens are looked for this long after its end.
pub const USAGE_WITHIN: Duration = Duration::from_millis(500);
