//! One turn: from the message's receipt to the hook that ends it. What happens in between is
//! [`super::script`]'s.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::claude::{Claude, Halt};
use super::records::Status;
use super::screen;
use super::wire::Push;
use crate::channel_tag;
use crate::directive::{self, Action, Script};

/// The open turn.
pub(super) struct Turn {
    pub(super) prompt_id: Uuid,
    /// The message that is answered.
    pub(super) content: String,
    pub(super) message_id: Option<String>,
    /// Paths and names of the message's files, in order.
    pub(super) files: Vec<(String, String)>,
    pub(super) late_lines: Duration,
    pub(super) late_display: bool,
}

/// How a turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// `Stop` with the model's last words.
    Stop(String),
    /// `StopFailure`.
    Failure { error: &'static str, text: String },
    /// No hook at all.
    Silent,
}

impl Claude {
    /// Takes messages until the process ends.
    pub(super) fn run(&mut self) -> Result<(), Halt> {
        loop {
            if !self.queue.is_empty() {
                self.turn()?;
                continue;
            }
            let next = self.late.iter().map(|(at, _)| *at).min();
            self.pump(next, false)?;
            // Esc on an idle prompt does nothing.
            self.escape = false;
            self.send_late();
        }
    }

    /// All messages that wait become one turn, as in the real CLI; the last one is answered.
    fn turn(&mut self) -> Result<(), Halt> {
        self.records_status(Status::Busy);
        self.escape = false;
        let mut turn = Turn {
            prompt_id: Uuid::new_v4(),
            content: String::new(),
            message_id: None,
            files: Vec::new(),
            late_lines: Duration::ZERO,
            late_display: false,
        };
        match self.begin(&mut turn).and_then(|script| self.act(&mut turn, &script)) {
            Ok(end) => self.end(&turn, end)?,
            Err(Halt::Interrupted) => {
                self.escape = false;
                self.show("  ⎿ \u{a0}Interrupted · What should Claude do instead?")?;
                self.records.interrupted();
            }
            Err(Halt::Exit(status)) => return Err(Halt::Exit(status)),
        }
        self.hooks.twice = false;
        self.records_status(Status::Idle);
        Ok(())
    }

    fn begin(&mut self, turn: &mut Turn) -> Result<Script, Halt> {
        let mut script = Script::default();
        self.reach("pushed")?;
        while let Some(push) = self.queue.pop_front() {
            turn.prompt_id = Uuid::new_v4();
            script = self.enter(turn, push)?;
        }
        self.reach("received")?;
        Ok(script)
    }

    /// A message enters the conversation: transcript, `UserPromptSubmit`, screen.
    pub(super) fn enter(&mut self, turn: &mut Turn, push: Push) -> Result<Script, Halt> {
        let script = directive::parse(&push.content);
        self.hooks.twice = script.twice;
        turn.late_lines = script.late_lines;
        turn.late_display = script.late_display;
        turn.files = files(&push);
        let wants_hook = self.hooks.wants("UserPromptSubmit") && script.action != Action::NoReceipt;
        if wants_hook || self.records.keeps_transcript() {
            let mut prompt = String::with_capacity(push.content.len() + 128);
            let meta = push.meta.0.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            channel_tag::render(&mut prompt, &self.name, &push.content, meta);
            if script.action != Action::NoReceipt {
                self.records.queued(&prompt);
                self.records.prompt(turn.prompt_id, &prompt, &self.name);
            }
            self.reach("prompted")?;
            if wants_hook {
                let body = json!({"prompt": prompt});
                self.hook("UserPromptSubmit", Some(turn.prompt_id), None, &body);
            }
        }
        self.journal("receipt", &push);
        turn.message_id = push.meta("message_id").map(str::to_owned);
        turn.content = push.content;
        Ok(script)
    }

    pub(super) fn end(&mut self, turn: &Turn, end: End) -> Result<(), Halt> {
        match end {
            End::Stop(text) => {
                if self.records.keeps_transcript() {
                    let block = json!({"type": "text", "text": text});
                    let tokens = (100 + turn.content.len() / 4, (text.len() / 4).max(1));
                    self.records.later(Instant::now() + turn.late_lines);
                    self.records.assistant(&block, tokens);
                }
                if !turn.late_display {
                    self.display(turn, &[&text], Duration::ZERO)?;
                }
                if self.hooks.wants("Stop") {
                    let body = json!({"stop_hook_active": false, "last_assistant_message": text,
                        "background_tasks": [], "session_crons": []});
                    self.hook("Stop", Some(turn.prompt_id), None, &body);
                }
                self.reach("stopped")?;
                if turn.late_display {
                    self.display(turn, &[&text], Duration::ZERO)?;
                }
                self.show(&format!("● {text}"))
            }
            End::Failure { error, text } => {
                let body = json!({"error": error, "last_assistant_message": text});
                let block = json!({"type": "text", "text": text});
                self.records.assistant(&block, (0, 0));
                self.hook("StopFailure", Some(turn.prompt_id), None, &body);
                self.show(&format!("● {text}"))
            }
            End::Silent => Ok(()),
        }
    }

    /// Displays a text in pieces, with a pause between them; the last may be without an end of line.
    pub(super) fn display(
        &mut self,
        turn: &Turn,
        pieces: &[&str],
        pause: Duration,
    ) -> Result<(), Halt> {
        // Nothing is displayed then, and no text is no message.
        if self.conf.quiet || !self.hooks.wants("MessageDisplay") || pieces.concat().is_empty() {
            return Ok(());
        }
        let message = Uuid::new_v4();
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                self.pause(pause)?;
            }
            let body = json!({"turn_id": turn.prompt_id, "message_id": message, "index": index,
                "final": index + 1 == pieces.len(), "delta": piece});
            self.hook("MessageDisplay", Some(turn.prompt_id), None, &body);
        }
        Ok(())
    }

    /// Runs the hooks of an event with the fields that every body has; gives their answer.
    pub(super) fn hook(
        &self,
        event: &str,
        prompt_id: Option<Uuid>,
        tool: Option<&str>,
        fields: &Value,
    ) -> Option<Value> {
        if !self.hooks.wants(event) {
            return None;
        }
        let places = &self.records.places;
        let mut body = Map::new();
        body.insert("session_id".into(), json!(places.conversation));
        body.insert("transcript_path".into(), json!(places.transcript()));
        body.insert("cwd".into(), json!(places.cwd));
        if let Some(id) = prompt_id {
            body.insert("prompt_id".into(), json!(id));
        }
        // These never carry it.
        let without = [
            "SessionStart",
            "SessionEnd",
            "StopFailure",
            "MessageDisplay",
            "PreCompact",
            "PostCompact",
        ];
        if !without.contains(&event) {
            let mode = match self.arguments.permission_mode.as_str() {
                "manual" => "default",
                mode => mode,
            };
            body.insert("permission_mode".into(), json!(mode));
        }
        body.insert("hook_event_name".into(), json!(event));
        if let Value::Object(fields) = fields {
            body.extend(fields.clone());
        }
        self.hooks.run(event, tool, &Value::Object(body))
    }

    /// A line on the screen, unless the terminal is to stay quiet.
    pub(super) fn show(&mut self, text: &str) -> Result<(), Halt> {
        if self.conf.quiet {
            return Ok(());
        }
        let first = text.lines().next().unwrap_or_default();
        let cut: String = first.chars().take(self.terminal.columns.saturating_sub(1)).collect();
        let note = screen::note(self.terminal.rows, &cut);
        self.draw(&note)
    }

    fn records_status(&self, status: Status) {
        if self.conf.state_file {
            self.records.status(status);
        }
    }

    fn send_late(&mut self) {
        let now = std::time::Instant::now();
        let (due, later) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = later;
        let due: Vec<_> = due;
        for (_, call) in due {
            self.send(&call);
        }
    }
}

/// Paths and names of the files that the message's attributes name.
fn files(push: &Push) -> Vec<(String, String)> {
    let file = |number: usize| {
        let path = push.meta(&format!("file_{number}"))?;
        let name = push.meta(&format!("file_{number}_name")).unwrap_or_default();
        Some((path.to_owned(), name.to_owned()))
    };
    (1..).map_while(file).collect()
}
