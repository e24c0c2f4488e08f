//! What claude's hooks say, as events for frontd; a hook of a turn is the receipt of its message.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use proto::bridge::Event;
use proto::hook::{Excerpt, HookBody, HookEvent};

use super::words::{Action, TurnUsage};
use super::{Voice, Weight};
use crate::permission;
use crate::testimony;

/// Tools that run at the same time and are remembered; claude starts some ten.
const TOOLS: usize = 64;

impl Voice {
    pub(super) fn hook(&mut self, body: HookBody, usage: Option<TurnUsage>, out: &mut Vec<Action>) {
        let (event, weight) = match body {
            HookBody::SessionStart {} => (HookEvent::SessionStart {}, Weight::Ordinary),
            HookBody::UserPromptSubmit { prompt, prompt_id, .. } => {
                (self.prompt(&prompt, prompt_id, out), Weight::Vital)
            }
            HookBody::PreToolUse { tool_name, tool_use_id, input } => {
                self.receive_all(out);
                let (tool_name, tool_use_id) = testimony::names(tool_name, tool_use_id);
                self.tools.begin(&tool_name, tool_use_id.as_deref(), &input);
                (HookEvent::PreToolUse { tool_name, tool_use_id, input }, Weight::Ordinary)
            }
            HookBody::PostToolUse { tool_name, tool_use_id, output, failed, duration_ms } => {
                self.receive_all(out);
                let (tool_name, tool_use_id) = testimony::names(tool_name, tool_use_id);
                self.tools.end(tool_use_id.as_deref());
                let is_error = failed;
                let event = HookEvent::PostToolUse {
                    tool_name,
                    tool_use_id,
                    output,
                    is_error,
                    duration_ms,
                };
                (event, Weight::Ordinary)
            }
            HookBody::PermissionRequest { tool_name, input, server } => {
                self.receive_all(out);
                (self.asked(tool_name, input, server.as_deref()), Weight::Ordinary)
            }
            HookBody::MessageDisplay { prompt_id, message_id, index, delta, last } => {
                let turn = prompt_id.and_then(|prompt| self.pushes.message_of(&prompt));
                let message_id = testimony::name(message_id);
                let r#final = last;
                let event = HookEvent::MessageDisplay { turn, message_id, index, delta, r#final };
                (event, Weight::Ordinary)
            }
            HookBody::PreCompact {} => (HookEvent::Compacting {}, Weight::Ordinary),
            HookBody::PostCompact {} => (HookEvent::Compacted {}, Weight::Ordinary),
            HookBody::Stop { last_assistant_message, prompt_id, .. } => {
                let message_id = prompt_id.and_then(|prompt| self.pushes.message_of(&prompt));
                let text = last_assistant_message.unwrap_or_default();
                let last_assistant_message = testimony::fitting(text);
                (HookEvent::Stop { message_id, last_assistant_message }, Weight::TurnEnd)
            }
            HookBody::StopFailure { error, last_assistant_message, prompt_id, .. } => {
                let message_id = prompt_id.and_then(|prompt| self.pushes.message_of(&prompt));
                let error = testimony::error_text(error, last_assistant_message);
                (HookEvent::StopFailure { message_id, error }, Weight::TurnEnd)
            }
            HookBody::Other => return,
        };
        let ended = match &event {
            HookEvent::Stop { message_id, .. } | HookEvent::StopFailure { message_id, .. } => {
                Some(message_id.clone())
            }
            HookEvent::SessionStart {}
            | HookEvent::UserPromptSubmit { .. }
            | HookEvent::PreToolUse { .. }
            | HookEvent::PostToolUse { .. }
            | HookEvent::PermissionRequest { .. }
            | HookEvent::MessageDisplay { .. }
            | HookEvent::Compacting {}
            | HookEvent::Compacted {} => None,
        };
        if let Some((message_id, usage)) = usage {
            self.tell(&Event::Usage { message_id, usage, exact: false }, Weight::Ordinary, out);
        }
        self.tell(&Event::Hook(event), weight, out);
        if let Some(message) = ended {
            out.push(Action::Count(message));
        }
    }

    fn prompt(
        &mut self,
        prompt: &str,
        prompt_id: Option<String>,
        out: &mut Vec<Action>,
    ) -> HookEvent {
        self.tools.clear();
        let named = self.pushes.named_in(prompt);
        for message in &named {
            if self.pushes.close(message) {
                self.received(message.clone(), out);
            }
        }
        let message_id = named.into_iter().next();
        if let (Some(prompt), Some(message)) = (prompt_id, &message_id) {
            self.pushes.begun(prompt, message.clone());
        }
        HookEvent::UserPromptSubmit { message_id }
    }

    /// The hook's own process gave the same answer to claude.
    fn asked(&mut self, tool_name: String, input: Excerpt, server: Option<&str>) -> HookEvent {
        let decision = permission::decide(&tool_name, server);
        let tool_name = testimony::name(tool_name);
        let tool_use_id = self.tools.asks(&tool_name, &input, decision.allowed);
        HookEvent::PermissionRequest {
            tool_name,
            tool_use_id,
            input,
            allowed: decision.allowed,
            reason: decision.reason.to_owned(),
        }
    }
}

/// Tools that have begun and not ended: a request for permission does not say whose it is.
#[derive(Default)]
pub(super) struct OpenTools(VecDeque<Tool>);

struct Tool {
    name: String,
    id: String,
    input: u64,
}

impl OpenTools {
    fn begin(&mut self, name: &str, id: Option<&str>, input: &Excerpt) {
        let Some(id) = id else { return };
        if self.0.len() == TOOLS {
            self.0.pop_front();
        }
        let (name, id, input) = (name.to_owned(), id.to_owned(), hash(input));
        self.0.push_back(Tool { name, id, input });
    }

    fn end(&mut self, id: Option<&str>) {
        self.0.retain(|tool| Some(tool.id.as_str()) != id);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    /// Whose request is this? The CLI may have put a default into the input: then the latest of
    /// that name. One that is denied never runs, and so never ends.
    fn asks(&mut self, name: &str, input: &Excerpt, allowed: bool) -> Option<String> {
        let input = hash(input);
        let same = |tool: &Tool| tool.name == name && tool.input == input;
        let at = self.0.iter().position(same);
        let at = at.or_else(|| self.0.iter().rposition(|tool| tool.name == name))?;
        if allowed { Some(self.0.get(at)?.id.clone()) } else { Some(self.0.remove(at)?.id) }
    }
}

fn hash(input: &Excerpt) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.text.hash(&mut hasher);
    hasher.finish()
}
