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
fn a_permission_request_is_answered_at_once_and_reported_with_its_reason() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    for (name, allowed) in [("Bash", false), ("mcp__synthesis__reply", true)] {
        let said = stage.run_hook("PermissionRequest", &tool("PermissionRequest", name));
        let said: Value = serde_json::from_str(&said).unwrap();
        let decision = &said["hookSpecificOutput"]["decision"];
        assert_eq!(decision["behavior"], if allowed { "allow" } else { "deny" });
        let event = link.event().1["hook"]["permission_request"].take();
        assert_eq!((&event["tool_name"], &event["allowed"]), (&json!(name), &json!(allowed)));
        if !allowed {
            assert_eq!(event["reason"], decision["message"]);
            assert!(event["reason"].as_str().unwrap().contains("permission_mode"));
        }
    }
}

#[test]
fn tools_are_told_with_what_goes_in_and_comes_out() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let long = format!("x{}", "ü".repeat(40_000));
    let body = json!({"hook_event_name": "PreToolUse", "tool_name": "Write", "tool_use_id": "t",
        "tool_input": {"content": long}});
    stage.run_hook("PreToolUse", &body.to_string());
    let input = link.event().1["hook"]["pre_tool_use"]["input"].take();
    let text = input["text"].as_str().unwrap();
    // One byte short of the limit, which is inside a character.
    assert_eq!((input["cut"].as_bool(), text.len()), (Some(true), 64 * 1024 - 1));
    assert!(text.starts_with("{\"content\":\"xü"));
    let body = json!({"hook_event_name": "PostToolUseFailure", "tool_name": "Write",
        "tool_use_id": "t", "tool_input": {}, "error": "disk \"full\"", "is_interrupt": false,
        "duration_ms": 12});
    stage.run_hook("PostToolUseFailure", &body.to_string());
    let told = json!({"tool_name": "Write", "tool_use_id": "t", "is_error": true,
        "output": {"text": "\"disk \\\"full\\\"\"", "cut": false}, "duration_ms": 12});
    assert_eq!(link.event().1["hook"]["post_tool_use"], told);
    let body = json!({"hook_event_name": "PostToolUse", "tool_name": "Write", "tool_use_id": "t",
        "tool_response": {"ok": true}});
    stage.run_hook("PostToolUse", &body.to_string());
    let told = link.event().1["hook"]["post_tool_use"].take();
    assert_eq!(
        (&told["output"]["text"], &told["is_error"]),
        (&json!("{\"ok\":true}"), &json!(false))
    );
}

#[test]
fn displayed_text_and_compaction_are_told() {
    let stage = Stage::new();
    let (_claude, mut link) = stage.ready();
    let body = json!({"hook_event_name": "MessageDisplay", "prompt_id": "p", "turn_id": "u",
        "message_id": "d", "index": 1, "final": true, "delta": "one\ntwo"});
    stage.run_hook("MessageDisplay", &body.to_string());
    let told = json!({"turn": null, "message_id": "d", "index": 1, "final": true,
        "delta": {"text": "one\ntwo", "cut": false}});
    assert_eq!(link.event().1["hook"]["message_display"], told);
    stage.run_hook("PreCompact", r#"{"hook_event_name":"PreCompact","trigger":"auto"}"#);
    assert_eq!(link.event().1, json!({"hook": {"compacting": {}}}));
    stage.run_hook("PostCompact", "{");
    assert_eq!(link.event().1, json!({"hook": {"compacted": {}}}));
    // Without its text it says nothing.
    stage.run_hook("MessageDisplay", "{");
    link.assert_quiet();
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
    link.assert_quiet();
}

#[test]
fn exact_tokens_come_once_the_cli_has_written_them() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let said = |id: &str, stop: &str| {
        json!({"type": "assistant", "message": {"id": id, "stop_reason": stop,
            "usage": {"input_tokens": 7, "output_tokens": 1}}})
    };
    link.push("m1", "hi");
    claude.pushed();
    let tag = "<channel source=\"synthesis\" message_id=\"m1\">";
    transcript_line(&stage, &json!({"type": "user", "message": {"content": tag}}));
    transcript_line(&stage, &said("a", "tool_use"));
    stage.run_hook("Stop", r#"{"hook_event_name":"Stop"}"#);
    transcript_line(&stage, &said("b", "end_turn"));
    assert_eq!(link.event().1["usage"]["exact"], json!(false));
    assert!(link.event().1["hook"]["stop"].is_object());
    let told = link.event().1["usage"].take();
    assert_eq!((&told["message_id"], &told["exact"]), (&json!("m1"), &json!(true)));
    assert_eq!(told["usage"]["input_tokens"], json!(14));
    // A doubled end has nothing left to count.
    stage.run_hook("Stop", r#"{"hook_event_name":"Stop"}"#);
    assert!(link.event().1["hook"]["stop"].is_object());
    link.assert_quiet();
}

#[test]
fn hello_says_whether_the_cli_is_idle_since_the_last_push() {
    let stage = Stage::new();
    let file = stage.claude_dir().join(format!("sessions/{}.json", std::process::id()));
    let idle = |at: u64| {
        let state = json!({"status": "idle", "statusUpdatedAt": at});
        std::fs::write(&file, state.to_string()).unwrap();
    };
    let hello = |stage: &Stage| {
        let mut link = stage.accept();
        let hello = link.next();
        link.send(json!({"type": "hello_ack", "version": 3, "received": 0}));
        (link, hello["idle"].clone())
    };
    idle(1);
    let mut claude = stage.start();
    claude.initialize();
    let (mut link, said) = hello(&stage);
    assert_eq!(said, json!(true), "nothing was pushed");
    stage.log(crate::stage::REGISTERED);
    assert_eq!(link.next()["type"], "registered");
    link.push("m1", "hi");
    claude.pushed();
    drop(link);
    let (link, said) = hello(&stage);
    assert_eq!(said, json!(false), "that was before the push");
    idle(9_999_999_999_999);
    drop(link);
    assert_eq!(hello(&stage).1, json!(true));
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
