//! Hooks and what the CLI's files prove, as frontd hears of them.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::stage::Stage;
use serde_json::{Value, json};

fn tool(event: &str, name: &str) -> String {
    json!({"hook_event_name": event, "tool_name": name, "tool_use_id": "t", "cwd": "/"}).to_string()
}

fn transcript_line(stage: &Stage, line: &Value) {
    let slug: String = std::fs::canonicalize(stage.folder.path())
        .unwrap()
        .to_str()
        .unwrap()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let folder = stage.claude_dir().join("projects").join(slug);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("d2498efe-661c-46a2-91d4-be3138aa86dc.jsonl");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

#[test]
fn hooks_arrive_in_the_order_in_which_they_ran() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let mode = std::fs::metadata(stage.at("hook.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its user alone");
    for n in 0..10 {
        stage.run_hook("PreToolUse", &tool("PreToolUse", &format!("T{n}")));
        stage.run_hook("PostToolUse", &tool("PostToolUse", &format!("T{n}")));
    }
    stage.run_hook("Stop", r#"{"hook_event_name":"Stop","last_assistant_message":"end"}"#);
    for n in 0..10 {
        let name = json!(format!("T{n}"));
        assert_eq!(link.event().1["hook"]["pre_tool_use"]["tool_name"], name);
        assert_eq!(link.event().1["hook"]["post_tool_use"]["tool_name"], name);
    }
    let (seq, event) = link.event();
    assert_eq!((seq, &event["hook"]["stop"]["last_assistant_message"]), (21, &json!("end")));
}

#[test]
fn many_hooks_at_once_are_all_heard() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let body = tool("PreToolUse", "Bash");
    let hooks: Vec<_> = (0..40).map(|_| stage.hook("PreToolUse", &body)).collect();
    for (hook, place) in hooks.into_iter().zip(1..) {
        assert!(hook.wait_with_output().unwrap().status.success());
        assert_eq!(link.event().0, place);
    }
}

#[test]
fn a_hook_with_a_broken_body_still_ends_the_turn() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let long = format!("{{\"hook_event_name\":\"Stop\",\"x\":\"{}\"}}", "x".repeat(2 << 20));
    for body in ["", "{", "null", "\0\0", long.as_str()] {
        stage.run_hook("Stop", body);
        assert!(link.event().1["hook"]["stop"].is_object());
    }
    stage.run_hook("Notification", "{");
    stage.run_hook("Notification", r#"{"hook_event_name":"Notification"}"#);
    link.assert_quiet();
}

#[test]
fn a_prompt_is_the_receipt_of_its_message() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    link.push("m1", "hi");
    claude.pushed();
    let prompt = "<channel source=\"synthesis\" chat_id=\"c\" message_id=\"m1\">\nhi\n</channel>";
    let body = json!({"hook_event_name": "UserPromptSubmit", "prompt": prompt, "prompt_id": "p"});
    stage.run_hook("UserPromptSubmit", &body.to_string());
    assert_eq!(link.event().1, json!({"received": {"message_id": "m1"}}));
    let event = link.event().1;
    assert_eq!(event, json!({"hook": {"user_prompt_submit": {"message_id": "m1"}}}));
    let body = json!({"hook_event_name": "StopFailure", "error": "unknown", "prompt_id": "p",
        "last_assistant_message": "API Error: 400 no"});
    stage.run_hook("StopFailure", &body.to_string());
    let failure = json!({"message_id": "m1", "error": "API Error: 400 no"});
    assert_eq!(link.event().1["hook"]["stop_failure"], failure);
}

#[test]
fn a_permission_request_is_denied_and_reported() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let said = stage.run_hook("PermissionRequest", &tool("PermissionRequest", "Bash"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["hookSpecificOutput"]["decision"]["behavior"], "deny");
    assert!(said.to_string().contains("permission_mode"));
    assert_eq!(link.event().1["hook"]["permission_request"]["tool_name"], "Bash");
}

#[test]
fn a_hook_never_holds_claude_up() {
    let stage = Stage::new();
    let begun = Instant::now();
    // No channel at all, and one whose socket nobody serves.
    stage.run_hook("Stop", "{}");
    let _deaf = UnixListener::bind(stage.at("hook.sock")).unwrap();
    stage.run_hook("Stop", "{}");
    let output = Command::new(crate::stage::CHANNEL)
        .args(["hook", "Stop"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    // Standard input that never ends.
    let mut child = Command::new(crate::stage::CHANNEL)
        .args(["hook", "Stop"])
        .env_clear()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(stdin);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn the_first_hook_waits_for_its_channel() {
    let stage = Stage::new();
    let hook = stage.hook("SessionStart", r#"{"hook_event_name":"SessionStart"}"#);
    let _claude = stage.start();
    let mut link = stage.welcome(0);
    assert_eq!(link.event().1, json!({"hook": {"session_start": {}}}));
    assert!(hook.wait_with_output().unwrap().status.success());
}

#[test]
fn peers_of_the_hook_socket_that_are_stuck_or_broken_harm_nobody() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let path = stage.at("hook.sock");
    let mut stuck = UnixStream::connect(&path).unwrap();
    stuck.write_all(&[0, 4]).unwrap();
    for bytes in [&[255; 64][..], &[0; 6], &[0, 2, 0, 0, 0, 0, 0xff, 0xff]] {
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ended = peer.read_to_end(&mut answer);
        assert!(answer.len() <= 1);
    }
    // It says how much comes and stops midway: a Stop is a Stop.
    let mut short = UnixStream::connect(&path).unwrap();
    short.write_all(&[0, 4, 9, 0, 0, 0]).unwrap();
    short.write_all(b"Stop{").unwrap();
    drop(short);
    assert!(link.event().1["hook"]["stop"].is_object());
    let mut answer = Vec::new();
    stuck.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "the stuck one was let go");
}

#[test]
fn settings_that_disable_hooks_are_told_at_once() {
    let mut stage = Stage::new();
    let file = stage.claude_dir().join("settings.json");
    std::fs::write(&file, r#"{"disableAllHooks":true}"#).unwrap();
    let reason = format!("hooks are disabled by disableAllHooks in {}", file.display());
    let mut claude = stage.start();
    let mut link = stage.welcome(0);
    assert_eq!(link.next(), json!({"type": "skipped", "reason": reason}));
    claude.close_stdin();
    claude.exited();
    stage.hooks = false;
    let _claude = stage.start();
    let mut link = stage.welcome(0);
    link.assert_quiet();
    assert!(!stage.at("hook.sock").exists());
}

#[test]
fn the_clis_refusal_is_passed_on() {
    let stage = Stage::new();
    let _claude = stage.start();
    let mut link = stage.welcome(0);
    stage.log(
        "2026 [DEBUG] MCP server \"synthesis\": Channel notifications skipped: channels feature \
         is not currently available\n",
    );
    let reason = "channels feature is not currently available";
    assert_eq!(link.next(), json!({"type": "skipped", "reason": reason}));
}

#[test]
fn idle_is_told_when_the_state_file_says_so() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    // The channel's parent is this test.
    let file = stage.claude_dir().join(format!("sessions/{}.json", std::process::id()));
    std::fs::write(&file, r#"{"status":"busy","statusUpdatedAt":9999999999999}"#).unwrap();
    link.send(json!({"type": "await_idle"}));
    link.assert_quiet();
    std::fs::write(&file, r#"{"status":"idle","statusUpdatedAt":9999999999999}"#).unwrap();
    assert_eq!(link.event().1, json!({"idle": {}}));
    link.assert_quiet();
}

#[test]
fn the_tokens_of_the_turn_come_before_its_end() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let said = |id: &str, output: u64| {
        json!({"type": "assistant", "message": {"id": id,
            "usage": {"input_tokens": 7, "output_tokens": output}}})
    };
    transcript_line(&stage, &said("old", 1000));
    link.push("m1", "hi");
    claude.pushed();
    transcript_line(&stage, &said("late, of the turn before", 1000));
    let tag = "<channel source=\"synthesis\" message_id=\"m1\">";
    transcript_line(&stage, &json!({"type": "user", "message": {"content": tag}}));
    transcript_line(&stage, &said("a", 1));
    transcript_line(&stage, &said("a", 40));
    claude.call_reply(json!({"text": "x", "message_id": "m1"}));
    assert_eq!(link.event().1, json!({"received": {"message_id": "m1"}}));
    let usage = |input: u64, output: u64| {
        json!({"usage": {"message_id": "m1", "exact": false, "usage": {"input_tokens": input,
            "output_tokens": output, "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0}}})
    };
    assert_eq!(link.event().1, usage(7, 40));
    assert!(link.event().1["reply"].is_object());
    transcript_line(&stage, &said("b", 2));
    stage.run_hook("Stop", r#"{"hook_event_name":"Stop"}"#);
    assert_eq!(link.event().1, usage(14, 42));
    assert!(link.event().1["hook"]["stop"].is_object());
}

#[test]
fn a_long_debug_log_is_emptied_when_something_happens() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    stage.log(&"x".repeat(5 << 20));
    link.assert_quiet();
    // A second answer: what the first ping led to is done by then.
    link.assert_quiet();
    assert_eq!(std::fs::metadata(stage.at("debug.log")).unwrap().len(), 0);
}
