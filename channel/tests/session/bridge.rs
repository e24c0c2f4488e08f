//! frontd's view: who is trusted, what is sent again, what a broken frontd can do.

use std::io::{Read, Write};

use crate::stage::{Stage, TOKEN};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[test]
fn hello_comes_first_and_carries_the_secret() {
    let stage = Stage::new();
    let claude = stage.start();
    let mut link = stage.accept();
    let hello = link.next();
    assert_eq!(
        hello,
        json!({"type": "hello", "version": 3, "openclaw_session": "abcdefghijklmnopqrstuvwxyz",
            "claude_session": "d2498efe-661c-46a2-91d4-be3138aa86dc", "pid": claude.child.id(),
            "token": TOKEN, "state": "starting", "last_message_id": null, "idle": false})
    );
}

#[test]
fn a_peer_of_another_uid_is_told_nothing() {
    let mut stage = Stage::new();
    stage.frontd_uid += 1;
    let mut claude = stage.start();
    let mut heard = Vec::new();
    stage.accept_raw().read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "{} bytes", heard.len());
    let answer = claude.initialize();
    assert!(answer["result"].is_object(), "claude is served all the same");
}

#[test]
fn unacknowledged_events_are_sent_again_once_and_in_order() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let ids: Vec<u64> =
        ["a", "b", "c"].map(|text| claude.call_reply(json!({"text": text}))).to_vec();
    for _ in 0..3 {
        link.event();
    }
    link.ack(1);
    claude.answer(ids[0]);
    drop(link);
    let mut link = stage.accept();
    let hello = link.next();
    assert_eq!(hello["state"], "registered");
    link.send(json!({"type": "hello_ack", "version": 3, "received": 1}));
    assert_eq!(link.next()["type"], "registered");
    for (place, text) in [(2, "b"), (3, "c")] {
        let (seq, event) = link.event();
        assert_eq!((seq, &event["reply"]["content"]), (place, &json!(text)));
    }
    link.assert_quiet();
    link.ack(2);
    link.ack(3);
    for id in &ids[1..] {
        assert_eq!(crate::stage::text_of(&claude.answer(*id)), "sent");
    }
}

#[test]
fn what_happens_while_frontd_is_away_is_kept() {
    let stage = Stage::new();
    let (mut claude, link) = stage.ready();
    drop(link);
    claude.call_reply(json!({"text": "meanwhile"}));
    stage.run_hook("Stop", r#"{"hook_event_name":"Stop","last_assistant_message":"end"}"#);
    let mut link = stage.welcome(0);
    assert_eq!(link.next()["type"], "registered");
    // The call and the hook have come on different ways: either may have been first.
    let mut kinds = [link.event().1, link.event().1]
        .map(|event| event.as_object().unwrap().keys().next().unwrap().clone());
    kinds.sort();
    assert_eq!(kinds, ["hook", "reply"]);
    link.assert_quiet();
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_only_its_connection() {
    let long = format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    for frame in [
        Message::binary(vec![1, 2, 3]),
        Message::text("null"),
        Message::text("{"),
        Message::text(r#"{"type":"obey"}"#),
        Message::text(r#"{"type":"ping","extra":1}"#),
        Message::text(long),
        Message::text(r#"{"type":"ack","seq":99,"refused":null}"#),
        Message::text(r#"{"type":"hello_ack","version":3,"received":0}"#),
    ] {
        let stage = Stage::new();
        let (mut claude, mut link) = stage.ready();
        let shown = format!("{frame:?}").chars().take(60).collect::<String>();
        // A long one may be refused before it was written to its end.
        let _written = link.socket.send(frame);
        link.wait_closed();
        let mut link = stage.welcome(0);
        assert_eq!(link.next()["type"], "registered", "after {shown}");
        link.push("m1", "still here");
        assert_eq!(claude.pushed()["content"], "still here");
    }
}

#[test]
fn bytes_that_are_no_websocket_end_only_their_connection() {
    let stage = Stage::new();
    let mut claude = stage.start();
    let mut raw = stage.accept_raw();
    raw.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\0\xff garbage").unwrap();
    drop(raw);
    drop(stage.accept_raw());
    stage.welcome(0).assert_quiet();
    assert!(claude.initialize()["result"].is_object());
}

#[test]
fn another_version_is_not_talked_to() {
    let stage = Stage::new();
    let _claude = stage.start();
    let mut link = stage.accept();
    link.next();
    link.send(json!({"type": "hello_ack", "version": 4, "received": 0}));
    link.wait_closed();
    stage.welcome(0).assert_quiet();
}
