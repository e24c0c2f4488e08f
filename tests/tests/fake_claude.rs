//! The fake claude on a real terminal, with a shell script for its channel.
#![allow(clippy::unwrap_used, reason = "a test's own steps may fail it")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
const CONVERSATION: &str = "11111111-2222-4333-8444-555555555555";

/// Answers the handshake, passes on what comes through a fifo, notes the calls.
const CHANNEL: &str = r#"#!/bin/sh
while read -r line; do case "$line" in
*'"initialize"'*) echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"experimental":{"claude/channel":{}}}}}';;
*'"tools/list"'*) echo '{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'; cat "$FOLDER/pushes" & ;;
*'"tools/call"'*) printf '%s\n' "$line" >> "$FOLDER/calls"
  id=${line##*'"id":'}; id=${id%'}'}
  echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"sent"}]}}';;
esac; done
"#;

struct Fake {
    child: Child,
    leader: File,
    seen: String,
    folder: TempDir,
}

impl Fake {
    fn start(conf: &Value, arguments: &[&str]) -> Self {
        Self::start_with(conf, arguments, &["UserPromptSubmit", "Stop"])
    }

    /// Every hook of these appends its body to a file; permission is denied.
    fn start_with(conf: &Value, arguments: &[&str], events: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("channel"), CHANNEL).unwrap();
        nix::unistd::mkfifo(&at("pushes"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at(".fake-claude.json"), conf.to_string()).unwrap();
        let server = json!({"type": "stdio", "command": "/bin/sh", "args": [at("channel")],
            "env": {"FOLDER": folder.path()}});
        let mcp = json!({"mcpServers": {"synthesis": server}});
        std::fs::write(at("mcp.json"), mcp.to_string()).unwrap();
        let hook = format!("cat >> '{}'", at("hooks").display());
        let denial = json!({"hookSpecificOutput": {"hookEventName": "PermissionRequest",
            "decision": {"behavior": "deny", "message": "nobody is here"}}});
        let hook = |event: &str| {
            let answer = if event == "PermissionRequest" {
                format!("; echo '{denial}'")
            } else {
                String::new()
            };
            json!([{"hooks": [{"type": "command", "command": format!("{hook}{answer}")}]}])
        };
        let hooks: serde_json::Map<String, Value> =
            events.iter().map(|event| ((*event).to_owned(), hook(event))).collect();
        let settings = json!({"hooks": hooks});
        std::fs::write(at("settings.json"), settings.to_string()).unwrap();
        Self::run(folder, arguments)
    }

    /// Starts it in a folder that is made already.
    fn run(folder: TempDir, arguments: &[&str]) -> Self {
        // Not openpty: its leader crosses the exec of every child, and never hangs up then.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let leader = nix::pty::posix_openpt(flags).unwrap();
        nix::pty::grantpt(&leader).unwrap();
        nix::pty::unlockpt(&leader).unwrap();
        let follower = nix::pty::ptsname_r(&leader).unwrap();
        let follower = File::options().read(true).write(true).open(follower).unwrap();
        let end = || Stdio::from(follower.try_clone().unwrap());
        let at = |name: &str| folder.path().join(name);
        let child = Command::new(env!("CARGO_BIN_EXE_fake-claude"))
            .args(["--dangerously-load-development-channels", "server:synthesis", "--mcp-config"])
            .arg(at("mcp.json"))
            .args(["--strict-mcp-config", "--setting-sources", "user", "--settings"])
            .arg(at("settings.json"))
            .args(arguments)
            .args(["--permission-mode", "acceptEdits", "--allowedTools", "Bash", "Read"])
            .args(["mcp__synthesis__*", "--debug-file"])
            .arg(at("debug.log"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.path())
            .env("CLAUDE_CODE_SANDBOXED", "1")
            .env("MCP_PROTOCOL_NEGOTIATION", "legacy")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self { child, leader: File::from(OwnedFd::from(leader)), seen: String::new(), folder }
    }

    /// Reads the terminal until this text has come.
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.seen.contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.seen);
            self.read(100);
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    /// Reads what the terminal has within so many milliseconds.
    fn read(&mut self, within: u8) {
        let mut fds = [PollFd::new(self.leader.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(within)).unwrap() == 1 {
            let mut buffer = [0; 65536];
            // EIO: the other end is closed.
            let count = self.leader.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "it ended: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn keys(&mut self, keys: &[u8]) {
        self.leader.write_all(keys).unwrap();
    }

    /// Answers the dialog and waits for the prompt.
    fn registered(&mut self) -> File {
        self.until("\x1b[c");
        self.keys(b"\r");
        self.until("for agents");
        // Blocks until the channel has it open, which it has after the handshake.
        let pushes = File::options().write(true).open(self.folder.path().join("pushes")).unwrap();
        self.wait_for_file("debug.log", "Channel notifications registered");
        pushes
    }

    /// A file has no event to wait for: the terminal is read meanwhile.
    fn wait_for_file(&mut self, name: &str, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.file(name).contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {name}");
            self.read(5);
        }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Event and tool of each hook since the last time, and the bodies.
    fn hooks(&self) -> (Vec<String>, Vec<Value>) {
        let bodies: Vec<Value> =
            self.file("hooks").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let name = |body: &Value| {
            let tool = body["tool_name"].as_str().filter(|tool| !tool.starts_with("mcp__"));
            let event = body["hook_event_name"].as_str().unwrap();
            tool.map_or_else(|| event.to_owned(), |tool| format!("{event} {tool}"))
        };
        std::fs::remove_file(self.folder.path().join("hooks")).unwrap();
        (bodies.iter().map(name).collect(), bodies)
    }

    fn status_file(&self) -> Value {
        let name = format!(".claude/sessions/{}.json", self.child.id());
        serde_json::from_str(&self.file(&name)).unwrap_or_default()
    }

    fn end(mut self) -> (ExitStatus, TempDir) {
        (self.child.wait().unwrap(), self.folder)
    }
}

fn push(pushes: &mut File, content: &str, id: &str) {
    let push = json!({"jsonrpc": "2.0", "method": "notifications/claude/channel",
        "params": {"content": content, "meta": {"chat_id": "c", "message_id": id}}});
    writeln!(pushes, "{push}").unwrap();
}

fn new() -> [&'static str; 2] {
    ["--session-id", CONVERSATION]
}

#[test]
fn a_pushed_message_becomes_a_reply_between_two_hooks() {
    let mut fake = Fake::start(&json!({}), &new());
    let mut pushes = fake.registered();
    assert_eq!(fake.status_file()["status"], "idle");
    push(&mut pushes, "hello", "m1");
    fake.until("● Done.");
    let call: Value = serde_json::from_str(&fake.file("calls")).unwrap();
    let expected = json!({"final": true, "message_id": "m1", "text": "echo: hello"});
    assert_eq!(call["params"]["arguments"], expected);
    let hooks: Vec<Value> =
        fake.file("hooks").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tag = "<channel source=\"synthesis\" chat_id=\"c\" message_id=\"m1\">\nhello\n</channel>";
    assert_eq!(hooks[0]["prompt"], tag);
    assert_eq!(hooks[1]["hook_event_name"], "Stop");
    let transcript = std::fs::metadata(hooks[1]["transcript_path"].as_str().unwrap()).unwrap();
    assert_eq!(transcript.permissions().mode() & 0o777, 0o600);
}

#[test]
fn hooks_come_in_the_order_of_the_real_cli() {
    let mut events = proto::hook::INSTALLED.to_vec();
    // As launch installs them, the reply tool is left out; here it is simply not asked about.
    events.retain(|event| *event != "SessionStart");
    let mut fake = Fake::start_with(&json!({}), &new(), &events);
    let mut pushes = fake.registered();
    let mut number = 0;
    let mut turn = |fake: &mut Fake, text: &str| {
        number += 1;
        push(&mut pushes, text, &format!("m{number}"));
        fake.wait_for_file("hooks", "\"hook_event_name\":\"Stop\"");
        while fake.status_file()["status"] != "idle" {
            fake.read(5);
        }
        let (mut names, bodies) = fake.hooks();
        // The reply's own.
        names.retain(|name| !["PreToolUse", "PostToolUse"].contains(&name.as_str()));
        (names, bodies)
    };
    const BEGIN: &str = "UserPromptSubmit";
    const END: [&str; 2] = ["MessageDisplay", "Stop"];
    let expect = |middle: &[&'static str]| [&[BEGIN], middle, &END].concat();

    let (names, bodies) = turn(&mut fake, r#"USE_TOOL Bash {"command":"echo hi"}"#);
    assert_eq!(names, expect(&["PreToolUse Bash", "PostToolUse Bash"]));
    assert_eq!(bodies[2]["tool_response"]["stdout"], "hi");
    let (names, bodies) = turn(&mut fake, r#"USE_TOOL Read {"file_path":"/nonexistent"}"#);
    assert_eq!(names, expect(&["PreToolUse Read", "PostToolUseFailure Read"]));
    assert!(bodies[2]["error"].as_str().unwrap().contains("/nonexistent"));
    let (names, bodies) = turn(&mut fake, r#"USE_TOOL WebFetch {"url":"http://x/"}"#);
    assert_eq!(names, expect(&["PreToolUse WebFetch", "PermissionRequest WebFetch"]));
    assert!(bodies[2].get("tool_use_id").is_none(), "the real one does not say whose it is");
    let calls = fake.file("calls");
    assert!(calls.lines().last().unwrap().contains("nobody is here"));
    let (names, _) = turn(&mut fake, "USE_TOOL Nonsense {}");
    assert_eq!(names, expect(&[]), "an unknown tool has no hooks");
    let claim = r#"CLAIM_TOOL {"name":"X","input":{"a":1},"output":"no","fails":true}"#;
    let (names, bodies) = turn(&mut fake, claim);
    assert_eq!(names, expect(&["PreToolUse X", "PostToolUseFailure X"]));
    assert_eq!((&bodies[1]["tool_input"], &bodies[2]["error"]), (&json!({"a": 1}), &json!("no")));
    let (names, bodies) = turn(&mut fake, "DISPLAY 2");
    assert_eq!(names, expect(&["MessageDisplay", "MessageDisplay"]));
    assert_eq!(bodies[2]["delta"], "display 2/2\n");
    assert_eq!((&bodies[1]["final"], &bodies[2]["index"]), (&json!(false), &json!(1)));
    let (names, _) = turn(&mut fake, "COMPACT");
    assert_eq!(names, expect(&["PreCompact", "PostCompact"]));
    let (names, _) = turn(&mut fake, "LATE_DISPLAY ECHO");
    assert_eq!(names, [BEGIN, "Stop", "MessageDisplay"]);
    let (names, _) = turn(&mut fake, "TWICE MUTE");
    assert_eq!(names, [BEGIN, BEGIN, "Stop", "Stop"]);
    let (_, bodies) = turn(&mut fake, "LATE_LINES 300 TEXT_ONLY late words");
    let transcript = bodies[0]["transcript_path"].as_str().unwrap();
    let transcript = Path::new(transcript).strip_prefix(fake.folder.path()).unwrap();
    let transcript = transcript.to_str().unwrap().to_owned();
    assert!(!fake.file(&transcript).contains("\"text\":\"late words\""), "not yet");
    fake.wait_for_file(&transcript, "\"text\":\"late words\"");
}

#[test]
fn attached_files_are_read() {
    let mut fake = Fake::start(&json!({}), &new());
    let mut pushes = fake.registered();
    let path = fake.folder.path().join("a.txt");
    std::fs::write(&path, "abc").unwrap();
    let meta = json!({"message_id": "m1", "file_1": path, "file_1_name": "b.txt",
        "file_2": "/nonexistent", "file_2_name": "c"});
    let push = json!({"jsonrpc": "2.0", "method": "notifications/claude/channel",
        "params": {"content": "FILES", "meta": meta}});
    writeln!(pushes, "{push}").unwrap();
    fake.until("● Done.");
    let call: Value = serde_json::from_str(&fake.file("calls")).unwrap();
    let text = call["params"]["arguments"]["text"].as_str().unwrap();
    let known = "b.txt: 3 bytes, sha256 \
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\nc: ";
    assert!(text.starts_with(known), "{text}");
}

#[test]
fn escape_interrupts_and_sigterm_ends_with_143() {
    let mut fake = Fake::start(&json!({}), &new());
    let mut pushes = fake.registered();
    push(&mut pushes, "HANG", "m1");
    fake.until("← synthesis: HANG");
    assert_eq!(fake.status_file()["status"], "busy");
    fake.keys(b"\x1b");
    fake.until("Interrupted");
    push(&mut pushes, "SAY on we go", "m2");
    fake.until("● Done.");
    assert_eq!(fake.file("hooks").matches("\"Stop\"").count(), 1, "none for the interrupted one");
    kill(Pid::from_raw(i32::try_from(fake.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let (status, folder) = fake.end();
    assert_eq!(status.code(), Some(143));
    let sessions = std::fs::read_dir(folder.path().join(".claude/sessions")).unwrap();
    assert_eq!(sessions.count(), 0);
}

#[test]
fn a_closed_terminal_is_an_orderly_end() {
    let mut fake = Fake::start(&json!({}), &new());
    let _pushes = fake.registered();
    let Fake { mut child, leader, folder: _folder, .. } = fake;
    drop(leader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_key_before_the_dialog_stands_answers_nothing() {
    let conf = json!({"dialog_delay_ms": 200, "dialog_piece_bytes": 300});
    let mut fake = Fake::start(&conf, &new());
    fake.keys(b"\r");
    fake.until("\x1b[c");
    assert!(fake.file("debug.log").contains("keys before the dialog stood"));
    fake.keys(b"\r");
    fake.until("for agents");
}

#[test]
fn a_conversation_is_new_or_resumed_but_never_both() {
    let mut fake = Fake::start(&json!({}), &["--resume", CONVERSATION]);
    fake.until("\x1b[c");
    fake.keys(b"\r");
    fake.until(&format!("No conversation found with session ID: {CONVERSATION}"));
    let (status, folder) = fake.end();
    assert_eq!(status.code(), Some(1));

    let mut fake = Fake::run(folder, &new());
    let mut pushes = fake.registered();
    push(&mut pushes, "TEXT_ONLY fine", "m1");
    fake.until("● fine");
    push(&mut pushes, "EXIT 7", "m2");
    let (status, folder) = fake.end();
    assert_eq!(status.code(), Some(7));

    let mut fake = Fake::run(folder, &new());
    fake.until(&format!("Error: Session ID {CONVERSATION} is already in use."));
    assert_eq!(fake.end().0.code(), Some(1));
}

#[test]
fn without_a_terminal_it_refuses() {
    let output = Command::new(env!("CARGO_BIN_EXE_fake-claude"))
        .env("HOME", Path::new("/nonexistent"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}
