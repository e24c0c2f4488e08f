//! What a session says of its own turn, as the run shows it. Pure.
//!
//! Text that claude displays may turn out to be the answer (a turn without a reply is answered by
//! its last text), and what was shown cannot be taken back: the newest displayed message waits
//! until something else follows it.

use std::sync::Arc;

use proto::hook::{Excerpt, HookEvent};

use crate::ask::media::media;
use crate::run::{Event, Json, Status};

/// Bytes of displayed text that wait; more than one answer may have is shown as it comes.
const HELD: usize = proto::limits::MESSAGE_TEXT;
/// Pieces of it: channel keeps them as long as they wait.
const PIECES: usize = 256;
/// Tools of our own server: how claude talks to us is no news.
const OWN: &str = "mcp__synthesis__";

/// The newest displayed message of a turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Displayed {
    id: Arc<str>,
    pieces: Vec<Arc<str>>,
    bytes: usize,
    /// Questions for permission so far: they have no name of their own.
    asked: u32,
}

impl Displayed {
    /// What a hook adds to the run.
    pub fn hook(&mut self, hook: &HookEvent, out: &mut Vec<Event>) {
        match hook {
            HookEvent::PreToolUse { tool_name, .. }
            | HookEvent::PermissionRequest { tool_name, .. }
                if tool_name.starts_with(OWN) => {}
            HookEvent::PreToolUse { tool_name, tool_use_id, input } => {
                self.settle(out);
                let (id, name) = (name_of(tool_use_id.as_deref()), tool_name.as_str().into());
                out.push(Event::ToolInput { id, name, input: json(input) });
            }
            HookEvent::PostToolUse { tool_name, .. } if tool_name.starts_with(OWN) => {}
            HookEvent::PostToolUse { tool_use_id, output, is_error, .. } => {
                self.settle(out);
                let (id, is_error) = (name_of(tool_use_id.as_deref()), *is_error);
                out.push(Event::ToolOutput { id, output: json(output), is_error });
            }
            HookEvent::PermissionRequest { tool_name, tool_use_id, input, allowed, reason } => {
                self.settle(out);
                self.asked += 1;
                let unnamed = || format!("permission-{}", self.asked);
                let id: Arc<str> = tool_use_id.clone().unwrap_or_else(unnamed).into();
                let (name, input) = (tool_name.as_str().into(), json(input));
                out.push(Event::PermissionRequested { id: Arc::clone(&id), name, input });
                out.push(Event::Status(Status::WaitingForPermission));
                let (allowed, reason): (bool, Arc<str>) = (*allowed, reason.as_str().into());
                let output = Json::of(&serde_json::Value::from(&*reason).to_string());
                out.push(Event::PermissionResolved { id: Arc::clone(&id), allowed, reason });
                if !allowed && tool_use_id.is_some() {
                    // The CLI runs no hook at the end of a tool that it did not start.
                    out.push(Event::ToolOutput { id, output, is_error: true });
                }
                out.push(Event::Status(Status::Working));
            }
            HookEvent::MessageDisplay { message_id, delta, .. } => {
                self.piece(message_id, delta, out)
            }
            HookEvent::Compacting {} => {
                self.settle(out);
                out.push(Event::Status(Status::Compacting));
            }
            HookEvent::Compacted {} => out.push(Event::Status(Status::Working)),
            HookEvent::SessionStart {}
            | HookEvent::UserPromptSubmit { .. }
            | HookEvent::Stop { .. }
            | HookEvent::StopFailure { .. } => {}
        }
    }

    /// A reply of claude's, and the files that it names.
    pub fn reply(&mut self, text: &str, out: &mut Vec<Event>) {
        self.settle(out);
        answer(text, out);
    }

    /// The turn ended without a reply: its last text is the answer, and is not shown twice.
    pub fn last_text(&mut self, text: &str, out: &mut Vec<Event>) {
        if self.is(text) {
            self.pieces.clear();
        }
        self.settle(out);
        if !text.is_empty() {
            answer(text, out);
        }
    }

    /// What waits is no answer.
    pub fn settle(&mut self, out: &mut Vec<Event>) {
        let id = &self.id;
        let shown = self.pieces.drain(..);
        out.extend(shown.map(|delta| Event::CommentaryDelta { id: Arc::clone(id), delta }));
        self.bytes = 0;
    }

    fn piece(&mut self, message: &str, delta: &Excerpt, out: &mut Vec<Event>) {
        if *self.id != *message {
            self.settle(out);
            self.id = message.into();
        }
        if delta.text.is_empty() {
            return;
        }
        self.bytes += delta.text.len();
        self.pieces.push(delta.text.as_str().into());
        if self.bytes > HELD || self.pieces.len() > PIECES {
            self.settle(out);
        }
    }

    pub fn is_waiting(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Does what waits say the same?
    fn is(&self, text: &str) -> bool {
        let waiting = self.pieces.iter().flat_map(|piece| piece.split_whitespace());
        // Words may be cut between two pieces: compared without white space.
        waiting.flat_map(str::chars).eq(text.split_whitespace().flat_map(str::chars))
    }
}

fn answer(text: &str, out: &mut Vec<Event>) {
    out.push(Event::TextDelta { delta: text.into() });
    out.extend(
        media(text).into_iter().map(|(url, media_type)| Event::Media {
            url: url.into(),
            media_type: media_type.into(),
        }),
    );
}

fn json(excerpt: &Excerpt) -> Json {
    match (excerpt.cut, excerpt.text.as_str()) {
        (_, "") => Json::of("null"),
        (false, text) => Json::of(text),
        (true, text) => Json::of(&serde_json::Value::from(text).to_string()),
    }
}

fn name_of(tool_use_id: Option<&str>) -> Arc<str> {
    tool_use_id.unwrap_or("tool").into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::wildcard_enum_match_arm, reason = "a test picks the event it is about")]

    use super::*;

    fn shown(message_id: &str, text: &str) -> HookEvent {
        let (message_id, delta) = (message_id.to_owned(), Excerpt::of(text));
        HookEvent::MessageDisplay { turn: None, message_id, index: 0, delta, r#final: false }
    }

    fn tool(name: &str) -> HookEvent {
        let (tool_name, tool_use_id) = (name.to_owned(), Some("t".to_owned()));
        HookEvent::PreToolUse { tool_name, tool_use_id, input: Excerpt::of("{}") }
    }

    fn commentary(id: &str, delta: &str) -> Event {
        Event::CommentaryDelta { id: id.into(), delta: delta.into() }
    }

    fn text(delta: &str) -> Event {
        Event::TextDelta { delta: delta.into() }
    }

    fn play(hooks: &[HookEvent]) -> (Displayed, Vec<Event>) {
        let (mut displayed, mut out) = (Displayed::default(), Vec::new());
        for hook in hooks {
            displayed.hook(hook, &mut out);
        }
        (displayed, out)
    }

    #[test]
    fn displayed_text_is_commentary_once_something_follows() {
        let (_, out) = play(&[shown("a", "Let me "), shown("a", "look."), tool("Bash")]);
        let input = Json::of("{}");
        let call = Event::ToolInput { id: "t".into(), name: "Bash".into(), input };
        assert_eq!(out, [commentary("a", "Let me "), commentary("a", "look."), call]);
        let (_, out) = play(&[shown("a", "one"), shown("b", "two")]);
        assert_eq!(out, [commentary("a", "one")]);
    }

    #[test]
    fn the_answer_is_not_shown_twice() {
        let (mut displayed, mut out) = play(&[shown("a", "The ans"), shown("a", "wer.\n")]);
        displayed.last_text("The answer.", &mut out);
        assert_eq!(out, [text("The answer.")]);
        let (mut displayed, mut out) = play(&[shown("a", "Something else.")]);
        displayed.last_text("The answer.", &mut out);
        assert_eq!(out, [commentary("a", "Something else."), text("The answer.")]);
    }

    #[test]
    fn a_reply_comes_after_what_was_displayed_before_it() {
        let (mut displayed, mut out) = play(&[shown("a", "thinking")]);
        displayed.reply("see ![x](https://h/p.png)", &mut out);
        let (url, media_type) = ("https://h/p.png".into(), "image/png".into());
        assert_eq!(
            out,
            [
                commentary("a", "thinking"),
                text("see ![x](https://h/p.png)"),
                Event::Media { url, media_type }
            ]
        );
    }

    #[test]
    fn our_own_tools_are_no_news() {
        let (_, out) = play(&[shown("a", "x"), tool("mcp__synthesis__reply")]);
        assert_eq!(out, []);
    }

    #[test]
    fn a_denied_permission_is_asked_and_answered_by_name() {
        let hook = HookEvent::PermissionRequest {
            tool_name: "Bash".to_owned(),
            tool_use_id: None,
            input: Excerpt::of(r#"{"command":"rm"}"#),
            allowed: false,
            reason: "permission_mode".to_owned(),
        };
        let (_, out) = play(&[hook.clone(), hook]);
        let ids: Vec<&str> =
            out.iter()
                .filter_map(|event| match event {
                    Event::PermissionRequested { id, .. }
                    | Event::PermissionResolved { id, .. } => Some(&**id),
                    _ => None,
                })
                .collect();
        assert_eq!(ids, ["permission-1", "permission-1", "permission-2", "permission-2"]);
    }

    #[test]
    fn a_denied_tool_has_ended() {
        let hook = HookEvent::PermissionRequest {
            tool_name: "Bash".to_owned(),
            tool_use_id: Some("t".to_owned()),
            input: Excerpt::of("{}"),
            allowed: false,
            reason: "no".to_owned(),
        };
        let (_, out) = play(&[tool("Bash"), hook]);
        let (id, output) = ("t".into(), Json::of(r#""no""#));
        assert!(out.contains(&Event::ToolOutput { id, output, is_error: true }), "{out:?}");
    }

    #[test]
    fn endless_display_is_not_held_back() {
        let piece = "x".repeat(60_000);
        let hooks: Vec<HookEvent> = (0..20).map(|_| shown("a", &piece)).collect();
        let (displayed, out) = play(&hooks);
        assert!(out.len() >= 9 && displayed.bytes <= HELD, "{}", out.len());
    }

    #[test]
    fn a_cut_input_is_a_string() {
        let cut = Excerpt { text: r#"{"a":"b"#.to_owned(), cut: true };
        assert_eq!(json(&cut).get(), r#""{\"a\":\"b""#);
        assert_eq!(json(&Excerpt::of("")).get(), "null");
        assert_eq!(json(&Excerpt::of(r#"{"a":1}"#)).get(), r#"{"a":1}"#);
    }
}
