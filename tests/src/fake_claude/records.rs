//! The files that the CLI leaves behind: the debug log, `sessions/<pid>.json` and the
//! transcript, in the shapes and places of the real one. Write errors are ignored, as there.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use uuid::Uuid;

use super::clock;

/// Where this conversation's files are.
pub(super) struct Places {
    /// `$CLAUDE_CONFIG_DIR`, else `$HOME/.claude`.
    pub(super) config: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) conversation: Uuid,
}

impl Places {
    pub(super) fn transcript(&self) -> PathBuf {
        let name = format!("{}.jsonl", self.conversation);
        self.config.join("projects").join(slug(&self.cwd.to_string_lossy())).join(name)
    }

    fn state(&self) -> PathBuf {
        self.config.join("sessions").join(format!("{}.json", std::process::id()))
    }
}

/// The folder's name for a working directory: every UTF-16 unit outside `[a-zA-Z0-9]` becomes
/// `-`; a long one is cut and gets the base-36 hash of the whole.
pub(super) fn slug(cwd: &str) -> String {
    const LONGEST: usize = 200;
    let plain = |unit: u16| char::from_u32(unit.into()).filter(char::is_ascii_alphanumeric);
    let text: String = cwd.encode_utf16().map(|unit| plain(unit).unwrap_or('-')).collect();
    if text.len() <= LONGEST {
        return text;
    }
    let hash = cwd
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    format!("{}-{}", &text[..LONGEST], base36(hash.unsigned_abs()))
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Idle,
    Busy,
}

pub(super) struct Records {
    pub(super) places: Places,
    permission_mode: String,
    model: String,
    debug: Option<File>,
    state: Option<State>,
    transcript: bool,
    /// The last line's uuid: lines form a chain.
    parent: Option<Uuid>,
    /// When the next line is written: the real CLI is late, too.
    later: Option<Instant>,
}

struct State {
    path: PathBuf,
    key: PathBuf,
    started: u64,
}

impl Records {
    pub(super) fn new(places: Places, permission_mode: &str, model: &str, keep: bool) -> Self {
        Self {
            places,
            permission_mode: permission_mode.to_owned(),
            model: model.to_owned(),
            debug: None,
            state: None,
            transcript: keep,
            parent: None,
            later: None,
        }
    }

    /// Opens the debug log and puts `latest` beside it, as the CLI does.
    pub(super) fn open_debug(&mut self, path: &Path) {
        self.debug = OpenOptions::new().append(true).create(true).open(path).ok();
        if let Some(folder) = path.parent() {
            let latest = folder.join("latest");
            let _ = std::fs::remove_file(&latest);
            let _ = std::os::unix::fs::symlink(path, latest);
        }
    }

    /// For the server's standard error.
    pub(super) fn debug_file(&self) -> Option<File> {
        self.debug.as_ref()?.try_clone().ok()
    }

    pub(super) fn debug(&self, text: &str) {
        if let Some(mut file) = self.debug.as_ref() {
            let _ =
                file.write_all(format!("{} [DEBUG] {text}\n", clock::iso(clock::now())).as_bytes());
        }
    }

    pub(super) fn open_state(&mut self) {
        let path = self.places.state();
        let _ = std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")));
        let key = path.with_file_name(format!(
            "{}.{}{}.key",
            std::process::id(),
            Uuid::new_v4().simple(),
            Uuid::new_v4().simple()
        ));
        let secret = json!({"peerToken": Uuid::new_v4().simple().to_string()});
        let _ = private(&key).and_then(|mut file| file.write_all(secret.to_string().as_bytes()));
        self.state = Some(State { path, key, started: clock::now() });
        self.status(Status::Idle);
    }

    /// Rewrites the state file in place: a reader may see half of it.
    pub(super) fn status(&self, status: Status) {
        let Some(state) = &self.state else { return };
        let now = clock::now();
        let id = self.places.conversation;
        let value = json!({"pid": std::process::id(), "sessionId": id,
            "cwd": self.places.cwd, "startedAt": state.started, "version": super::VERSION,
            "peerProtocol": 1, "kind": "interactive", "entrypoint": "cli", "name": "fake",
            "nameSource": "derived", "nameSince": state.started,
            "status": match status { Status::Idle => "idle", Status::Busy => "busy" },
            "updatedAt": now, "statusUpdatedAt": now});
        let _ = std::fs::write(&state.path, value.to_string());
    }

    /// On an orderly exit.
    pub(super) fn remove_state(&mut self) {
        if let Some(state) = self.state.take() {
            let _ = std::fs::remove_file(state.path);
            let _ = std::fs::remove_file(state.key);
        }
    }

    /// The queue's record of a message, written before the turn begins.
    pub(super) fn queued(&self, prompt: &str) {
        let id = self.places.conversation;
        let timestamp = clock::iso(clock::now());
        self.append(&[
            json!({"type": "queue-operation", "operation": "enqueue", "timestamp": timestamp,
                "sessionId": id, "content": prompt}),
            json!({"type": "queue-operation", "operation": "dequeue", "timestamp": timestamp,
                "sessionId": id}),
        ]);
    }

    /// A message as it enters the conversation.
    pub(super) fn prompt(&mut self, prompt_id: Uuid, prompt: &str, server: &str) {
        self.chained(json!({"type": "user", "promptId": prompt_id, "isMeta": true,
            "message": {"role": "user", "content": prompt}, "permissionMode": self.permission_mode,
            "origin": {"kind": "channel", "server": server}, "promptSource": "system"}));
    }

    /// One block of the model's answer. The real CLI writes one line per block, and repeats the
    /// message's id and usage in each.
    pub(super) fn assistant(&mut self, block: &Value, usage: (usize, usize)) {
        let stop = if block["type"] == "tool_use" { "tool_use" } else { "end_turn" };
        self.chained(json!({"type": "assistant", "effort": "medium",
            "requestId": format!("req_{}", Uuid::new_v4().simple()),
            "message": {"id": format!("msg_{}", Uuid::new_v4().simple()), "type": "message",
                "role": "assistant", "model": self.model, "content": [block],
                "stop_reason": stop, "stop_sequence": null,
                "usage": {"input_tokens": usage.0, "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0, "output_tokens": usage.1,
                    "service_tier": "standard"}}}));
    }

    pub(super) fn tool_result(&mut self, tool_use_id: &str, text: &str, is_error: bool) {
        let mut block = json!({"type": "tool_result", "tool_use_id": tool_use_id,
            "content": [{"type": "text", "text": text}]});
        if is_error {
            block["is_error"] = json!(true);
        }
        self.chained(json!({"type": "user", "message": {"role": "user", "content": [block]}}));
    }

    pub(super) fn interrupted(&mut self) {
        let block = json!({"type": "text", "text": "[Request interrupted by user]"});
        self.chained(json!({"type": "user", "message": {"role": "user", "content": [block]}}));
    }

    /// The next line is written then, whatever happens until then.
    pub(super) fn later(&mut self, at: Instant) {
        self.later = Some(at).filter(|at| *at > Instant::now());
    }

    pub(super) fn keeps_transcript(&self) -> bool {
        self.transcript
    }

    fn chained(&mut self, mut line: Value) {
        if !self.transcript {
            return;
        }
        let id = Uuid::new_v4();
        line["parentUuid"] = json!(self.parent.replace(id));
        line["uuid"] = json!(id);
        line["isSidechain"] = json!(false);
        line["timestamp"] = json!(clock::iso(clock::now()));
        line["userType"] = json!("external");
        line["entrypoint"] = json!("cli");
        line["cwd"] = json!(self.places.cwd);
        line["sessionId"] = json!(self.places.conversation);
        line["version"] = json!(super::VERSION);
        match self.later.take() {
            None => self.append(&[line]),
            Some(at) => {
                let path = self.places.transcript();
                // Ends with the process at the latest.
                std::thread::spawn(move || {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    append(&path, &[line]);
                });
            }
        }
    }

    fn append(&self, lines: &[Value]) {
        if !self.transcript {
            return;
        }
        append(&self.places.transcript(), lines);
    }
}

fn append(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let _ = std::fs::create_dir_all(folder);
    let _ = private(path).and_then(|mut file| file.write_all(text.as_bytes()));
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_follow_the_cli() {
        assert_eq!(slug("/srv/demo"), "-srv-demo");
        assert_eq!(slug("/a.b_c/é🦀"), "-a-b-c----");
        let long = slug(&format!("/{}", "a".repeat(300)));
        assert_eq!(long.len(), 200 + 1 + long.rsplit('-').next().unwrap().len());
    }
}
