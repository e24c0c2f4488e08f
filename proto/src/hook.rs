//! Hooks: the bodies as the CLI sends them ([`HookBody`], tolerant: the CLI grows fields) and the
//! events that channel makes of them ([`HookEvent`], strict: both ends are ours).

use serde::{Deserialize, Serialize};

use crate::ids::MessageId;

/// The hooks that we install, by the CLI's names.
pub const INSTALLED: [&str; 7] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "Stop",
    "StopFailure",
];

/// One hook body, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "hook_event_name")]
pub enum HookBody {
    SessionStart {},
    UserPromptSubmit {
        prompt: String,
        prompt_id: Option<String>,
        transcript_path: Option<String>,
    },
    PreToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
    },
    PostToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
    },
    PermissionRequest {
        tool_name: String,
    },
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
    #[serde(other)]
    Other,
}

/// What frontd hears of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HookEvent {
    /// Hooks work.
    SessionStart {},
    /// A turn began; `message_id` when it is one of our messages.
    UserPromptSubmit {
        message_id: Option<MessageId>,
    },
    PreToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
    },
    PostToolUse {
        tool_name: String,
        tool_use_id: Option<String>,
    },
    /// Denied at once: nobody can answer.
    PermissionRequest {
        tool_name: String,
    },
    /// The turn ended; `message_id` is the message that began it, where the CLI's `prompt_id` of
    /// both hooks tells: the late end of an earlier turn must not end the next.
    Stop {
        message_id: Option<MessageId>,
        last_assistant_message: String,
    },
    /// The turn ended with an error of the model's service; `message_id` as in `Stop`.
    StopFailure {
        message_id: Option<MessageId>,
        error: String,
    },
}
