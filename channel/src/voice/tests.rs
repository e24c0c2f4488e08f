//! The voice's promises, each against what could break it.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use std::time::{Duration, Instant};

use proto::bridge::{
    ChannelState, Event, FromChannel, FromFrontd, Meta, ReplyRefusal, TokenUsage, VERSION,
};
use proto::hook::{Excerpt, HookBody, HookEvent};
use proto::ids::{ConversationId, MessageId, Secret, Seq, SessionId};
use proto::limits::{
    BRIDGE_FRAME, MESSAGE_TEXT, OUTBOX_BYTES, OUTBOX_FRAMES, RECEIPT_WITHIN, VERDICT_WITHIN,
};

use super::{Action, Answer, Identity, Input, Reply, Voice};

mod files;
mod hooks;

/// A voice, its clock, and what it said on the connection.
struct Stage {
    voice: Voice,
    now: Instant,
    calls: u64,
}

impl Stage {
    fn new() -> Self {
        let identity = Identity {
            session: SessionId::new("a".repeat(26)).unwrap(),
            conversation: ConversationId(Default::default()),
            token: Secret::new("0".repeat(64)).unwrap(),
            pid: 7,
        };
        Self { voice: Voice::new(identity), now: Instant::now(), calls: 0 }
    }

    /// Connected, welcomed and registered.
    fn ready() -> Self {
        let mut stage = Self::new();
        stage.connect(0);
        stage.input(Input::Registered);
        stage
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.voice.input(self.now, input, &mut out);
        self.not_found(out)
    }

    /// The conversation has no message that is sought there.
    fn not_found(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut out = Vec::new();
        for action in actions {
            match action {
                Action::Seek(message) => {
                    let sought = Input::Sought { message, found: false };
                    self.voice.input(self.now, sought, &mut out);
                }
                other => out.push(other),
            }
        }
        out
    }

    fn frame(&mut self, frame: FromFrontd) -> Vec<Action> {
        self.input(Input::Frame(frame))
    }

    fn connect(&mut self, received: u64) -> Vec<Action> {
        self.input(Input::Connected { idle: false });
        self.frame(FromFrontd::HelloAck { version: VERSION, received: Seq(received) })
    }

    fn ack(&mut self, seq: u64) -> Vec<Action> {
        self.frame(FromFrontd::Ack { seq: Seq(seq), refused: None })
    }

    fn inbound(&mut self, message: &str) -> Vec<Action> {
        self.frame(FromFrontd::Inbound {
            content: "hi".to_owned(),
            meta: meta(message),
            files: Vec::new(),
        })
    }

    fn reply(&mut self, text: &str, message: Option<&str>) -> Vec<Action> {
        self.calls += 1;
        let message_id = message.map(str::to_owned);
        let reply = Reply { text: text.to_owned(), last: true, message_id };
        self.input(Input::Reply { call: self.calls, reply, usage: None })
    }

    fn hook(&mut self, body: HookBody) -> Vec<Action> {
        self.input(Input::Hook { body, usage: None })
    }

    fn prompt(&mut self, prompt: &str, id: &str) -> Vec<Action> {
        self.hook(HookBody::UserPromptSubmit {
            prompt: prompt.to_owned(),
            prompt_id: Some(id.to_owned()),
            transcript_path: None,
        })
    }

    fn stop(&mut self, text: &str, id: &str) -> Vec<Action> {
        self.hook(HookBody::Stop {
            last_assistant_message: Some(text.to_owned()),
            prompt_id: Some(id.to_owned()),
            transcript_path: None,
        })
    }

    fn later(&mut self, by: Duration) -> Vec<Action> {
        self.now += by;
        self.input(Input::Tick)
    }
}

fn meta(message: &str) -> Meta {
    Meta { chat_id: "c".to_owned(), message_id: id(message), ts: "t".to_owned() }
}

fn id(message: &str) -> MessageId {
    MessageId::new(message).unwrap()
}

fn tag(message: &str) -> String {
    format!("<channel source=\"synthesis\" chat_id=\"c\" message_id=\"{message}\">\nhi\n</channel>")
}

fn tool() -> HookBody {
    HookBody::PreToolUse {
        tool_name: "Bash".to_owned(),
        tool_use_id: None,
        input: Excerpt::default(),
    }
}

fn frames(actions: &[Action]) -> Vec<FromChannel> {
    let text = |action: &Action| match action {
        Action::Send(text) => Some(text.clone()),
        _ => None,
    };
    actions.iter().filter_map(text).map(|text| serde_json::from_str(&text).unwrap()).collect()
}

fn events(actions: &[Action]) -> Vec<(u64, Event)> {
    let event = |frame| match frame {
        FromChannel::Event { seq, event } => Some((seq.0, event)),
        _ => None,
    };
    frames(actions).into_iter().filter_map(event).collect()
}

fn received(message: &str) -> Event {
    Event::Received { message_id: id(message) }
}

fn pushed(actions: &[Action]) -> Vec<String> {
    let push = |action: &Action| match action {
        Action::Push { meta, .. } => Some(meta.message_id.to_string()),
        _ => None,
    };
    actions.iter().filter_map(push).collect()
}

fn answers(actions: &[Action]) -> Vec<(u64, Answer)> {
    let answer = |action: &Action| match action {
        Action::Answer { call, answer } => Some((*call, *answer)),
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

fn refused(actions: &[Action]) -> bool {
    matches!(answers(actions).as_slice(), [(_, Answer::Failed(_))])
}

// ---- hello ----

#[test]
fn hello_tells_where_this_channel_stands() {
    let mut stage = Stage::new();
    let hello = |actions: &[Action]| match frames(actions).remove(0) {
        FromChannel::Hello(hello) => (hello.state, hello.last_message_id),
        _ => panic!("hello comes first"),
    };
    assert_eq!(
        hello(&stage.input(Input::Connected { idle: false })),
        (ChannelState::Starting, None)
    );
    stage.frame(FromFrontd::HelloAck { version: VERSION, received: Seq(0) });
    stage.input(Input::Registered);
    stage.inbound("m1");
    stage.input(Input::Disconnected);
    let again = stage.input(Input::Connected { idle: false });
    assert_eq!(hello(&again), (ChannelState::Registered, Some(id("m1"))));
    assert_eq!(frames(&again).len(), 1, "nothing but hello before hello_ack");
}

#[test]
fn another_version_is_hung_up_on() {
    let mut stage = Stage::new();
    stage.input(Input::Connected { idle: false });
    let out = stage.frame(FromFrontd::HelloAck { version: VERSION + 1, received: Seq(0) });
    assert!(matches!(out.as_slice(), [Action::HangUp(_)]));
    assert!(frames(&stage.reply("x", None)).is_empty(), "nothing is sent on it any more");
    assert!(stage.inbound("m1").is_empty(), "nor is the rest of it obeyed");
}

#[test]
fn frames_before_hello_ack_are_hung_up_on() {
    for frame in [
        FromFrontd::Inbound { content: String::new(), meta: meta("m"), files: Vec::new() },
        FromFrontd::Ack { seq: Seq(0), refused: None },
        FromFrontd::AwaitIdle {},
    ] {
        let mut stage = Stage::new();
        stage.input(Input::Connected { idle: false });
        assert!(matches!(stage.frame(frame).as_slice(), [Action::HangUp(_)]));
    }
    let mut stage = Stage::ready();
    let second = stage.frame(FromFrontd::HelloAck { version: VERSION, received: Seq(0) });
    assert!(matches!(second.as_slice(), [Action::HangUp(_)]));
}

#[test]
fn a_ping_is_answered() {
    let mut stage = Stage::ready();
    assert!(frames(&stage.frame(FromFrontd::Ping {})) == [FromChannel::Pong {}]);
}

// ---- registration ----

#[test]
fn a_message_before_registration_waits_for_it() {
    let mut stage = Stage::new();
    stage.connect(0);
    assert!(pushed(&stage.inbound("m1")).is_empty());
    assert_eq!(stage.voice.deadline(), None, "its receipt is not overdue before it left");
    let out = stage.input(Input::Registered);
    assert_eq!(pushed(&out), ["m1"]);
    assert!(out.contains(&Action::Announce));
    assert!(frames(&out) == [FromChannel::Registered {}]);
    assert!(stage.input(Input::Registered).is_empty(), "once");
}

#[test]
fn a_refused_channel_says_why_on_every_connection_and_pushes_nothing() {
    let mut stage = Stage::new();
    stage.connect(0);
    stage.inbound("m1");
    let reason = "hooks are off".to_owned();
    let out = stage.input(Input::Skipped { reason: reason.clone() });
    assert!(frames(&out)[0] == FromChannel::Skipped { reason: reason.clone() });
    assert_eq!(events(&out), [(1, Event::Missed { message_id: id("m1") })]);
    assert!(!out.contains(&Action::Announce));
    assert!(stage.input(Input::Registered).is_empty(), "the first verdict stands");
    assert_eq!(events(&stage.inbound("m2")), [(2, Event::Missed { message_id: id("m2") })]);
    stage.input(Input::Disconnected);
    assert!(frames(&stage.connect(2))[0] == FromChannel::Skipped { reason });
}

// ---- pushes and receipts ----

#[test]
fn the_same_message_is_pushed_once() {
    let mut stage = Stage::ready();
    assert_eq!(pushed(&stage.inbound("m1")), ["m1"]);
    assert!(pushed(&stage.inbound("m1")).is_empty());
    stage.prompt(&tag("m1"), "p1");
    assert!(pushed(&stage.inbound("m1")).is_empty(), "nor after its receipt");
    stage.input(Input::Disconnected);
    stage.connect(0);
    assert!(pushed(&stage.inbound("m1")).is_empty(), "nor on another connection");
}

#[test]
fn the_prompt_is_the_receipt_once() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    let out = stage.prompt(&tag("m1"), "p1");
    let event = HookEvent::UserPromptSubmit { message_id: Some(id("m1")) };
    assert_eq!(events(&out), [(1, received("m1")), (2, Event::Hook(event))]);
    assert_eq!(events(&stage.hook(tool())).len(), 1, "no second receipt");
    assert_eq!(stage.voice.deadline(), None, "no timer while nothing is open");
}

#[test]
fn a_batch_of_messages_is_received_together() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.inbound("m2");
    let out = stage.prompt(&format!("{}\n{}", tag("m1"), tag("m2")), "p1");
    let out = events(&out);
    assert_eq!([&out[0].1, &out[1].1], [&received("m1"), &received("m2")]);
    assert_eq!(out.len(), 3);
}

#[test]
fn a_prompt_of_somebody_else_is_no_receipt() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    for prompt in ["hello", "message_id=\"m2\"", "message_id=\"m10\"", "message_id=m1", "m1"] {
        let event = HookEvent::UserPromptSubmit { message_id: None };
        let out = events(&stage.prompt(prompt, "p"));
        assert_eq!(
            out.into_iter().map(|(_, event)| event).collect::<Vec<_>>(),
            [Event::Hook(event)]
        );
    }
}

#[test]
fn a_cut_prompt_still_names_its_message() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    let body = serde_json::json!({"hook_event_name": "UserPromptSubmit", "prompt": tag("m1")});
    let cut = body.to_string();
    let out = stage.hook(HookBody::UserPromptSubmit {
        prompt: cut[..cut.len() - 9].to_owned(),
        prompt_id: None,
        transcript_path: None,
    });
    assert_eq!(events(&out)[0].1, received("m1"));
}

#[test]
fn a_tool_or_a_reply_is_a_receipt_too() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    assert_eq!(events(&stage.hook(tool()))[0], (1, received("m1")));
    stage.inbound("m2");
    assert_eq!(events(&stage.reply("x", Some("m2")))[0], (3, received("m2")));
    stage.inbound("m3");
    assert_eq!(events(&stage.reply("x", None))[0], (5, received("m3")));
}

#[test]
fn a_late_reply_to_an_older_message_is_no_receipt() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.prompt(&tag("m1"), "p1");
    stage.inbound("m2");
    let out = events(&stage.reply("late", Some("m1")));
    assert_eq!(out.len(), 1, "the reply alone: {out:?}");
    assert!(stage.voice.deadline().is_some(), "m2 still waits");
}

#[test]
fn a_push_without_a_sign_is_looked_for_and_then_missed() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    assert_eq!(stage.voice.deadline(), Some(stage.now + RECEIPT_WITHIN));
    assert!(stage.later(RECEIPT_WITHIN - Duration::from_millis(1)).is_empty());
    assert_eq!(stage.later(Duration::from_millis(1)), [Action::Search(id("m1"))]);
    assert!(stage.later(RECEIPT_WITHIN).is_empty(), "asked once");
    let out = stage.input(Input::Searched { message: id("m1"), found: false });
    assert_eq!(events(&out), [(1, Event::Missed { message_id: id("m1") })]);
    assert_eq!(stage.voice.deadline(), None);
}

#[test]
fn a_message_that_frontd_repeats_is_not_pushed_again_and_its_fate_is_told_again() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    assert_eq!(
        stage.inbound("m1"),
        [Action::Note("frontd repeated a message; it is known already")]
    );
    stage.input(Input::Searched { message: id("m1"), found: true });
    let out = stage.inbound("m1");
    assert!(pushed(&out).is_empty());
    assert_eq!(events(&out), [(2, Event::Received { message_id: id("m1") })]);
    stage.inbound("m2");
    stage.input(Input::Searched { message: id("m2"), found: false });
    let out = stage.inbound("m2");
    assert!(pushed(&out).is_empty());
    assert_eq!(events(&out), [(4, Event::Missed { message_id: id("m2") })]);
}

#[test]
fn a_push_that_the_transcript_has_is_received() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.later(RECEIPT_WITHIN);
    let out = stage.input(Input::Searched { message: id("m1"), found: true });
    assert_eq!(events(&out), [(1, received("m1"))]);
    let late = stage.input(Input::Searched { message: id("m1"), found: false });
    assert!(late.is_empty(), "a receipt is not taken back");
}

#[test]
fn too_many_open_messages_are_missed_and_not_pushed() {
    let mut stage = Stage::ready();
    for n in 0..crate::pushes::OPEN {
        assert_eq!(pushed(&stage.inbound(&format!("m{n}"))).len(), 1);
    }
    let out = stage.inbound("over");
    assert!(pushed(&out).is_empty());
    assert_eq!(events(&out), [(1, Event::Missed { message_id: id("over") })]);
}

// ---- replies ----

#[test]
fn a_reply_is_answered_by_its_own_ack() {
    let mut stage = Stage::ready();
    assert!(answers(&stage.reply("a", None)).is_empty());
    assert!(answers(&stage.reply("b", None)).is_empty());
    assert_eq!(answers(&stage.ack(2)), [(2, Answer::Sent)], "acks may come in any order");
    assert_eq!(answers(&stage.ack(1)), [(1, Answer::Sent)]);
    assert!(stage.ack(1).is_empty(), "a doubled ack says nothing new");
    assert_eq!(stage.voice.deadline(), None);
}

#[test]
fn a_refused_reply_fails_with_a_reason() {
    for refusal in [ReplyRefusal::Closed, ReplyRefusal::Foreign, ReplyRefusal::Unnamed] {
        let mut stage = Stage::ready();
        stage.reply("a", None);
        let out = stage.frame(FromFrontd::Ack { seq: Seq(1), refused: Some(refusal) });
        assert!(refused(&out), "{refusal:?}");
    }
}

#[test]
fn a_reply_without_verdict_is_queued_and_kept() {
    let mut stage = Stage::ready();
    stage.reply("a", None);
    assert_eq!(answers(&stage.later(VERDICT_WITHIN)), [(1, Answer::Queued)]);
    assert!(stage.ack(1).is_empty(), "a late verdict finds nobody");
    let mut away = Stage::new();
    away.reply("a", None);
    assert_eq!(answers(&away.later(VERDICT_WITHIN)), [(1, Answer::Queued)]);
    assert_eq!(events(&away.connect(0)).len(), 1, "and is sent when frontd is back");
}

#[test]
fn an_ack_for_what_was_never_sent_is_hung_up_on() {
    let mut stage = Stage::ready();
    stage.reply("a", None);
    assert!(matches!(stage.ack(2).as_slice(), [Action::HangUp(_)]));
    assert_eq!(events(&stage.connect(0)).len(), 1, "and drops nothing");
}

#[test]
fn a_reply_that_no_frame_can_hold_is_refused() {
    let mut stage = Stage::ready();
    assert!(refused(&stage.reply(&"x".repeat(MESSAGE_TEXT + 1), None)));
    assert!(refused(&stage.reply(&"\u{1}".repeat(MESSAGE_TEXT / 2), None)), "once escaped");
    assert!(answers(&stage.reply(&"x".repeat(MESSAGE_TEXT), None)).is_empty());
    assert!(refused(&stage.reply("x", Some("not an id"))));
    let sent: Vec<_> =
        stage.connect(0).into_iter().filter(|a| matches!(a, Action::Send(_))).collect();
    for action in &sent {
        assert!(matches!(action, Action::Send(text) if text.len() <= BRIDGE_FRAME));
    }
}

#[test]
fn usage_comes_before_what_it_belongs_to() {
    let mut stage = Stage::ready();
    let usage = Some((id("m1"), TokenUsage { output_tokens: 3, ..TokenUsage::default() }));
    let reply = Reply { text: "a".to_owned(), last: true, message_id: None };
    let out = events(&stage.input(Input::Reply { call: 1, reply, usage }));
    assert!(matches!(out.as_slice(), [(1, Event::Usage { .. }), (2, Event::Reply { .. })]));
}

// ---- reconnects ----

#[test]
fn what_frontd_lacks_is_sent_again_in_order() {
    let mut stage = Stage::ready();
    for text in ["a", "b", "c", "d"] {
        stage.reply(text, None);
    }
    stage.ack(1);
    stage.input(Input::Disconnected);
    stage.reply("e", None);
    let out = stage.connect(2);
    let seqs: Vec<u64> = events(&out).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert!(frames(&out)[0] == FromChannel::Registered {}, "its standing comes first");
    assert_eq!(answers(&out), [(2, Answer::Queued)], "held, but its verdict was lost");
    assert_eq!(answers(&stage.ack(4)), [(4, Answer::Sent)]);
}

#[test]
fn nothing_is_sent_twice_on_one_connection() {
    let mut stage = Stage::ready();
    stage.reply("a", None);
    stage.input(Input::Disconnected);
    assert_eq!(events(&stage.connect(0)).len(), 1);
    assert_eq!(events(&stage.reply("b", None)).len(), 1);
    stage.ack(2);
    stage.input(Input::Disconnected);
    assert!(events(&stage.connect(2)).is_empty());
}

#[test]
fn places_of_an_earlier_process_are_not_used_again() {
    let mut stage = Stage::new();
    stage.reply("a", None);
    stage.reply("b", None);
    let seqs: Vec<u64> = events(&stage.connect(40)).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [41, 42]);
    assert_eq!(answers(&stage.ack(42)), [(2, Answer::Sent)], "the call moved along");
    assert_eq!(events(&stage.reply("c", None))[0].0, 43);
    let mut fresh = Stage::new();
    fresh.connect(40);
    assert_eq!(events(&fresh.reply("a", None))[0].0, 41);
}

// ---- a full outbox ----

#[test]
fn a_full_outbox_refuses_replies_but_keeps_the_ends_of_turns() {
    let mut stage = Stage::ready();
    stage.input(Input::Disconnected);
    for _ in 0..OUTBOX_FRAMES {
        stage.hook(tool());
    }
    assert!(refused(&stage.reply("a", None)));
    let mut stops = 0;
    loop {
        stops += 1;
        if stage.stop("end", "p").iter().any(|action| matches!(action, Action::Note(_))) {
            break;
        }
        assert!(stops < OUTBOX_FRAMES);
    }
    assert!(stops > 100, "room is kept for them");
    stage.stop("the last end", "p");
    let sent = events(&stage.connect(0));
    assert_eq!(sent.len(), OUTBOX_FRAMES, "bounded");
    assert!(sent.iter().zip(1..).all(|((seq, _), place)| *seq == place), "no gap");
    let owed = events(&stage.ack(1));
    let last = HookEvent::Stop { message_id: None, last_assistant_message: "the last end".into() };
    let place = OUTBOX_FRAMES as u64 + 1;
    assert_eq!(owed, [(place, Event::Hook(last))], "sent as soon as there is room, once");
    assert!(stage.ack(place).is_empty());
    assert!(answers(&stage.reply("a", None)).is_empty(), "and replies pass again");
}

#[test]
fn the_outbox_is_bounded_in_bytes() {
    let mut stage = Stage::new();
    let text = "x".repeat(MESSAGE_TEXT);
    let mut kept = 0;
    while !refused(&stage.reply(&text, None)) {
        kept += text.len();
        assert!(kept <= OUTBOX_BYTES);
        stage.later(VERDICT_WITHIN);
    }
    assert!(kept > OUTBOX_BYTES / 2);
    stage.stop(&text, "p");
    let sent = events(&stage.connect(0));
    assert!(matches!(sent.last(), Some((_, Event::Hook(HookEvent::Stop { .. })))));
}

// ---- hooks ----

#[test]
fn the_end_of_a_turn_names_its_message() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.prompt(&tag("m1"), "p1");
    stage.inbound("m2");
    stage.prompt(&tag("m2"), "p2");
    let named = |out: Vec<Action>| match events(&out).remove(0).1 {
        Event::Hook(HookEvent::Stop { message_id, .. }) => message_id,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(stage.stop("late", "p1")), Some(id("m1")));
    assert_eq!(named(stage.stop("done", "p2")), Some(id("m2")));
    assert_eq!(named(stage.stop("whose?", "p3")), None);
}

#[test]
fn an_end_that_is_too_long_for_a_frame_is_told_shortened() {
    let mut stage = Stage::ready();
    for text in ["ä".repeat(MESSAGE_TEXT), "\u{1}".repeat(MESSAGE_TEXT)] {
        let out = stage.stop(&text, "p");
        let Action::Send(frame) = &out[0] else { panic!("it is told") };
        assert!(frame.len() <= BRIDGE_FRAME);
        let Event::Hook(HookEvent::Stop { last_assistant_message, .. }) = &events(&out)[0].1 else {
            panic!("a Stop")
        };
        assert!(last_assistant_message.len() >= MESSAGE_TEXT / 4 - 1);
        assert!(text.starts_with(last_assistant_message.as_str()));
    }
}

#[test]
fn hooks_leave_in_the_order_in_which_they_came() {
    let mut stage = Stage::ready();
    let mut out = stage.hook(HookBody::SessionStart {});
    out.extend(stage.hook(tool()));
    out.extend(stage.reply("a", None));
    out.extend(stage.stop("", "p"));
    let out = events(&out);
    assert!(out.iter().zip(1..).all(|((seq, _), place)| *seq == place));
    assert!(matches!(out[1].1, Event::Hook(HookEvent::PreToolUse { .. })));
    assert!(matches!(out[2].1, Event::Reply { .. }));
    assert!(matches!(out[3].1, Event::Hook(HookEvent::Stop { .. })));
}

#[test]
fn idle_is_watched_on_request_and_forgotten_with_the_next_push() {
    let mut stage = Stage::ready();
    assert_eq!(stage.frame(FromFrontd::AwaitIdle {}), [Action::WatchIdle]);
    assert_eq!(events(&stage.input(Input::Idle)), [(1, Event::Idle {})]);
    assert!(stage.inbound("m1").contains(&Action::StopWatching));
    assert!(stage.input(Input::Disconnected).contains(&Action::StopWatching));
}

#[test]
fn what_the_conversation_has_of_an_earlier_process_is_not_pushed_again() {
    let mut stage = Stage::ready();
    let message =
        crate::fetches::Message { content: "hi".to_owned(), meta: meta("m1"), files: Vec::new() };
    let actions = stage.input(Input::Sought { message, found: true });
    assert_eq!(pushed(&actions), Vec::<String>::new());
    let told = events(&actions);
    assert_eq!(told, [(1, received("m1")), (2, Event::Idle {})]);
    // The next one is.
    assert_eq!(pushed(&stage.inbound("m2")), ["m2"]);
}
