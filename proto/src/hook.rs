//! Hooks: the bodies as the CLI sends them ([`HookBody`], tolerant: the CLI grows fields) and the
//! events that channel makes of them ([`HookEvent`], strict: both ends are ours).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::MessageId;
use crate::limits::HOOK_TEXT;

/// The hooks that we install, by the CLI's names.
pub const INSTALLED: [&str; 11] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "MessageDisplay",
    "PreCompact",
    "PostCompact",
    "Stop",
    "StopFailure",
];

/// A text of at most [`HOOK_TEXT`] bytes, and whether it is only the beginning of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    pub text: String,
    pub cut: bool,
}

impl Excerpt {
    /// As much of `text` as there is room for, cut between characters.
    pub fn of(text: impl Into<String>) -> Self {
        let mut text = text.into();
        let cut = text.len() > HOOK_TEXT;
        if cut {
            text.truncate(text.floor_char_boundary(HOOK_TEXT));
        }
        Self { text, cut }
    }
}

/// One hook body, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub enum HookBody {
    SessionStart {},
    UserPromptSubmit {
        prompt: String,
        prompt_id: Option<String>,
        transcript_path: Option<String>,
    },
    /// `input` is JSON as the CLI wrote it, empty if there is none.
    PreToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
        input: Excerpt,
    },
    /// `PostToolUse` and, with `failed`, `PostToolUseFailure`.
    PostToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
        /// JSON, empty if there is none.
        output: Excerpt,
        failed: bool,
        duration_ms: Option<u64>,
    },
    PermissionRequest {
        tool_name: String,
        input: Excerpt,
        /// The MCP server that the tool is of.
        server: Option<String>,
    },
    /// A piece of text that claude displays.
    MessageDisplay {
        prompt_id: Option<String>,
        message_id: String,
        index: u64,
        delta: Excerpt,
        last: bool,
    },
    PreCompact {},
    PostCompact {},
    Stop {
        last_assistant_message: Option<String>,
        prompt_id: Option<String>,
        transcript_path: Option<String>,
    },
    StopFailure {
        error: Option<serde_json::Value>,
        /// What the terminal shows of it, for example `API Error: 400 …`.
        last_assistant_message: Option<String>,
        prompt_id: Option<String>,
        transcript_path: Option<String>,
    },
    /// A hook that we do not install, or a newer CLI's.
    Other,
}

/// Every field that any of the hooks has.
#[derive(Deserialize)]
struct Fields {
    hook_event_name: String,
    prompt: Option<String>,
    prompt_id: Option<String>,
    transcript_path: Option<String>,
    tool_name: Option<String>,
    tool_use_id: Option<String>,
    tool_input: Option<Box<RawValue>>,
    tool_response: Option<Box<RawValue>>,
    duration_ms: Option<u64>,
    mcp_server: Option<McpServer>,
    message_id: Option<String>,
    index: Option<u64>,
    delta: Option<String>,
    r#final: Option<bool>,
    last_assistant_message: Option<String>,
    error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct McpServer {
    name: String,
}

impl TryFrom<Fields> for HookBody {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let json = |raw: Option<Box<RawValue>>| {
            Excerpt::of(raw.map_or_else(String::new, |raw| String::from(Box::<str>::from(raw))))
        };
        let read = || {
            Some(match fields.hook_event_name.as_str() {
                "SessionStart" => Self::SessionStart {},
                "UserPromptSubmit" => Self::UserPromptSubmit {
                    prompt: fields.prompt?,
                    prompt_id: fields.prompt_id,
                    transcript_path: fields.transcript_path,
                },
                "PreToolUse" => Self::PreToolUse {
                    tool_name: fields.tool_name?,
                    tool_use_id: fields.tool_use_id,
                    input: json(fields.tool_input),
                },
                name @ ("PostToolUse" | "PostToolUseFailure") => Self::PostToolUse {
                    tool_name: fields.tool_name?,
                    tool_use_id: fields.tool_use_id,
                    output: json(fields.tool_response.or(fields.error)),
                    failed: name == "PostToolUseFailure",
                    duration_ms: fields.duration_ms,
                },
                "PermissionRequest" => Self::PermissionRequest {
                    tool_name: fields.tool_name?,
                    input: json(fields.tool_input),
                    server: fields.mcp_server.map(|server| server.name),
                },
                "MessageDisplay" => Self::MessageDisplay {
                    prompt_id: fields.prompt_id,
                    message_id: fields.message_id?,
                    index: fields.index.unwrap_or(0),
                    delta: Excerpt::of(fields.delta?),
                    last: fields.r#final.unwrap_or(false),
                },
                "PreCompact" => Self::PreCompact {},
                "PostCompact" => Self::PostCompact {},
                "Stop" => Self::Stop {
                    last_assistant_message: fields.last_assistant_message,
                    prompt_id: fields.prompt_id,
                    transcript_path: fields.transcript_path,
                },
                "StopFailure" => Self::StopFailure {
                    error: fields.error.and_then(|raw| serde_json::from_str(raw.get()).ok()),
                    last_assistant_message: fields.last_assistant_message,
                    prompt_id: fields.prompt_id,
                    transcript_path: fields.transcript_path,
                },
                _ => Self::Other,
            })
        };
        read().ok_or("a field is missing")
    }
}

/// What frontd hears of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HookEvent {
    /// Hooks work.
    SessionStart {},
    /// A turn began; `message_id` when it is one of our messages.
    UserPromptSubmit { message_id: Option<MessageId> },
    /// claude calls a tool. `input` is JSON unless it was cut; empty if the CLI did not tell it.
    PreToolUse { tool_name: String, tool_use_id: Option<String>, input: Excerpt },
    /// The tool has ended. `output` as `input`.
    PostToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
        output: Excerpt,
        is_error: bool,
        duration_ms: Option<u64>,
    },
    /// claude asked whether it may use a tool, and was answered at once: nobody can be asked.
    /// `reason` is what claude was told, or why it is allowed. `tool_use_id` is that of the
    /// `PreToolUse` it belongs to, as far as name and input tell: the CLI does not. A tool that was
    /// denied has no `PostToolUse`.
    PermissionRequest {
        tool_name: String,
        tool_use_id: Option<String>,
        input: Excerpt,
        allowed: bool,
        reason: String,
    },
    /// A piece of the text that claude displays outside of its replies. `message_id` is the
    /// CLI's own name of it, `index` counts its pieces from 0. Pieces may come late, even after
    /// the turn's end, and in another order; `turn` is the message that began theirs, where known.
    MessageDisplay {
        turn: Option<MessageId>,
        message_id: String,
        index: u64,
        delta: Excerpt,
        r#final: bool,
    },
    /// claude begins to condense its context …
    Compacting {},
    /// … and has done so.
    Compacted {},
    /// The turn ended; `message_id` is the message that began it, where the CLI's `prompt_id` of
    /// both hooks tells: the late end of an earlier turn must not end the next.
    Stop { message_id: Option<MessageId>, last_assistant_message: String },
    /// The turn ended with an error of the model's service; `message_id` as in `Stop`.
    StopFailure { message_id: Option<MessageId>, error: String },
}
