//! claude's view: the handshake, the tool, the pushes, and clean standard output.

use std::time::{Duration, Instant};

use crate::stage::{REGISTERED, Stage, text_of};
use serde_json::json;

#[test]
fn the_discover_probe_is_refused_at_once_and_initialize_still_works() {
    let stage = Stage::new();
    let mut claude = stage.start();
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "2.1.329"},
        capabilities: {}});
    for (id, params) in [("probe-1", json!({"_meta": meta})), ("probe-2", json!({}))] {
        let probe =
            json!({"jsonrpc": "2.0", "id": id, "method": "server/discover", "params": params});
        claude.send(&probe);
        assert!(claude.answer(id)["error"].is_object());
    }
    // What a client sends that gave up waiting.
    claude.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": "probe-1"}}));
    assert_eq!(claude.initialize()["result"]["protocolVersion"], "2025-11-25");
}

#[test]
fn the_protocol_that_forbids_channels_is_never_agreed_on() {
    let stage = Stage::new();
    let mut claude = stage.start();
    let params = json!({"protocolVersion": "2026-07-28", "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"}});
    let id = claude.request("initialize", params);
    assert_eq!(claude.answer(id)["result"]["protocolVersion"], "2025-11-25");
}

#[test]
fn the_server_is_a_channel_with_one_tool() {
    let stage = Stage::new();
    let mut claude = stage.start_on_sockets();
    let answer = claude.initialize();
    let result = &answer["result"];
    assert_eq!(result["capabilities"]["experimental"]["claude/channel"], json!({}));
    assert!(result["capabilities"]["tools"].is_object());
    assert_eq!(result["serverInfo"]["name"], "synthesis");
    assert!(result["instructions"].as_str().unwrap().contains("message_id"));
    let id = claude.request("tools/list", json!({}));
    let tools = claude.answer(id)["result"]["tools"].take();
    assert_eq!(tools.as_array().unwrap().len(), 1);
    assert_eq!(tools[0]["name"], "reply");
    assert_eq!(tools[0]["inputSchema"]["required"], json!(["text"]));
}

#[test]
fn a_reply_is_sent_once_frontd_holds_it() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let id = claude.call_reply(json!({"text": "hé\u{0}llo", "message_id": "m1"}));
    let (seq, event) = link.event();
    let reply = json!({"content": "hé\u{0}llo", "final": true, "message_id": "m1"});
    assert_eq!((seq, &event["reply"]), (1, &reply));
    link.ack(seq);
    let answer = claude.answer(id);
    assert_eq!(text_of(&answer), "sent");
    assert_eq!(answer["result"]["isError"], false);
}

#[test]
fn a_refused_reply_is_an_error_that_claude_can_read() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    for refusal in ["closed", "foreign"] {
        let id = claude.call_reply(json!({"text": "x"}));
        let (seq, _) = link.event();
        link.send(json!({"type": "ack", "seq": seq, "refused": refusal}));
        let answer = claude.answer(id);
        assert_eq!(answer["result"]["isError"], true);
        assert!(text_of(&answer).starts_with("Not delivered"), "{answer}");
    }
}

#[test]
fn a_reply_without_verdict_is_queued() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let asked = Instant::now();
    let id = claude.call_reply(json!({"text": "x", "final": false}));
    link.event();
    assert_eq!(text_of(&claude.answer(id)), "queued");
    assert!(asked.elapsed() >= Duration::from_secs(2));
}

#[test]
fn bad_calls_are_told_what_is_wrong() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    for arguments in [
        json!({}),
        json!({"text": 1}),
        json!({"text": "x", "message_id": "no id"}),
        json!({"text": "x".repeat(512 * 1024 + 1)}),
        json!({"text": "\u{1}".repeat(256 * 1024)}),
    ] {
        let id = claude.call_reply(arguments);
        let answer = claude.answer(id);
        assert_eq!(answer["result"]["isError"], true, "{answer}");
    }
    let id = claude.request("tools/call", json!({"name": "shell", "arguments": {}}));
    assert!(claude.answer(id)["error"].is_object());
    link.assert_quiet();
}

#[test]
fn a_thousand_messages_reach_claude_in_order() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    for n in 0..1000 {
        link.push(&format!("m{n}"), &format!("text {n}"));
    }
    for n in 0..1000 {
        let push = claude.pushed();
        assert_eq!(push["content"], format!("text {n}"));
        let meta = json!({"chat_id": "c", "message_id": format!("m{n}"),
            "ts": "2026-11-21T00:00:00Z"});
        assert_eq!(push["meta"], meta);
    }
}

#[test]
fn a_message_waits_for_registration_and_is_pushed_once() {
    let stage = Stage::new();
    let mut claude = stage.start();
    claude.initialize();
    let mut link = stage.welcome(0);
    link.push("m1", "early");
    link.push("m1", "early");
    link.assert_quiet();
    stage.log("noise\n2026 [DEBUG] MCP server \"other\": Channel notifications registered\n");
    let (start, rest) = REGISTERED.split_at(40);
    stage.log(start);
    link.assert_quiet();
    stage.log(rest);
    assert_eq!(link.next()["type"], "registered");
    assert_eq!(claude.pushed()["content"], "early");
    link.push("m2", "late");
    assert_eq!(claude.pushed()["content"], "late");
    let mut said = [0; 64];
    let length = stage.notify.recv(&mut said).unwrap();
    assert_eq!(said[..length].trim_ascii(), b"READY=1");
}

#[test]
fn the_end_of_standard_input_ends_the_process_after_its_last_word() {
    for sockets in [false, true] {
        let stage = Stage::new();
        let mut claude = if sockets { stage.start_on_sockets() } else { stage.start() };
        claude.initialize();
        let mut link = stage.welcome(0);
        assert!(stage.at("hook.sock").exists());
        claude.call_reply(json!({"text": "last"}));
        assert_eq!(link.event().1["reply"]["content"], "last");
        claude.close_stdin();
        link.wait_closed();
        assert!(claude.exited().success());
        assert!(!stage.at("hook.sock").exists());
    }
}

#[test]
fn signals_end_the_process_tidily() {
    use nix::sys::signal::{Signal, kill};
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let stage = Stage::new();
        let mut claude = stage.start();
        let _link = stage.welcome(0);
        let pid = i32::try_from(claude.child.id()).unwrap();
        kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        assert!(claude.exited().success(), "{signal:?}");
        assert!(!stage.at("hook.sock").exists());
    }
}

#[test]
fn a_bad_environment_is_named_and_nothing_is_started() {
    let output = std::process::Command::new(crate::stage::CHANNEL).env_clear().output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("SYNTHESIS_WS_URL"));
    let output = std::process::Command::new(crate::stage::CHANNEL).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
