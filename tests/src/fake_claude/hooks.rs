//! Command hooks of the settings file, run as the CLI runs them: through the shell, one body on
//! standard input, awaited.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

/// The part of a settings file that the fake heeds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    hooks: BTreeMap<String, Vec<Matcher>>,
    #[serde(rename = "disableAllHooks")]
    disable_all_hooks: bool,
    #[serde(rename = "skipDangerousModePermissionPrompt")]
    skip_bypass_dialog: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Matcher {
    #[serde(default)]
    matcher: String,
    hooks: Vec<Hook>,
}

#[derive(Debug, Clone, Deserialize)]
struct Hook {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    command: String,
}

/// Reads a settings file; one that is missing or broken counts as empty, as with the CLI.
pub(super) fn settings(path: &Path) -> Settings {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

pub(super) struct Hooks {
    on: bool,
    /// Run each hook twice.
    pub(super) twice: bool,
    settings: Settings,
    environment: Vec<(&'static str, OsString)>,
}

impl Hooks {
    /// `user` is the user's own settings file: it can switch off what `given` configures.
    pub(super) fn new(
        on: bool,
        given: Settings,
        user: &Settings,
        environment: Vec<(&'static str, OsString)>,
    ) -> Self {
        let on = on && !given.disable_all_hooks && !user.disable_all_hooks;
        Self { on, twice: false, settings: given, environment }
    }

    pub(super) fn skips_bypass_dialog(&self) -> bool {
        self.settings.skip_bypass_dialog
    }

    /// Are there hooks for this event? The body need not be built otherwise.
    pub(super) fn wants(&self, event: &str) -> bool {
        self.on && self.settings.hooks.contains_key(event)
    }

    /// Runs the event's hooks one after the other; gives the last output that is JSON.
    pub(super) fn run(&self, event: &str, tool: Option<&str>, body: &Value) -> Option<Value> {
        if !self.wants(event) {
            return None;
        }
        let body = format!("{body}\n");
        let mut output = None;
        for matcher in self.settings.hooks.get(event)? {
            if !matches(&matcher.matcher, tool) {
                continue;
            }
            for hook in matcher.hooks.iter().filter(|hook| hook.kind == "command") {
                for _ in 0..if self.twice { 2 } else { 1 } {
                    let printed = self.run_one(&hook.command, &body);
                    output = serde_json::from_slice(&printed).ok().or(output);
                }
            }
        }
        output
    }

    fn run_one(&self, command: &str, body: &str) -> Vec<u8> {
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { return Vec::new() };
        if let Some(mut input) = child.stdin.take() {
            // A hook may end before it has read everything.
            let _ = input.write_all(body.as_bytes());
        }
        child.wait_with_output().map(|output| output.stdout).unwrap_or_default()
    }
}

/// The CLI takes a regular expression; of those, the one that leaves out one tool is known here.
fn matches(matcher: &str, tool: Option<&str>) -> bool {
    let left_out = matcher.strip_prefix("^(?!").and_then(|rest| rest.strip_suffix("$)"));
    if let (Some(left_out), Some(tool)) = (left_out, tool) {
        return tool != left_out;
    }
    matcher.is_empty()
        || matcher == "*"
        || tool.is_none_or(|tool| matcher.split('|').any(|name| name == tool))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(command: &str, user: &Settings) -> Hooks {
        let given = serde_json::from_value(json!({"hooks": {"Stop": [
            {"matcher": "*", "hooks": [{"type": "command", "command": command}]}]}}))
        .unwrap();
        Hooks::new(true, given, user, Vec::new())
    }

    #[test]
    fn a_hook_gets_the_body_and_its_answer_is_read() {
        let hooks = with("cat", &Settings::default());
        assert_eq!(hooks.run("Stop", None, &json!({"a": 1})), Some(json!({"a": 1})));
        assert_eq!(hooks.run("Other", None, &json!({})), None);
    }

    #[test]
    fn a_hook_that_reads_nothing_does_no_harm() {
        let hooks = with("exit 3", &Settings::default());
        assert_eq!(hooks.run("Stop", None, &json!("x".repeat(1 << 20))), None);
    }

    #[test]
    fn the_users_settings_can_switch_hooks_off() {
        let user: Settings = serde_json::from_value(json!({"disableAllHooks": true})).unwrap();
        assert_eq!(with("cat", &user).run("Stop", None, &json!({})), None);
    }
}
