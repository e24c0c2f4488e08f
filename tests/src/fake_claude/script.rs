//! What the fake's model does in a turn: one match over the directives, and the two things it
//! can do, replying and using a tool.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::arguments;
use super::claude::{Claude, Halt};
use super::tools::{self, Bash};
use super::turn::{End, Turn};
use super::wire;
use crate::directive::{self, Action, ClaimedTool, Script};

const DONE: &str = "Done.";
/// How often a running tool is looked at.
const TOOL_TICK: Duration = Duration::from_millis(5);

/// Which id a reply carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyTo {
    Message,
    Foreign,
}

/// What a tool gave.
struct Outcome {
    text: String,
    is_error: bool,
}

impl Claude {
    pub(super) fn act(&mut self, turn: &mut Turn, script: &Script) -> Result<End, Halt> {
        self.show(&format!("← {}: {}", self.name, turn.content))?;
        self.pause(script.slow)?;
        if script.flood_kib > 0 {
            self.flood(script.flood_kib)?;
        }
        if script.utf8 {
            self.split_characters()?;
        }
        let done = || Ok(End::Stop(DONE.to_owned()));
        match &script.action {
            Action::Echo | Action::NoReceipt => self.answer(turn, &echo(turn)),
            Action::Say(text) => self.answer(turn, text),
            Action::Big { kib } => self.answer(turn, &directive::big_text(*kib)),
            Action::EchoEnv => self.answer(turn, &environment()),
            Action::EchoInstructions => {
                let told = self.instructions.clone();
                self.answer(turn, told.as_deref().unwrap_or("none"))
            }
            Action::TextOnly(text) => Ok(End::Stop(text.clone())),
            Action::Mute => Ok(End::Stop(String::new())),
            Action::UseTool { name, input } => self.use_tool(turn, name, input),
            Action::Display { count, pause } => {
                let lines: Vec<String> =
                    (1..=*count).map(|index| directive::display_text(index, *count)).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                self.display(turn, &lines, *pause)?;
                self.answer(turn, &echo(turn))
            }
            Action::Files => self.answer(turn, &tools::told_files(&turn.files)),
            Action::ClaimTool(tool) => self.claim(turn, tool),
            Action::Compact => {
                let prompt_id = Some(turn.prompt_id);
                let before = json!({"trigger": "auto", "custom_instructions": null});
                self.hook("PreCompact", prompt_id, None, &before);
                let start = json!({"source": "compact", "model": "fake"});
                self.hook("SessionStart", prompt_id, None, &start);
                let after = json!({"trigger": "auto", "compact_summary": "What was said."});
                self.hook("PostCompact", prompt_id, None, &after);
                self.answer(turn, &echo(turn))
            }
            Action::Chunks { count, pause } => self.chunks(turn, *count, *pause),
            Action::Stages => self.stages(turn),
            Action::Hang => self.wait(None, |_| false).map(|_| End::Silent),
            Action::ApiError { status } => Ok(failure(*status)),
            Action::Crash => {
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
                Ok(End::Silent)
            }
            Action::Exit { status } => Err(Halt::Exit(*status)),
            Action::NoStop => {
                self.reply(turn, &echo(turn), true, ReplyTo::Message)?;
                Ok(End::Silent)
            }
            Action::Late { after } => {
                let id = self.fresh_id();
                let arguments = wire::reply_arguments(&echo(turn), true, None);
                let call = wire::call_reply(id, &tool_use_id(id), &arguments);
                self.late.push((Instant::now() + *after, call));
                done()
            }
            Action::WrongOrder => {
                self.end(turn, End::Stop(DONE.to_owned()))?;
                self.reply(turn, &echo(turn), true, ReplyTo::Message)?;
                Ok(End::Silent)
            }
            Action::Double => {
                self.reply(turn, &echo(turn), true, ReplyTo::Message)?;
                self.answer(turn, "second final reply")
            }
            Action::ForeignId => {
                self.reply(turn, "for nobody", true, ReplyTo::Foreign)?;
                self.answer(turn, &echo(turn))
            }
            Action::KillChannel => {
                if let Some(server) = &mut self.server {
                    server.kill();
                }
                self.answer(turn, &echo(turn))
            }
        }
    }

    /// One final reply, and the end. When the reply tool fails its error is the last word.
    fn answer(&mut self, turn: &Turn, text: &str) -> Result<End, Halt> {
        let outcome = self.reply(turn, text, true, ReplyTo::Message)?;
        Ok(End::Stop(if outcome.is_error { outcome.text } else { DONE.to_owned() }))
    }

    fn chunks(&mut self, turn: &Turn, count: usize, pause: Duration) -> Result<End, Halt> {
        for index in 1..=count {
            if index > 1 {
                self.pause(pause)?;
            }
            let text = directive::chunk_text(index, count);
            self.reply(turn, &text, index == count, ReplyTo::Message)?;
        }
        Ok(End::Stop(DONE.to_owned()))
    }

    /// A tool, a reply, the final reply: each may be held.
    fn stages(&mut self, turn: &Turn) -> Result<End, Halt> {
        let (id, name) = (self.fresh_id(), "Bash");
        let input = json!({"command": "true", "description": "nothing"});
        self.call(turn, name, &input, &tool_use_id(id), |claude| {
            claude.reach("tool")?;
            claude.run_tool(name, &input)
        })?;
        self.reply(turn, directive::STAGES[0], false, ReplyTo::Message)?;
        self.reach("progress")?;
        let last = self.reply(turn, directive::STAGES[1], true, ReplyTo::Message)?;
        self.reach("replied")?;
        Ok(End::Stop(if last.is_error { last.text } else { DONE.to_owned() }))
    }

    fn use_tool(&mut self, turn: &mut Turn, name: &str, input: &str) -> Result<End, Halt> {
        let input: Value = serde_json::from_str(input).unwrap_or_else(|_| json!({}));
        let id = self.fresh_id();
        self.show(&format!("● {name}({input})"))?;
        let outcome = self
            .call(turn, name, &input, &tool_use_id(id), |claude| claude.run_tool(name, &input))?;
        let text = outcome.text;
        // Messages that came during the tool are injected into the turn, under its prompt id.
        let mut script = None;
        while let Some(push) = self.queue.pop_front() {
            script = Some(self.enter(turn, push)?);
        }
        match script {
            Some(_) => self.answer(turn, &echo(turn)),
            None => self.answer(turn, &text),
        }
    }

    /// Runs only the hooks of a tool.
    fn claim(&mut self, turn: &Turn, tool: &ClaimedTool) -> Result<End, Halt> {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let prompt_id = Some(turn.prompt_id);
        let id = self.fresh_id();
        let mut fields = json!({"tool_name": tool.name, "tool_input": value(&tool.input),
            "tool_use_id": tool_use_id(id)});
        self.hook("PreToolUse", prompt_id, Some(&tool.name), &fields);
        fields["duration_ms"] = json!(5);
        let (event, field) = ended_as(tool.fails);
        fields[field] = value(&tool.output);
        self.hook(event, prompt_id, Some(&tool.name), &fields);
        self.answer(turn, &echo(turn))
    }

    fn run_tool(&mut self, name: &str, input: &Value) -> Result<Outcome, Halt> {
        if name != "Bash" {
            let result = tools::quick(name, input);
            let is_error = result.is_err();
            return Ok(Outcome { text: result.unwrap_or_else(|error| error), is_error });
        }
        let mut bash = match Bash::start(input) {
            Ok(bash) => bash,
            Err(error) => return Ok(Outcome { text: error.to_string(), is_error: true }),
        };
        while !bash.has_ended() {
            self.pause(TOOL_TICK)?;
        }
        Ok(Outcome { text: bash.output(), is_error: false })
    }

    fn reply(
        &mut self,
        turn: &Turn,
        text: &str,
        is_final: bool,
        to: ReplyTo,
    ) -> Result<Outcome, Halt> {
        let message_id = match to {
            ReplyTo::Message => turn.message_id.as_deref(),
            ReplyTo::Foreign => Some("never-was"),
        };
        let arguments = wire::reply_arguments(text, is_final, message_id);
        let id = self.fresh_id();
        let tool_use_id = tool_use_id(id);
        let name = format!("mcp__{}__reply", self.name);
        let call = wire::call_reply(id, &tool_use_id, &arguments);
        // The arguments as a value are needed only by hooks and transcript.
        let input = if self.records.keeps_transcript() || self.hooks.wants("PreToolUse") {
            serde_json::from_str(&arguments).unwrap_or_default()
        } else {
            Value::Null
        };
        self.call(turn, &name, &input, &tool_use_id, |claude| {
            let answer = if claude.server_is_gone() { None } else { claude.request(id, &call)? };
            Ok(reply_outcome(&name, answer))
        })
    }

    /// Around every tool: permission, hooks, transcript.
    fn call(
        &mut self,
        turn: &Turn,
        name: &str,
        input: &Value,
        tool_use_id: &str,
        run: impl FnOnce(&mut Self) -> Result<Outcome, Halt>,
    ) -> Result<Outcome, Halt> {
        if self.records.keeps_transcript() {
            let block =
                json!({"type": "tool_use", "id": tool_use_id, "name": name, "input": input});
            let tokens = (100 + turn.content.len() / 4, 10 + input.to_string().len() / 4);
            self.records.assistant(&block, tokens);
        }
        let mut fields =
            json!({"tool_name": name, "tool_input": input, "tool_use_id": tool_use_id});
        let prompt_id = Some(turn.prompt_id);
        // The real CLI runs no hooks for a tool that it does not know.
        let known = name.starts_with("mcp__") || tools::is_known(name);
        if known {
            self.hook("PreToolUse", prompt_id, Some(name), &fields);
        }
        let begun = Instant::now();
        let outcome = match self.permission(prompt_id, name, &fields)? {
            // A tool that was denied has no end.
            Some(refused) => refused,
            None => {
                let outcome = run(self)?;
                let (event, field) = ended_as(outcome.is_error);
                fields[field] = match name {
                    _ if outcome.is_error => json!(outcome.text),
                    "Bash" => json!({"stdout": outcome.text, "stderr": "", "interrupted": false,
                        "isImage": false, "noOutputExpected": false}),
                    _ => json!([{"type": "text", "text": outcome.text}]),
                };
                fields["duration_ms"] = json!(begun.elapsed().as_millis());
                if known {
                    self.hook(event, prompt_id, Some(name), &fields);
                }
                outcome
            }
        };
        self.records.tool_result(tool_use_id, &outcome.text, outcome.is_error);
        Ok(outcome)
    }

    /// Asks the `PermissionRequest` hook about a tool that no rule allows; without an answer the
    /// question stays on the terminal, where nobody answers it.
    fn permission(
        &mut self,
        prompt_id: Option<uuid::Uuid>,
        name: &str,
        fields: &Value,
    ) -> Result<Option<Outcome>, Halt> {
        if !self.needs_permission(name) {
            return Ok(None);
        }
        let mut body = json!({"tool_name": name, "tool_input": fields["tool_input"]});
        if let Some(server) = name.strip_prefix("mcp__").and_then(|rest| rest.split("__").next()) {
            body["mcp_server"] = json!({"name": server, "source": "dynamic"});
        }
        let answer = self.hook("PermissionRequest", prompt_id, Some(name), &body);
        let decision = answer.map(|answer| answer["hookSpecificOutput"]["decision"].clone());
        match decision.as_ref().and_then(|decision| decision["behavior"].as_str()) {
            Some("allow") => Ok(None),
            Some("deny") => {
                let message = decision.as_ref().and_then(|decision| decision["message"].as_str());
                let text = message.unwrap_or("Permission denied").to_owned();
                Ok(Some(Outcome { text, is_error: true }))
            }
            Some(_) | None => {
                self.show(&format!("Do you want to proceed with {name}?  ❯ 1. Yes  2. No"))?;
                self.wait(None, |_| false)?;
                Ok(None)
            }
        }
    }

    /// As the real CLI judges the tools that are used here.
    fn needs_permission(&self, name: &str) -> bool {
        let mode = self.arguments.permission_mode.as_str();
        let of_server = name.starts_with("mcp__");
        // Questions to a person are asked in every mode.
        matches!(name, "AskUserQuestion" | "ExitPlanMode")
            // Plan mode does not let write, and asks for each tool of a server.
            || mode == "plan" && (of_server || name == "Write")
            || mode != "bypassPermissions"
                && (of_server || tools::is_known(name))
                && !arguments::allows(&self.arguments.allowed_tools, name)
    }

    fn flood(&mut self, kib: usize) -> Result<(), Halt> {
        let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
        let block = line.repeat(1024 / line.len());
        self.draw(&block.repeat(kib))
    }

    /// Writes multi-byte text byte by byte, so that reads end inside characters.
    fn split_characters(&mut self) -> Result<(), Halt> {
        for byte in "\r\nhéllo wörld — 日本語 🦀\r\n".bytes() {
            self.draw_bytes(&[byte])?;
            self.pause(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

fn echo(turn: &Turn) -> String {
    format!("echo: {}", turn.content)
}

fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(key, value)| format!("{}={}\n", key.to_string_lossy(), value.to_string_lossy()))
        .collect();
    lines.sort();
    lines.concat()
}

/// The hook that tells of a tool's end, and the field that holds what it gave.
fn ended_as(failed: bool) -> (&'static str, &'static str) {
    if failed { ("PostToolUseFailure", "error") } else { ("PostToolUse", "tool_response") }
}

fn tool_use_id(id: u64) -> String {
    format!("toolu_{id:020}")
}

fn reply_outcome(name: &str, answer: Option<Result<Value, Value>>) -> Outcome {
    let text = |result: &Value| {
        let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        blocks.iter().filter_map(|block| block["text"].as_str()).collect::<String>()
    };
    match answer {
        Some(Ok(result)) => {
            Outcome { text: text(&result), is_error: result["isError"].as_bool().unwrap_or(false) }
        }
        Some(Err(error)) => Outcome {
            text: error["message"].as_str().unwrap_or("MCP error").to_owned(),
            is_error: true,
        },
        None => Outcome { text: format!("No such tool available: {name}"), is_error: true },
    }
}

/// The words and the kind that the real CLI gives to a status, once it has stopped to retry.
fn failure(status: u16) -> End {
    let (error, text) = match status {
        401 | 403 => {
            ("authentication_failed", format!("Please run /login · API Error: {status} mock error"))
        }
        429 => ("rate_limit", format!("API Error: {status} mock error")),
        500.. => (
            "server_error",
            format!(
                "API Error: {status} mock error {status}. This is a server-side issue, usually \
                 temporary — try again in a moment."
            ),
        ),
        _ => ("unknown", format!("API Error: {status} mock error {status}")),
    };
    End::Failure { error, text }
}
