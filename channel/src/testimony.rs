//! What a hook's body says, read so that nothing that matters is lost: a body that is broken or
//! was cut still tells its event by the argument of `channel hook`. No I/O.

use proto::hook::{Excerpt, HookBody};
use proto::limits;

/// Bytes of an error that frontd hears of.
const ERROR_TEXT: usize = 4096;
/// Bytes of a tool's name or id that frontd hears of.
const NAME: usize = 256;

/// One hook, as `channel hook EVENT` handed it over.
pub(crate) struct Handed {
    pub(crate) event: String,
    /// The body was longer than [`proto::limits::HOOK_BODY`], or its sender stopped midway.
    pub(crate) cut: bool,
    pub(crate) body: Vec<u8>,
}

/// Reads a body. `None`: it says nothing that anybody needs.
pub(crate) fn read(handed: Handed) -> Option<HookBody> {
    if !handed.cut
        && let Ok(body) = serde_json::from_slice::<HookBody>(&handed.body)
    {
        return (body != HookBody::Other).then_some(body);
    }
    let broken = match handed.event.as_str() {
        "Stop" => {
            HookBody::Stop { last_assistant_message: None, prompt_id: None, transcript_path: None }
        }
        "StopFailure" => HookBody::StopFailure {
            error: None,
            last_assistant_message: None,
            prompt_id: None,
            transcript_path: None,
        },
        // The tag stands at the start of the prompt: it is there although the end is not.
        "UserPromptSubmit" => HookBody::UserPromptSubmit {
            prompt: String::from_utf8_lossy(&handed.body).into_owned(),
            prompt_id: None,
            transcript_path: None,
        },
        "SessionStart" => HookBody::SessionStart {},
        "PreToolUse" => HookBody::PreToolUse {
            tool_name: unknown(),
            tool_use_id: None,
            input: Excerpt::default(),
        },
        name @ ("PostToolUse" | "PostToolUseFailure") => HookBody::PostToolUse {
            tool_name: unknown(),
            tool_use_id: None,
            output: Excerpt::default(),
            failed: name == "PostToolUseFailure",
            duration_ms: None,
        },
        "PermissionRequest" => HookBody::PermissionRequest {
            tool_name: unknown(),
            input: Excerpt::default(),
            server: None,
        },
        "PreCompact" => HookBody::PreCompact {},
        "PostCompact" => HookBody::PostCompact {},
        _ => return None,
    };
    Some(broken)
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The transcript that the body names.
pub(crate) fn transcript(body: &HookBody) -> Option<&str> {
    match body {
        HookBody::UserPromptSubmit { transcript_path, .. }
        | HookBody::Stop { transcript_path, .. }
        | HookBody::StopFailure { transcript_path, .. } => transcript_path.as_deref(),
        HookBody::SessionStart {}
        | HookBody::PreToolUse { .. }
        | HookBody::PostToolUse { .. }
        | HookBody::PermissionRequest { .. }
        | HookBody::MessageDisplay { .. }
        | HookBody::PreCompact {}
        | HookBody::PostCompact {}
        | HookBody::Other => None,
    }
}

/// The error of a turn for people: what the terminal shows, else what the CLI calls it.
pub(crate) fn error_text(error: Option<serde_json::Value>, shown: Option<String>) -> String {
    let called = match error {
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let text = shown.filter(|text| !text.trim().is_empty()).unwrap_or(called);
    if text.is_empty() { "the turn failed".to_owned() } else { shorten(text, ERROR_TEXT) }
}

pub(crate) fn name(text: String) -> String {
    shorten(text, NAME)
}

/// At most `bytes` of `text`, cut between characters.
pub(crate) fn shorten(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let cut = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

pub(crate) fn names(tool_name: String, tool_use_id: Option<String>) -> (String, Option<String>) {
    (name(tool_name), tool_use_id.map(name))
}

/// As much of `text` as one message may have and one frame can hold: an escaped character may take
/// six bytes of a frame, and an end of a turn must never be too long to be told.
pub(crate) fn fitting(text: String) -> String {
    let text = shorten(text, limits::MESSAGE_TEXT);
    let escaped = serde_json::to_string(&text).map_or(usize::MAX, |json| json.len());
    if escaped + 1024 <= limits::BRIDGE_FRAME {
        text
    } else {
        shorten(text, limits::MESSAGE_TEXT / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(event: &str, cut: bool, body: &str) -> Option<HookBody> {
        read(Handed { event: event.to_owned(), cut, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn a_broken_stop_still_ends_the_turn() {
        for body in
            ["", "{", "null", "[]", "\"Stop\"", "{\"hook_event_name\":\"Stop\",\"prompt_id\":1}"]
        {
            assert!(matches!(handed("Stop", false, body), Some(HookBody::Stop { .. })), "{body}");
        }
        assert!(matches!(handed("StopFailure", true, "{}"), Some(HookBody::StopFailure { .. })));
    }

    #[test]
    fn a_body_of_a_hook_that_we_do_not_install_is_ignored() {
        assert_eq!(handed("Notification", false, r#"{"hook_event_name":"Notification"}"#), None);
        assert_eq!(handed("Notification", false, "{"), None);
    }

    #[test]
    fn the_clis_own_bodies_are_read() {
        let body = r#"{"session_id":"s","transcript_path":"/t","cwd":"/w","prompt_id":"p","permission_mode":"default","hook_event_name":"Stop","stop_hook_active":false,"last_assistant_message":"Done.","background_tasks":[]}"#;
        let read = handed("Stop", false, body).expect("a Stop");
        assert_eq!(transcript(&read), Some("/t"));
        assert!(
            matches!(read, HookBody::Stop { last_assistant_message: Some(text), .. } if text == "Done.")
        );
    }

    #[test]
    fn the_error_that_the_terminal_shows_is_preferred() {
        let shown = || Some("API Error: 400 no".to_owned());
        assert_eq!(error_text(Some("unknown".into()), shown()), "API Error: 400 no");
        assert_eq!(error_text(Some("unknown".into()), Some(" ".to_owned())), "unknown");
        assert_eq!(error_text(Some(serde_json::json!({"a": 1})), None), r#"{"a":1}"#);
        assert_eq!(error_text(None, None), "the turn failed");
        assert_eq!(error_text(None, Some("ä".repeat(4096))).len(), 4096);
    }
}
