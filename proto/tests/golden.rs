//! Every message of every wire, against the bytes in `golden/`: what is sent is exactly that,
//! what is received is understood, and nothing unknown gets through.
//!
//! `UPDATE_GOLDEN=1 cargo test -p proto --test golden` writes the files anew; the difference is
//! then a change of protocol and wants a new version.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::path::PathBuf;

use proto::bridge::{self, ChannelState, Event, FileRef, Hello, Meta, ReplyRefusal, TokenUsage};
use proto::hook::{Excerpt, HookBody, HookEvent};
use proto::ids::{
    AbsolutePath, ConversationId, FileId, Grant, Instructions, MessageId, ModelName, PrincipalName,
    Secret, Seq, SessionId, TokenId, TokenText, UnixUser,
};
use proto::launch::{Bridge, Demand, Identity, Lifetime, Limits, Plan, Record, Sandbox};
use proto::spawn::{
    self, Answer, Call, Credential, ExitCause, FromSpawnd, Listed, ListedState, PermissionMode,
    Proof, RefusalCode, Scope, Signal, Spawn, TerminalSize, Usage, Who,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

// ---- the examples ------------------------------------------------------------------------------

const SESSION: &str = "abcdefghijklmnopqrstuvwx27";

fn session() -> SessionId {
    SessionId::new(SESSION).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId("0190f1f0-1234-4abc-8def-00112233aabb".parse().unwrap())
}

fn secret() -> Secret {
    Secret::new("0123456789abcdef".repeat(4)).unwrap()
}

fn user() -> UnixUser {
    UnixUser::new("alice").unwrap()
}

fn path(text: &str) -> AbsolutePath {
    AbsolutePath::new(text).unwrap()
}

fn message_id() -> MessageId {
    MessageId::new("m-0001").unwrap()
}

fn instructions() -> Instructions {
    Instructions::new("Answer in \"French\".\n".to_owned()).unwrap()
}

fn usage() -> Usage {
    Usage { user_micros: 1_500_000, system_micros: 250_000, max_rss_kib: 228_352 }
}

fn meta() -> Meta {
    Meta {
        chat_id: "chat \"7\"".to_owned(),
        message_id: message_id(),
        ts: "2026-11-20T23:17:00Z".to_owned(),
    }
}

fn grant() -> Grant {
    Grant::new("peer.1000.1795226807.abcdefghijklmnop".to_owned()).unwrap()
}

fn spawn_call(proof: Proof, instructions: Option<Instructions>) -> Call {
    Call::Spawn(Box::new(Spawn {
        session: session(),
        conversation: conversation(),
        user: user(),
        proof,
        workspace: path("/home/alice/ws"),
        permission_mode: PermissionMode::AcceptEdits,
        model: Some(ModelName::new("opus[1m]").unwrap()),
        terminal: TerminalSize::new(40, 120).unwrap(),
        hooks: true,
        instructions,
        secret: secret(),
    }))
}

fn to_spawnd() -> Vec<(&'static str, spawn::FromFrontd)> {
    let request = |call| spawn::FromFrontd::Request { id: 7, call };
    let token = TokenText::new("syn-abcdefghijklmnopqrstuvwxyz234567".to_owned()).unwrap();
    vec![
        ("hello", spawn::FromFrontd::Hello { version: spawn::VERSION }),
        ("verify_token", request(Call::Verify { credential: Credential::Token { token } })),
        ("verify_peer", request(Call::Verify { credential: Credential::Peer {} })),
        ("spawn", request(spawn_call(Proof::Grant { grant: grant() }, None))),
        ("spawn_told", request(spawn_call(Proof::None, Some(instructions())))),
        ("signal_term", request(Call::Signal { session: session(), signal: Signal::Term })),
        ("signal_int", request(Call::Signal { session: session(), signal: Signal::Int })),
        ("signal_kill", request(Call::Signal { session: session(), signal: Signal::Kill })),
        ("list", request(Call::List { after: None })),
        ("list_after", request(Call::List { after: Some(session()) })),
        ("adopt", request(Call::Adopt { session: session() })),
        ("forget", request(Call::Forget { session: session() })),
    ]
}

fn listed(state: ListedState) -> Listed {
    Listed { session: session(), conversation: conversation(), user: user(), state }
}

fn all_listed() -> Vec<Listed> {
    vec![
        listed(ListedState::Starting {}),
        listed(ListedState::Running { pid: 4711, resumed: true, ready: None }),
        listed(ListedState::Running { pid: 4711, resumed: false, ready: Some(4712) }),
        listed(ListedState::Exited { cause: ExitCause::Code { code: 1 }, usage: usage() }),
    ]
}

fn from_spawnd() -> Vec<(&'static str, FromSpawnd)> {
    let answer = |answer| FromSpawnd::Answer { id: 7, answer };
    let exited = |cause| {
        FromSpawnd::Event(spawn::Event::Exited { session: session(), cause, usage: usage() })
    };
    let sessions = |sessions, more| answer(Answer::Sessions { sessions, more });
    let bearer = Who::Token {
        id: TokenId::new("k3x7q2mz").unwrap(),
        principal: PrincipalName::new("team").unwrap(),
        user: user(),
        scopes: Scope::ALL.into(),
    };
    let verified = |who| answer(Answer::Verified { who, grant: grant() });
    vec![
        ("hello", FromSpawnd::Hello { version: spawn::VERSION }),
        ("verified_token", verified(bearer)),
        ("verified_peer", verified(Who::Peer { uid: 1000 })),
        ("started", answer(Answer::Started { session: session(), pid: 4711, resumed: false })),
        ("adopted", answer(Answer::Adopted { session: session() })),
        ("sessions", sessions(all_listed(), true)),
        ("sessions_none", sessions(Vec::new(), false)),
        ("done", answer(Answer::Done {})),
        (
            "refused",
            answer(Answer::Refused {
                code: RefusalCode::WorkspaceNotAllowed,
                message: "/etc is outside the roots of alice".to_owned(),
            }),
        ),
        ("ready", FromSpawnd::Event(spawn::Event::Ready { session: session(), pid: 4712 })),
        ("exited_code", exited(ExitCause::Code { code: 143 })),
        ("exited_signal", exited(ExitCause::Signal { signal: 9 })),
        ("exited_oom", exited(ExitCause::Oom {})),
        ("exited_unknown", exited(ExitCause::Unknown {})),
    ]
}

fn file_id() -> FileId {
    FileId::new("f-0001").unwrap()
}

fn hello(state: ChannelState, last_message_id: Option<MessageId>) -> bridge::FromChannel {
    let idle = last_message_id.is_some();
    bridge::FromChannel::Hello(Hello {
        version: bridge::VERSION,
        openclaw_session: session(),
        claude_session: conversation(),
        pid: 4712,
        token: secret(),
        state,
        last_message_id,
        idle,
    })
}

fn from_channel() -> Vec<(&'static str, bridge::FromChannel)> {
    use bridge::FromChannel;
    let event = |event| FromChannel::Event { seq: Seq(3), event };
    let hook = |hook| event(Event::Hook(hook));
    let (tool_name, tool_use_id) = ("Bash".to_owned(), Some("toolu_01".to_owned()));
    let input = Excerpt::of(r#"{"command":"echo hi"}"#);
    let tokens = TokenUsage {
        input_tokens: 3,
        output_tokens: 9,
        cache_read_input_tokens: 12_000,
        cache_creation_input_tokens: 800,
    };
    let usage = |exact| event(Event::Usage { message_id: message_id(), usage: tokens, exact });
    let permission = |tool_name: &str, allowed: bool, reason: &str| {
        hook(HookEvent::PermissionRequest {
            tool_name: tool_name.to_owned(),
            tool_use_id: (!allowed).then(|| "toolu_01".to_owned()),
            input: input.clone(),
            allowed,
            reason: reason.to_owned(),
        })
    };
    let reply = |content: &str, last, message_id| {
        event(Event::Reply { content: content.to_owned(), r#final: last, message_id })
    };
    vec![
        ("hello_starting", hello(ChannelState::Starting, None)),
        ("hello_registered", hello(ChannelState::Registered, Some(message_id()))),
        ("hello_skipped", hello(ChannelState::Skipped, None)),
        ("registered", FromChannel::Registered {}),
        ("skipped", FromChannel::Skipped { reason: "not currently available".to_owned() }),
        ("pong", FromChannel::Pong {}),
        ("received", event(Event::Received { message_id: message_id() })),
        ("missed", event(Event::Missed { message_id: message_id() })),
        ("reply", reply("half \u{1f600}\n", false, None)),
        ("reply_final", reply("done", true, Some(message_id()))),
        ("idle", event(Event::Idle {})),
        ("usage", usage(false)),
        ("usage_exact", usage(true)),
        ("file_get", FromChannel::FileGet { id: file_id(), offset: 524_288 }),
        ("hook_session_start", hook(HookEvent::SessionStart {})),
        (
            "hook_user_prompt_submit",
            hook(HookEvent::UserPromptSubmit { message_id: Some(message_id()) }),
        ),
        (
            "hook_pre_tool_use",
            hook(HookEvent::PreToolUse {
                tool_name: tool_name.clone(),
                tool_use_id: tool_use_id.clone(),
                input: input.clone(),
            }),
        ),
        (
            "hook_post_tool_use",
            hook(HookEvent::PostToolUse {
                tool_name: tool_name.clone(),
                tool_use_id,
                output: Excerpt::of(r#"{"stdout":"hi","stderr":""}"#),
                is_error: false,
                duration_ms: Some(61),
            }),
        ),
        (
            "hook_post_tool_use_failed",
            hook(HookEvent::PostToolUse {
                tool_name,
                tool_use_id: None,
                output: Excerpt { text: "\"Exit code 3\\n".to_owned(), cut: true },
                is_error: true,
                duration_ms: None,
            }),
        ),
        ("hook_permission_denied", permission("Bash", false, "permission_mode is plan")),
        ("hook_permission_allowed", permission("mcp__synthesis__reply", true, "our own tool")),
        (
            "hook_message_display",
            hook(HookEvent::MessageDisplay {
                turn: Some(message_id()),
                message_id: "db6006d8-73ea-4139-9796-33f3a11b8654".to_owned(),
                index: 2,
                delta: Excerpt::of("Using the tool. "),
                r#final: true,
            }),
        ),
        ("hook_compacting", hook(HookEvent::Compacting {})),
        ("hook_compacted", hook(HookEvent::Compacted {})),
        (
            "hook_stop",
            hook(HookEvent::Stop {
                message_id: Some(message_id()),
                last_assistant_message: "bye".to_owned(),
            }),
        ),
        (
            "hook_stop_failure",
            hook(HookEvent::StopFailure {
                message_id: None,
                error: "rate limit reached".to_owned(),
            }),
        ),
    ]
}

fn to_channel() -> Vec<(&'static str, bridge::FromFrontd)> {
    use bridge::FromFrontd;
    let ack = |refused| FromFrontd::Ack { seq: Seq(3), refused };
    let inbound =
        |files| FromFrontd::Inbound { content: "Say hello".to_owned(), meta: meta(), files };
    let file = FileRef {
        id: file_id(),
        name: "my \"cat\".png".to_owned(),
        media_type: "image/png".to_owned(),
        bytes: 4,
    };
    vec![
        ("hello_ack", FromFrontd::HelloAck { version: bridge::VERSION, received: Seq(0) }),
        ("inbound", inbound(Vec::new())),
        ("inbound_files", inbound(vec![file])),
        (
            "file",
            FromFrontd::File { id: file_id(), offset: 0, data: "iVBORw==".to_owned(), last: true },
        ),
        ("no_file", FromFrontd::NoFile { id: file_id() }),
        ("ack", ack(None)),
        ("ack_closed", ack(Some(ReplyRefusal::Closed))),
        ("ack_foreign", ack(Some(ReplyRefusal::Foreign))),
        ("ack_unnamed", ack(Some(ReplyRefusal::Unnamed))),
        ("await_idle", FromFrontd::AwaitIdle {}),
        ("ping", FromFrontd::Ping {}),
    ]
}

fn v1_from_channel() -> Vec<(&'static str, bridge::v1::FromChannel)> {
    use bridge::v1::FromChannel;
    let hello = |claude_session| FromChannel::Hello {
        openclaw_session: "main::42".to_owned(),
        claude_session,
        pid: 4712,
    };
    vec![
        ("hello", hello(Some(conversation().to_string()))),
        ("hello_unnamed", hello(None)),
        ("reply", FromChannel::Reply { content: "half".to_owned(), r#final: false }),
        ("reply_final", FromChannel::Reply { content: "done".to_owned(), r#final: true }),
        ("pong", FromChannel::Pong {}),
    ]
}

fn v1_to_channel() -> Vec<(&'static str, bridge::v1::FromFrontd)> {
    use bridge::v1::FromFrontd;
    vec![
        ("inbound", FromFrontd::Inbound { content: "Say hello".to_owned(), meta: meta() }),
        ("ping", FromFrontd::Ping {}),
    ]
}

fn plan() -> Plan {
    Plan {
        version: proto::launch::VERSION,
        build: "0.1.0".to_owned(),
        session: session(),
        conversation: conversation(),
        identity: Identity {
            user: user(),
            uid: 1000,
            gid: 1000,
            groups: vec![27],
            shell: "/bin/bash".to_owned(),
            drop_root: true,
        },
        terminal: TerminalSize::new(40, 120).unwrap(),
        workspace: path("/home/alice/ws"),
        workspace_root: path("/home/alice"),
        folder: path("/run/synthesis/sessions/s"),
        home: path("/home/alice"),
        config_dir: None,
        claude: path("/usr/bin/claude"),
        claude_arguments: vec!["--ide".to_owned()],
        channel: path("/usr/lib/synthesis/channel"),
        permission_mode: PermissionMode::Plan,
        model: None,
        allowed_tools: vec!["Read".to_owned(), "mcp__synthesis__*".to_owned()],
        hooks: true,
        instructions: None,
        private_home: true,
        trust_project_settings: false,
        environment: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
        lifetime: Lifetime::OutlivesSpawnd,
        limits: Limits { open_files: 65_536, tmp_bytes: 1 << 30, tmp_inodes: 100_000 },
        sandbox: Sandbox {
            demand: Demand::Required,
            hidden: vec![path("/var/lib/synthesis")],
            visible: vec![path("/home/linuxbrew")],
            ptrace: false,
        },
        bridge: Bridge {
            socket: path("/run/synthesis/bridge.sock"),
            frontd_uid: 990,
            secret: secret(),
        },
    }
}

fn plans() -> Vec<(&'static str, Plan)> {
    let full = Plan {
        config_dir: Some(path("/var/lib/synthesis/users/alice")),
        model: Some(ModelName::new("sonnet").unwrap()),
        instructions: Some(instructions()),
        ..plan()
    };
    vec![("plan", plan()), ("plan_full", full)]
}

fn records() -> Vec<(&'static str, Record)> {
    vec![
        ("exec", Record::Exec { resumed: true, missing: vec!["landlock".to_owned()] }),
        (
            "refused",
            Record::Refused {
                code: RefusalCode::ClaudeMissing,
                message: "no such file".to_owned(),
            },
        ),
        ("failed", Record::Failed { step: "setresuid".to_owned(), errno: 1 }),
    ]
}

// ---- the checks --------------------------------------------------------------------------------

/// Applies `$check` to each wire's folder, its examples, and whether it refuses unknown fields.
macro_rules! for_every_wire {
    ($check:ident) => {
        $check("spawn/from_frontd", &to_spawnd(), true);
        $check("spawn/from_spawnd", &from_spawnd(), true);
        $check("bridge/from_channel", &from_channel(), true);
        $check("bridge/from_frontd", &to_channel(), true);
        $check("bridge_v1/from_channel", &v1_from_channel(), false);
        $check("bridge_v1/from_frontd", &v1_to_channel(), false);
        $check("launch/plan", &plans(), true);
        $check("launch/record", &records(), true);
    };
}

#[test]
fn every_message_is_its_golden_file_both_ways() {
    fn check<T: Serialize + DeserializeOwned + PartialEq>(
        wire: &str,
        examples: &[(&'static str, T)],
        _strict: bool,
    ) {
        for (name, message) in examples {
            let sent = serde_json::to_string(message).unwrap();
            let file = golden(wire, name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, format!("{sent}\n")).unwrap();
            }
            let text = std::fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(text.trim_end(), sent, "{wire}/{name}: sent");
            let received: T = serde_json::from_str(&text).unwrap();
            assert!(received == *message, "{wire}/{name}: received");
        }
    }
    for_every_wire!(check);
}

#[test]
fn no_golden_file_is_without_its_message() {
    fn check<T>(wire: &str, examples: &[(&'static str, T)], _strict: bool) {
        let folder = golden(wire, "x").parent().unwrap().to_owned();
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut names: Vec<String> =
            examples.iter().map(|(name, _)| format!("{name}.json")).collect();
        files.sort();
        names.sort();
        assert_eq!(files, names, "{wire}");
    }
    for_every_wire!(check);
}

/// In each object of each message, that is in every struct, every variant (the empty ones too)
/// and beside every variant's tag.
#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    fn check<T: Serialize + DeserializeOwned>(
        wire: &str,
        examples: &[(&'static str, T)],
        strict: bool,
    ) {
        if !strict {
            return;
        }
        for (name, message) in examples {
            let good = serde_json::to_value(message).unwrap();
            let mut places = Vec::new();
            objects(&good, "", &mut places);
            assert!(!places.is_empty(), "{wire}/{name} has no object");
            for place in places {
                let mut bad = good.clone();
                let object = bad.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                object.insert("surplus".to_owned(), json!(1));
                assert!(
                    serde_json::from_value::<T>(bad.clone()).is_err(),
                    "{wire}/{name} takes a value with a field more at {place:?}"
                );
                assert!(
                    serde_json::from_str::<T>(&bad.to_string()).is_err(),
                    "{wire}/{name} takes text with a field more at {place:?}"
                );
            }
        }
    }
    for_every_wire!(check);
}

#[test]
fn a_word_that_is_no_value_of_its_enum_is_refused() {
    fn check<T: Serialize + DeserializeOwned>(
        wire: &str,
        examples: &[(&'static str, T)],
        _strict: bool,
    ) {
        // Field names whose text is one word of a closed list.
        const CLOSED: [&str; 6] = ["type", "signal", "code", "state", "refused", "permission_mode"];
        for (name, message) in examples {
            let good = serde_json::to_value(message).unwrap();
            let mut places = Vec::new();
            objects(&good, "", &mut places);
            for place in places {
                for key in CLOSED {
                    let mut bad = good.clone();
                    let object = bad.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                    let Some(Value::String(word)) = object.get_mut(key) else { continue };
                    *word = "surplus".to_owned();
                    let refused = serde_json::from_value::<T>(bad).is_err();
                    assert!(refused, "{wire}/{name}: {place}/{key}");
                }
            }
        }
    }
    for_every_wire!(check);
}

#[test]
fn a_variant_that_does_not_exist_is_refused() {
    refused::<spawn::FromFrontd>(&[
        r#"{"surplus":{}}"#,
        r#"{"request":{"id":1,"call":{"surplus":{}}}}"#,
        r#"{"request":{"id":1,"call":{"verify":{"token":"x"}}}}"#,
        r#"{"request":{"id":1,"call":{"verify":{"credential":"peer"}}}}"#,
        r#"{"request":{"id":1,"call":{"verify":{"credential":{"none":{}}}}}}"#,
        r#""hello""#,
        r#"{"request":{"id":1,"call":"list"}}"#,
    ]);
    refused::<FromSpawnd>(&[
        r#"{"event":{"surplus":{}}}"#,
        r#"{"answer":{"id":1,"answer":"done"}}"#,
        r#"{"answer":{"id":1,"answer":{"done":null}}}"#,
        r#"{"answer":{"id":1,"answer":{"surplus":{}}}}"#,
        r#"{"answer":{"id":1,"answer":{"verified":{"who":{"none":{}},"grant":"g"}}}}"#,
    ]);
    refused::<bridge::FromChannel>(&[
        r#"{"type":"surplus"}"#,
        r#"{"type":"event","seq":1,"event":{"surplus":{}}}"#,
        r#"{"type":"event","seq":1,"event":"idle"}"#,
        r#"{"type":"event","seq":1,"event":{"hook":"session_start"}}"#,
        r#"{"type":"event","seq":1,"event":{"hook":{"surplus":{}}}}"#,
    ]);
    refused::<bridge::FromFrontd>(&[r#"{"type":"surplus"}"#, r#"{"type":null}"#]);
    refused::<bridge::v1::FromChannel>(&[r#"{"type":"event","seq":1}"#, r#"{"type":"surplus"}"#]);
    refused::<Record>(&[r#""exec""#, r#"{"surplus":{}}"#]);
}

#[test]
fn two_messages_in_one_are_refused() {
    refused::<spawn::FromFrontd>(&[
        r#"{"hello":{"version":1},"hello":{"version":1}}"#,
        r#"{"hello":{"version":1}}{"hello":{"version":1}}"#,
        r#"{"request":{"id":1,"id":2,"call":{"list":{"after":null}}}}"#,
    ]);
    refused::<bridge::FromChannel>(&[
        r#"{"type":"pong","type":"pong"}"#,
        r#"{"type":"pong"} {"type":"pong"}"#,
    ]);
}

#[test]
fn what_is_no_object_is_refused() {
    let junk = ["null", "[]", "1", "\"\"", "{}", "{", "", "\u{feff}{}", "nul", "[[[[[[[["];
    refused::<spawn::FromFrontd>(&junk);
    refused::<FromSpawnd>(&junk);
    refused::<bridge::FromChannel>(&junk);
    refused::<bridge::FromFrontd>(&junk);
    refused::<bridge::v1::FromChannel>(&junk);
    refused::<Plan>(&junk);
    refused::<Record>(&junk);
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    let deep = format!(r#"{{"type":"event","seq":1,"event":{}"#, "[".repeat(500_000));
    refused::<bridge::FromChannel>(&[&deep, &"[".repeat(60_000), &"{\"hello\":".repeat(7_000)]);
}

#[test]
fn the_first_version_tolerates_unknown_fields_and_takes_a_reply_for_final() {
    let decode = |text| serde_json::from_str::<bridge::v1::FromChannel>(text).unwrap();
    assert!(
        decode(r#"{"type":"reply","content":"done","extra":{"a":1}}"#)
            == bridge::v1::FromChannel::Reply { content: "done".to_owned(), r#final: true }
    );
    assert!(decode(r#"{"type":"pong","ts":1}"#) == bridge::v1::FromChannel::Pong {});
    let hello = decode(r#"{"type":"hello","openclaw_session":"s","pid":1,"version":"0.9"}"#);
    let bridge::v1::FromChannel::Hello { claude_session, .. } = hello else { panic!() };
    assert_eq!(claude_session, None);
}

#[test]
fn a_field_of_a_checked_type_is_checked_on_the_wire() {
    let place = |pointer: &str, value: Value| {
        let mut call = serde_json::to_value(spawn_call(Proof::None, None)).unwrap();
        *call.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value::<Call>(call)
    };
    assert!(place("/spawn/hooks", json!(false)).is_ok());
    for (pointer, value) in [
        ("/spawn/session", json!("../../../etc/passwd/aaaaaaa")),
        ("/spawn/session", json!(SESSION.to_uppercase())),
        ("/spawn/conversation", json!("not-a-uuid")),
        ("/spawn/user", json!("-root")),
        ("/spawn/workspace", json!("/home/alice/../bob")),
        ("/spawn/workspace", json!("relative")),
        ("/spawn/model", json!("--dangerously-skip-permissions")),
        ("/spawn/terminal/rows", json!(9)),
        ("/spawn/terminal/columns", json!(501)),
        ("/spawn/terminal/columns", json!(65_536)),
        ("/spawn/secret", json!("short")),
        ("/spawn/proof", json!("peer")),
        ("/spawn/proof", json!({"grant": {"grant": "a b"}})),
        ("/spawn/proof", json!({"grant": {"grant": "g".repeat(513)}})),
        ("/spawn/permission_mode", json!("default")),
        ("/spawn/instructions", json!("")),
        ("/spawn/instructions", json!("a\0b")),
        ("/spawn/instructions", json!("a".repeat(proto::limits::INSTRUCTIONS + 1))),
    ] {
        assert!(place(pointer, value.clone()).is_err(), "{pointer} = {value}");
    }
}

// ---- limits ------------------------------------------------------------------------------------

#[test]
fn a_packet_over_the_limit_is_refused_before_it_is_parsed() {
    use proto::limits::SPAWN_PACKET;
    use proto::spawn::DecodeError;
    let padded = |size: usize| {
        let mut packet = br#"{"hello":{"version":1}}"#.to_vec();
        packet.resize(size, b' ');
        packet
    };
    assert!(spawn::decode::<spawn::FromFrontd>(&padded(SPAWN_PACKET)).is_ok());
    let refused = |packet: &[u8]| spawn::decode::<spawn::FromFrontd>(packet).err();
    assert!(matches!(refused(b""), Some(DecodeError::Empty)));
    let long = padded(SPAWN_PACKET + 1);
    assert!(matches!(refused(&long), Some(DecodeError::TooLong(n)) if n == SPAWN_PACKET + 1));
    assert!(matches!(refused(b"\xff\xfe"), Some(DecodeError::Json(_))));
}

#[test]
fn the_largest_request_fits_in_a_packet() {
    use proto::limits::{INSTRUCTIONS, INSTRUCTIONS_JSON, PATH, SPAWN_PACKET};
    let doubled = "\\".repeat(INSTRUCTIONS_JSON / 2 - 1);
    let controls = "\u{1}".repeat(INSTRUCTIONS_JSON / 6 - 1);
    let mixed = format!("{}{}", "a".repeat(INSTRUCTIONS - 3000), "\n".repeat(3000));
    for longest in ["a".repeat(INSTRUCTIONS), doubled, controls, mixed] {
        let instructions = Instructions::new(longest).unwrap();
        let grant = Grant::new("g".repeat(512)).unwrap();
        let call = spawn_call(Proof::Grant { grant }, Some(instructions));
        let Call::Spawn(mut spawn) = call else { panic!() };
        // Backslashes double in JSON: the longest form that a path can take.
        spawn.workspace = path(&format!("/{}", "\\".repeat(PATH - 1)));
        spawn.user = UnixUser::new("u".repeat(32)).unwrap();
        spawn.model = Some(ModelName::new("m".repeat(128)).unwrap());
        spawn.permission_mode = PermissionMode::BypassPermissions;
        spawn.terminal = TerminalSize::new(500, 500).unwrap();
        spawn.hooks = false;
        let request = spawn::FromFrontd::Request { id: u64::MAX, call: Call::Spawn(spawn) };
        let length = spawn::encode(&request).len();
        assert!(length <= SPAWN_PACKET, "{length}");
    }
}

#[test]
fn a_full_page_of_the_list_fits_in_a_packet() {
    let usage = Usage { user_micros: u64::MAX, system_micros: u64::MAX, max_rss_kib: u64::MAX };
    let state = ListedState::Exited { cause: ExitCause::Signal { signal: i32::MIN }, usage };
    let longest = Listed { user: UnixUser::new("u".repeat(32)).unwrap(), ..listed(state) };
    let sessions = vec![longest; proto::limits::LIST_PAGE];
    let page =
        FromSpawnd::Answer { id: u64::MAX, answer: Answer::Sessions { sessions, more: true } };
    assert!(spawn::encode(&page).len() <= proto::limits::SPAWN_PACKET);
}

#[test]
fn a_message_at_its_limit_fits_in_a_frame() {
    let frame = |content: String| {
        let message = bridge::FromFrontd::Inbound { content, meta: meta(), files: Vec::new() };
        serde_json::to_vec(&message).unwrap().len()
    };
    let text =
        "a line of text, 40 bytes with its end.\r\n".repeat(proto::limits::MESSAGE_TEXT / 40);
    assert!(frame(text) <= proto::limits::BRIDGE_FRAME);
    // Text of nothing but characters that double leaves no room for the envelope: the sender
    // measures the encoded frame, not the text alone.
    let escaped = "\n".repeat(proto::limits::MESSAGE_TEXT);
    assert!(frame(escaped) > proto::limits::BRIDGE_FRAME);
}

#[test]
fn a_piece_of_a_file_at_its_limit_fits_in_a_frame() {
    let data = "A".repeat(proto::limits::FILE_CHUNK.div_ceil(3) * 4);
    let id = FileId::new("f".repeat(64)).unwrap();
    let piece = bridge::FromFrontd::File { id, offset: u64::MAX, data, last: true };
    assert!(serde_json::to_vec(&piece).unwrap().len() <= proto::limits::BRIDGE_FRAME);
}

#[test]
fn the_longest_hook_fits_in_a_frame() {
    // The longest escape is that of a control character: six bytes for one.
    let event = HookEvent::PreToolUse {
        tool_name: "\u{1}".repeat(256),
        tool_use_id: Some("\u{1}".repeat(256)),
        input: Excerpt::of("\u{1}".repeat(proto::limits::HOOK_TEXT + 1)),
    };
    let event = bridge::FromChannel::Event { seq: Seq(u64::MAX), event: Event::Hook(event) };
    assert!(serde_json::to_vec(&event).unwrap().len() <= proto::limits::BRIDGE_FRAME);
}

#[test]
fn an_excerpt_is_cut_between_characters_and_says_so() {
    let limit = proto::limits::HOOK_TEXT;
    let whole = Excerpt::of("x".repeat(limit));
    assert!(!whole.cut && whole.text.len() == limit);
    let cut = Excerpt::of(format!("{}\u{1f600}", "x".repeat(limit - 1)));
    assert!(cut.cut && cut.text.len() == limit - 1);
}

// ---- what the CLI tells its hooks ----------------------------------------------------------------

#[test]
fn a_tools_input_and_output_are_kept_as_the_cli_wrote_them() {
    let read = |text: &str| serde_json::from_str::<HookBody>(text).unwrap();
    let body = r#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"t",
        "tool_input":{"z":1.50,"a":"\u00e9"},"effort":{"level":"medium"}}"#;
    let input = Excerpt::of(r#"{"z":1.50,"a":"\u00e9"}"#);
    let (tool_name, tool_use_id) = ("Bash".to_owned(), Some("t".to_owned()));
    assert_eq!(read(body), HookBody::PreToolUse { tool_name, tool_use_id, input });
    for (body, text, was_failure) in [
        (r#"{"hook_event_name":"PostToolUse","tool_name":"B","tool_response":[1]}"#, "[1]", false),
        (
            r#"{"hook_event_name":"PostToolUseFailure","tool_name":"B","error":"no"}"#,
            "\"no\"",
            true,
        ),
        (r#"{"hook_event_name":"PostToolUse","tool_name":"B"}"#, "", false),
    ] {
        let HookBody::PostToolUse { output, failed, .. } = read(body) else { panic!("{body}") };
        assert_eq!((output.text.as_str(), failed), (text, was_failure));
    }
}

#[test]
fn a_hook_without_what_it_is_about_is_broken_and_an_unknown_one_is_not() {
    refused::<HookBody>(&[
        r#"{"hook_event_name":"PreToolUse"}"#,
        r#"{"hook_event_name":"MessageDisplay","message_id":"m"}"#,
        r#"{"hook_event_name":"Stop","prompt_id":1}"#,
        r#"{"tool_name":"Bash"}"#,
    ]);
    let body = r#"{"hook_event_name":"Notification","message":"hi"}"#;
    assert_eq!(serde_json::from_str::<HookBody>(body).unwrap(), HookBody::Other);
}

// ---- helpers -----------------------------------------------------------------------------------

fn golden(wire: &str, name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    root.join(wire).join(format!("{name}.json"))
}

/// The JSON pointers of every object in `value`, `value` itself included.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            for (key, field) in fields {
                objects(field, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn refused<T: DeserializeOwned>(texts: &[&str]) {
    for text in texts {
        let shown = text.get(..60).unwrap_or(text);
        assert!(serde_json::from_str::<T>(text).is_err(), "{shown}");
    }
}

/// A new variant does not compile until it is listed here, and then it wants an example above.
#[expect(dead_code, reason = "compiled, never called")]
mod every_variant_is_classified {
    use super::*;

    fn spawn_wire(sent: &spawn::FromFrontd, received: &FromSpawnd) {
        match sent {
            spawn::FromFrontd::Hello { .. } => {}
            spawn::FromFrontd::Request { call, .. } => match call {
                Call::Verify { credential: Credential::Token { .. } | Credential::Peer {} }
                | Call::Spawn(_)
                | Call::Signal { .. }
                | Call::List { .. }
                | Call::Adopt { .. }
                | Call::Forget { .. } => {}
            },
        }
        match received {
            FromSpawnd::Hello { .. } => {}
            FromSpawnd::Answer { answer, .. } => match answer {
                Answer::Verified { who: Who::Token { .. } | Who::Peer { .. }, .. }
                | Answer::Started { .. }
                | Answer::Adopted { .. }
                | Answer::Sessions { .. }
                | Answer::Done {}
                | Answer::Refused { .. } => {}
            },
            FromSpawnd::Event(event) => match event {
                spawn::Event::Ready { .. } | spawn::Event::Exited { .. } => {}
            },
        }
    }

    fn bridge_wire(sent: &bridge::FromFrontd, received: &bridge::FromChannel) {
        match sent {
            bridge::FromFrontd::HelloAck { .. }
            | bridge::FromFrontd::Inbound { .. }
            | bridge::FromFrontd::File { .. }
            | bridge::FromFrontd::NoFile { .. }
            | bridge::FromFrontd::Ack { .. }
            | bridge::FromFrontd::AwaitIdle {}
            | bridge::FromFrontd::Ping {} => {}
        }
        match received {
            bridge::FromChannel::Hello(_)
            | bridge::FromChannel::Registered {}
            | bridge::FromChannel::Skipped { .. }
            | bridge::FromChannel::FileGet { .. }
            | bridge::FromChannel::Pong {} => {}
            bridge::FromChannel::Event { event, .. } => match event {
                Event::Received { .. }
                | Event::Missed { .. }
                | Event::Reply { .. }
                | Event::Idle {}
                | Event::Usage { .. } => {}
                Event::Hook(hook) => match hook {
                    HookEvent::SessionStart {}
                    | HookEvent::UserPromptSubmit { .. }
                    | HookEvent::PreToolUse { .. }
                    | HookEvent::PostToolUse { .. }
                    | HookEvent::PermissionRequest { .. }
                    | HookEvent::MessageDisplay { .. }
                    | HookEvent::Compacting {}
                    | HookEvent::Compacted {}
                    | HookEvent::Stop { .. }
                    | HookEvent::StopFailure { .. } => {}
                },
            },
        }
    }

    fn first_version(sent: &bridge::v1::FromFrontd, received: &bridge::v1::FromChannel) {
        match sent {
            bridge::v1::FromFrontd::Inbound { .. } | bridge::v1::FromFrontd::Ping {} => {}
        }
        match received {
            bridge::v1::FromChannel::Hello { .. }
            | bridge::v1::FromChannel::Reply { .. }
            | bridge::v1::FromChannel::Pong {} => {}
        }
    }

    fn launch_wire(record: &Record) {
        match record {
            Record::Exec { .. } | Record::Refused { .. } | Record::Failed { .. } => {}
        }
    }
}
