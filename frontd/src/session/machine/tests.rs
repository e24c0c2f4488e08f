//! The failures of earlier systems, played against the machine.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks the action it is about")]

use proto::hook::HookEvent;
use std::sync::Arc;

use crate::client::Runner;
use proto::ids::{AbsolutePath, MessageId, UnixUser};
use proto::spawn::Proof;

use super::*;
use crate::run::FailureKind;
use crate::session::pool::NoSlot;
use crate::session::turn::Prompt;

mod adopt;
mod stop;

const START: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(1800);

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: Instant,
    seq: u64,
    /// What runs were told of their state, but for `pushed`.
    told: Vec<(RunId, Status)>,
}

/// The first attempt of a message.
fn pending(run: RunId, text: &str) -> Pending {
    let prompt = Prompt {
        content: text.into(),
        context: None,
        chat_id: "chat".into(),
        files: Vec::new(),
        hashes: Vec::new(),
        fresh: false,
        model: None,
        instructions: None,
        workspace: AbsolutePath::new("/w").unwrap(),
        runner: Arc::new(Runner {
            user: UnixUser::new("al").unwrap(),
            uid: 1,
            workspace: AbsolutePath::new("/w").unwrap(),
            proof: Proof::None,
        }),
    };
    Pending::new(run, Arc::new(prompt))
}

impl Bench {
    fn new() -> Self {
        let limits = Limits { queue: 2, start: START, idle: IDLE, hooks: true };
        Self { machine: Machine::new(limits), now: Instant::now(), seq: 0, told: Vec::new() }
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(input, self.now, &mut out);
        // What waits and for what is told apart, by tests of its own.
        out.retain(|action| match action {
            Action::Run(run, Event::Status(status)) if *status != Status::Pushed => {
                self.told.push((*run, status.clone()));
                false
            }
            _ => true,
        });
        out
    }

    fn submit(&mut self, text: &str) -> (RunId, MessageId, Vec<Action>) {
        let run = RunId::random();
        let pending = pending(run, text);
        (run, run.message_id(), self.give(Input::Submit(pending)))
    }

    fn of(&mut self, process: &SessionId, said: FromProcess) -> Vec<Action> {
        self.give(Input::Of(process.clone(), said))
    }

    fn told(&mut self, process: &SessionId, event: Told) -> Vec<Action> {
        self.seq += 1;
        self.of(process, FromProcess::Told { seq: Seq(self.seq), event })
    }

    fn reply(&mut self, process: &SessionId, text: &str, id: Option<&MessageId>) -> Vec<Action> {
        let (content, message_id) = (text.to_owned(), id.cloned());
        self.told(process, Told::Reply { content, r#final: true, message_id })
    }

    fn stop_hook(&mut self, process: &SessionId, id: Option<&MessageId>) -> Vec<Action> {
        let last_assistant_message = "last words".to_owned();
        let hook = HookEvent::Stop { message_id: id.cloned(), last_assistant_message };
        self.told(process, Told::Hook(hook))
    }

    fn exit(&mut self, process: &SessionId) -> Vec<Action> {
        let (cause, screen) = (ExitCause::Signal { signal: 9 }, String::new());
        self.of(process, FromProcess::Exited { cause, screen })
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.give(Input::Tick)
    }

    /// From `Waiting` to the push.
    fn start(&mut self) -> (SessionId, Vec<Action>) {
        let actions = self.give(Input::SlotGranted);
        let [Action::Spawn(process)] = actions.as_slice() else { panic!("{actions:?}") };
        let process = process.clone();
        self.of(&process, FromProcess::Started);
        self.of(&process, FromProcess::ReadyPid(7));
        let actions = self.of(&process, FromProcess::Registered { pid: 7 });
        (process, actions)
    }

    /// A session in the middle of its first turn.
    fn working() -> (Self, SessionId, RunId, MessageId) {
        let mut bench = Self::new();
        let (run, id, _) = bench.submit("hello");
        let (process, _) = bench.start();
        bench.told(&process, Told::Received { message_id: id.clone() });
        (bench, process, run, id)
    }
}

fn outcome(actions: &[Action]) -> Option<&Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Run(_, Event::Finished(outcome)) => Some(outcome),
        _ => None,
    })
}

fn failure(actions: &[Action]) -> FailureKind {
    match outcome(actions) {
        Some(Outcome::Failed { error: failure }) => failure.kind,
        other => panic!("{other:?}"),
    }
}

fn pushes(actions: &[Action]) -> Vec<&Pending> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Push(pending) => Some(pending),
            _ => None,
        })
        .collect()
}

fn verdict(actions: &[Action]) -> Option<ReplyRefusal> {
    match actions.last() {
        Some(Action::Ack { refused, .. }) => *refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_message_waits_for_ready_and_registered_of_the_same_pid() {
    let mut bench = Bench::new();
    let (_, _, actions) = bench.submit("hello");
    assert_eq!(actions, [Action::AcquireSlot]);
    let actions = bench.give(Input::SlotGranted);
    let [Action::Spawn(process)] = actions.as_slice() else { panic!("{actions:?}") };
    let process = process.clone();
    bench.of(&process, FromProcess::Started);
    assert!(bench.of(&process, FromProcess::ReadyPid(7)).is_empty());
    assert!(bench.of(&process, FromProcess::Registered { pid: 8 }).is_empty());
    let actions = bench.of(&process, FromProcess::Registered { pid: 7 });
    assert_eq!(pushes(&actions).len(), 1);
}

#[test]
fn messages_go_one_after_the_other() {
    let (mut bench, process, run, id) = Bench::working();
    let (second, _, actions) = bench.submit("second");
    assert!(actions.is_empty());
    let actions = bench.reply(&process, "answer", Some(&id));
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
    assert!(pushes(&actions).is_empty(), "claude is still in its turn");
    assert!(actions.contains(&Action::Run(run, Event::TextDelta { delta: "answer".into() })));
    let actions = bench.stop_hook(&process, Some(&id));
    assert_eq!(pushes(&actions).first().map(|p| p.run), Some(second));
}

#[test]
fn a_full_queue_takes_no_more() {
    let (mut bench, ..) = Bench::working();
    bench.submit("two");
    assert_eq!(bench.machine.has_room(), Ok(()));
    bench.submit("three");
    assert_eq!(bench.machine.has_room(), Err(QueueFull));
}

#[test]
fn a_late_reply_is_not_the_next_turns_answer() {
    let (mut bench, process, _, first) = Bench::working();
    bench.submit("second");
    bench.stop_hook(&process, Some(&first));
    let actions = bench.reply(&process, "late", Some(&first));
    assert_eq!(verdict(&actions), Some(ReplyRefusal::Foreign));
    assert_eq!(outcome(&actions), None);
}

#[test]
fn an_unnamed_reply_counts_only_in_a_processs_first_turn() {
    let (mut bench, process, _, first) = Bench::working();
    assert_eq!(verdict(&bench.reply(&process, "one", None)), None);
    bench.stop_hook(&process, Some(&first));
    let (_, second, _) = bench.submit("second");
    bench.told(&process, Told::Received { message_id: second.clone() });
    let actions = bench.reply(&process, "late", None);
    assert_eq!(verdict(&actions), Some(ReplyRefusal::Unnamed));
    assert_eq!(outcome(&actions), None);
    assert_eq!(verdict(&bench.reply(&process, "two", Some(&second))), None);
}

#[test]
fn a_late_stop_does_not_end_the_next_turn() {
    let (mut bench, process, _, first) = Bench::working();
    let (_, second, _) = bench.submit("second");
    bench.stop_hook(&process, Some(&first));
    // Before its receipt no end can be its own, named or not.
    assert_eq!(outcome(&bench.stop_hook(&process, None)), None);
    bench.told(&process, Told::Received { message_id: second });
    assert_eq!(outcome(&bench.stop_hook(&process, Some(&first))), None);
}

#[test]
fn the_second_final_reply_is_refused() {
    let (mut bench, process, _, id) = Bench::working();
    bench.reply(&process, "one", Some(&id));
    let actions = bench.reply(&process, "two", Some(&id));
    assert_eq!(verdict(&actions), Some(ReplyRefusal::Closed));
    assert_eq!(outcome(&actions), None);
}

#[test]
fn a_turn_without_a_reply_is_answered_by_its_last_text() {
    let (mut bench, process, run, id) = Bench::working();
    let actions = bench.stop_hook(&process, Some(&id));
    assert!(actions.contains(&Action::Run(run, Event::TextDelta { delta: "last words".into() })));
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
}

#[test]
fn the_last_text_does_not_follow_a_reply() {
    let (mut bench, process, _, id) = Bench::working();
    let message_id = Some(id.clone());
    bench.told(&process, Told::Reply { content: "part".into(), r#final: false, message_id });
    let actions = bench.stop_hook(&process, Some(&id));
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
    assert!(!actions.iter().any(|a| matches!(a, Action::Run(_, Event::TextDelta { .. }))));
}

#[test]
fn a_missed_message_is_sent_once_more_after_the_exit_and_then_fails() {
    let mut bench = Bench::new();
    let (_, id, _) = bench.submit("hello");
    let (process, _) = bench.start();
    let actions = bench.told(&process, Told::Missed { message_id: id.clone() });
    assert!(actions.contains(&Action::Signal(process.clone(), Signal::Term)));
    assert!(pushes(&actions).is_empty());
    let actions = bench.exit(&process);
    assert!(actions.contains(&Action::AcquireSlot));
    let (second, actions) = bench.start();
    assert_eq!(pushes(&actions).len(), 1);
    let actions = bench.told(&second, Told::Missed { message_id: id });
    assert_eq!(failure(&actions), FailureKind::NotReceived);
}

#[test]
fn a_received_message_is_never_sent_again() {
    let (mut bench, process, _, id) = Bench::working();
    let actions = bench.told(&process, Told::Missed { message_id: id });
    assert_eq!(actions.len(), 1, "only the acknowledgement");
    let actions = bench.of(&process, FromProcess::ChannelGone);
    assert_eq!(failure(&actions), FailureKind::ProcessEnded);
    let actions = bench.exit(&process);
    assert!(!actions.contains(&Action::AcquireSlot));
}

#[test]
fn a_lost_channel_sends_an_unreceived_message_again() {
    let mut bench = Bench::new();
    bench.submit("hello");
    let (process, _) = bench.start();
    let actions = bench.of(&process, FromProcess::ChannelGone);
    assert_eq!(outcome(&actions), None);
    bench.exit(&process);
    let (_, actions) = bench.start();
    assert_eq!(pushes(&actions).len(), 1);
}

#[test]
fn a_death_by_memory_says_so() {
    let (mut bench, process, ..) = Bench::working();
    let (cause, screen) = (ExitCause::Oom {}, String::new());
    let actions = bench.of(&process, FromProcess::Exited { cause, screen });
    assert_eq!(failure(&actions), FailureKind::OutOfMemory);
}

#[test]
fn an_exit_fails_the_turn_with_its_cause_and_keeps_the_queue() {
    let (mut bench, process, ..) = Bench::working();
    bench.submit("second");
    let actions = bench.exit(&process);
    let Some(Outcome::Failed { error: failure }) = outcome(&actions) else { panic!("{actions:?}") };
    assert_eq!(failure.kind, FailureKind::ProcessEnded);
    assert!(failure.message.contains("signal 9"));
    assert!(actions.contains(&Action::AcquireSlot));
    let (_, actions) = bench.start();
    assert_eq!(pushes(&actions).len(), 1);
}

#[test]
fn the_exit_of_an_old_process_does_not_touch_its_successor() {
    let (mut bench, old, ..) = Bench::working();
    bench.submit("second");
    bench.exit(&old);
    let (_, actions) = bench.start();
    assert_eq!(pushes(&actions).len(), 1);
    let actions = bench.exit(&old);
    assert_eq!(actions, [Action::Forget(old)]);
    assert_eq!(bench.machine.state_name(), "busy");
}

#[test]
fn a_busy_session_is_neither_evicted_nor_swept() {
    let (mut bench, process, _, id) = Bench::working();
    assert!(bench.give(Input::Evict).is_empty());
    let actions = bench.pass(IDLE * 2);
    assert!(!actions.iter().any(|a| matches!(a, Action::Signal(..))), "{actions:?}");
    bench.reply(&process, "answer", Some(&id));
    assert!(bench.give(Input::Evict).is_empty(), "its turn is not over");
    bench.stop_hook(&process, Some(&id));
    let actions = bench.give(Input::Evict);
    assert_eq!(actions, [Action::Signal(process, Signal::Term)]);
}

#[test]
fn a_lost_stop_hook_does_not_leave_the_session_busy() {
    let (mut bench, process, _, id) = Bench::working();
    bench.reply(&process, "answer", Some(&id));
    let actions = bench.pass(AFTERMATH);
    assert_eq!(actions, [Action::AwaitIdle]);
    bench.told(&process, Told::Idle {});
    assert!(bench.machine.is_idle());
}

#[test]
fn a_client_that_leaves_gives_up_its_place_but_not_its_turn() {
    let (mut bench, _, run, _) = Bench::working();
    let (second, ..) = bench.submit("second");
    assert_eq!(outcome(&bench.give(Input::Leave(second))), Some(&Outcome::Aborted));
    assert!(bench.give(Input::Leave(run)).is_empty());
    assert_eq!(bench.machine.state_name(), "busy");
}

#[test]
fn a_lasting_cause_fails_all_that_wait_and_a_passing_one_only_the_first() {
    let mut bench = Bench::new();
    bench.submit("one");
    bench.submit("two");
    let actions = bench.give(Input::SlotGranted);
    let [Action::Spawn(process)] = actions.as_slice() else { panic!("{actions:?}") };
    let process = process.clone();
    let (code, message) = (RefusalCode::StartFailed, String::new());
    let actions = bench.of(&process, FromProcess::Refused { code, message });
    let ended = |actions: &[Action]| {
        actions.iter().filter(|a| matches!(a, Action::Run(_, Event::Finished(_)))).count()
    };
    assert_eq!(ended(&actions), 1);
    bench.submit("three");
    let actions = bench.give(Input::SlotGranted);
    let [Action::Spawn(process)] = actions.as_slice() else { panic!("{actions:?}") };
    let process = process.clone();
    bench.of(&process, FromProcess::Started);
    let reason = "channels feature is not currently available".to_owned();
    let actions = bench.of(&process, FromProcess::Skipped { reason });
    assert_eq!(ended(&actions), 2);
    assert_eq!(failure(&actions), FailureKind::CannotStart("channel_gated"));
}

#[test]
fn no_slot_is_said_and_a_slot_that_came_too_late_is_given_back() {
    let mut bench = Bench::new();
    let (run, ..) = bench.submit("hello");
    assert_eq!(failure(&bench.give(Input::SlotDenied(NoSlot::All))), FailureKind::NoSlot);
    bench.submit("again");
    let (other, ..) = bench.submit("more");
    bench.give(Input::Leave(other));
    assert!(bench.give(Input::Leave(run)).is_empty());
    let actions = bench.give(Input::SlotGranted);
    assert!(matches!(actions.as_slice(), [Action::Spawn(_)]));
    assert_eq!(bench.give(Input::SlotGranted), [Action::ReleaseSlot]);
}

#[test]
fn a_start_that_takes_too_long_fails_and_is_stopped() {
    let mut bench = Bench::new();
    bench.submit("hello");
    let actions = bench.give(Input::SlotGranted);
    let [Action::Spawn(process)] = actions.as_slice() else { panic!("{actions:?}") };
    let process = process.clone();
    bench.of(&process, FromProcess::Started);
    let actions = bench.pass(START);
    assert_eq!(failure(&actions), FailureKind::StartFailed);
    assert!(actions.contains(&Action::Signal(process, Signal::Term)));
}

#[test]
fn a_turn_of_claudes_own_delays_the_next_push() {
    let (mut bench, process, _, id) = Bench::working();
    bench.stop_hook(&process, Some(&id));
    bench.told(&process, Told::Hook(HookEvent::UserPromptSubmit { message_id: None }));
    let (_, _, actions) = bench.submit("next");
    assert!(pushes(&actions).is_empty());
    let actions = bench.stop_hook(&process, None);
    assert_eq!(pushes(&actions).len(), 1);
}

#[test]
fn a_first_version_channel_gets_a_cold_session_only_and_its_reply_ends_the_turn() {
    let mut bench = Bench::new();
    let process = SessionId::random();
    bench.give(Input::Attached(process.clone()));
    let (_, _, actions) = bench.submit("hello");
    assert_eq!(pushes(&actions).len(), 1);
    let actions = bench.reply(&process, "answer", None);
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
    assert!(bench.machine.is_idle());
    assert_eq!(bench.of(&process, FromProcess::ChannelGone), [Action::Detach(process)]);

    let (bench, ..) = Bench::working();
    assert!(!bench.machine.accepts_attachment());
}

#[test]
fn a_late_word_of_an_old_process_is_acknowledged_to_that_one() {
    let (mut bench, old, ..) = Bench::working();
    bench.exit(&old);
    bench.submit("next");
    let (process, _) = bench.start();
    assert_ne!(old, process);
    let actions = bench.reply(&old, "late", None);
    let refused = Some(ReplyRefusal::Closed);
    assert_eq!(actions, [Action::Ack { process: old, seq: Seq(bench.seq), refused }]);
}

#[test]
fn displayed_text_that_waits_is_acknowledged_with_what_follows_it() {
    let (mut bench, process, _, id) = Bench::working();
    let shown = HookEvent::MessageDisplay {
        turn: Some(id.clone()),
        message_id: "a".to_owned(),
        index: 0,
        delta: proto::hook::Excerpt::of("so"),
        r#final: false,
    };
    assert_eq!(bench.told(&process, Told::Hook(shown)), []);
    let actions = bench.reply(&process, "answer", Some(&id));
    assert_eq!(verdict(&actions), None);
    assert!(matches!(actions[0], Action::Run(_, Event::CommentaryDelta { .. })), "{actions:?}");
}
