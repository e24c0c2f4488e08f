//! The process of an earlier frontd: nothing is lost, nothing is pushed twice, and nobody waits for
//! ever.

use super::*;
use crate::session::turn::{Attempt, Turn};

fn pending(text: &str) -> Pending {
    super::pending(RunId::random(), text)
}

fn turn(phase: Phase, replies: u32) -> Turn {
    Turn { phase, replies, ..Turn::new(pending("open")) }
}

/// A frontd that was just started, and a process that was in this turn; `next` waits.
fn adopted(turn: Option<Turn>, next: Option<Pending>) -> (Bench, SessionId) {
    let (mut bench, process) = (Bench::new(), SessionId::random());
    let queue = next.into_iter().collect();
    let left = Left { process: process.clone(), turn, queue, turns: 1, renewed: None };
    bench.machine = Machine::adopt(bench.machine.limits.clone(), left, bench.now);
    (bench, process)
}

/// The same, ready and registered again.
fn back(turn: Option<Turn>, next: Option<Pending>) -> (Bench, SessionId, Vec<Action>) {
    let (mut bench, process) = adopted(turn, next);
    assert_eq!(bench.of(&process, FromProcess::ReadyPid(7)), []);
    assert_eq!(bench.of(&process, FromProcess::Adopted), []);
    let actions = bench.of(&process, FromProcess::Registered { pid: 7 });
    (bench, process, actions)
}

#[test]
fn an_idle_process_is_asked_and_then_gets_the_next_message() {
    let next = pending("next");
    let (mut bench, process, actions) = back(None, Some(next.clone()));
    assert_eq!(actions, [Action::AwaitIdle]);
    assert!(!bench.machine.is_idle());
    let actions = bench.told(&process, Told::Idle {});
    assert_eq!(pushes(&actions), [&next]);
    // The same process, so a reply must say which message it means.
    bench.told(&process, Told::Received { message_id: next.message.clone() });
    let actions = bench.reply(&process, "no name", None);
    assert_eq!(verdict(&actions), Some(ReplyRefusal::Unnamed));
}

#[test]
fn without_messages_it_comes_to_rest() {
    let (mut bench, process, _) = back(None, None);
    bench.told(&process, Told::Idle {});
    assert!(bench.machine.is_idle());
    let actions = bench.pass(IDLE);
    assert_eq!(actions, [Action::Signal(process, Signal::Term)]);
}

#[test]
fn a_channel_of_another_process_id_opens_nothing() {
    let (mut bench, process) = adopted(None, Some(pending("next")));
    bench.of(&process, FromProcess::ReadyPid(7));
    bench.of(&process, FromProcess::Adopted);
    assert_eq!(bench.of(&process, FromProcess::Registered { pid: 8 }), []);
    bench.told(&process, Told::Idle {});
    assert_eq!(bench.machine.state_name(), "adopting");
    assert_eq!(bench.of(&process, FromProcess::Registered { pid: 7 }), [Action::AwaitIdle]);
}

#[test]
fn a_message_without_a_receipt_is_pushed_again_to_a_channel_that_does_it_once() {
    let open = turn(Phase::Pushed, 0);
    let (mut bench, process) = adopted(Some(open.clone()), None);
    // Connected is not enough: the wrong process must not get it.
    assert_eq!(bench.machine.unreceived(), None);
    bench.of(&process, FromProcess::ReadyPid(7));
    let actions = bench.of(&process, FromProcess::Registered { pid: 7 });
    assert_eq!(actions, [Action::Push(open.pending.clone())]);
    assert_eq!(bench.machine.unreceived(), Some(&open.pending));
    // From here on as ever: no receipt, so a fresh process, once.
    let actions = bench.pass(RECEIPT_PATIENCE);
    assert_eq!(actions, [Action::Signal(process.clone(), Signal::Term)]);
    let actions = bench.exit(&process);
    assert!(actions.contains(&Action::AcquireSlot), "{actions:?}");
    let (_, actions) = bench.start();
    assert_eq!(pushes(&actions)[0].attempt, Attempt::Second);
}

#[test]
fn what_the_channel_kept_is_taken_before_spawnd_was_heard() {
    let open = turn(Phase::Pushed, 0);
    let (run, id) = (open.pending.run, open.pending.message.clone());
    let next = pending("next");
    let (mut bench, process) = adopted(Some(open), Some(next.clone()));
    bench.of(&process, FromProcess::Registered { pid: 7 });
    bench.told(&process, Told::Received { message_id: id.clone() });
    let actions = bench.reply(&process, "answer", Some(&id));
    assert_eq!(verdict(&actions), None);
    assert!(actions.contains(&Action::Run(run, Event::TextDelta { delta: "answer".into() })));
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
    let actions = bench.stop_hook(&process, Some(&id));
    assert_eq!(pushes(&actions), Vec::<&Pending>::new(), "it is not known to be ready");
    assert_eq!(bench.of(&process, FromProcess::ReadyPid(7)), [Action::AwaitIdle]);
    assert_eq!(bench.of(&process, FromProcess::Adopted), []);
    assert_eq!(pushes(&bench.told(&process, Told::Idle {})), [&next]);
}

#[test]
fn a_turn_goes_on_where_it_was() {
    let open = turn(Phase::Working, 0);
    let id = open.pending.message.clone();
    let (mut bench, process, actions) = back(Some(open), None);
    assert_eq!(actions, [Action::AwaitIdle]);
    let actions = bench.reply(&process, "answer", Some(&id));
    assert_eq!(outcome(&actions), Some(&Outcome::Completed));
    bench.stop_hook(&process, Some(&id));
    assert!(bench.machine.is_idle());
}

#[test]
fn an_unnamed_reply_counts_only_if_the_process_had_no_other_turn() {
    for (turns, refused) in [(1, None), (2, Some(ReplyRefusal::Unnamed))] {
        let (mut bench, process) = (Bench::new(), SessionId::random());
        let turn = Some(turn(Phase::Working, 0));
        let queue = Vec::new();
        let left = Left { process: process.clone(), turn, queue, turns, renewed: None };
        bench.machine = Machine::adopt(bench.machine.limits.clone(), left, bench.now);
        assert_eq!(verdict(&bench.reply(&process, "answer", None)), refused);
    }
}

#[test]
fn a_turn_that_ended_meanwhile_has_its_answer_or_lost_it() {
    for (replies, completed) in [(1, true), (0, false)] {
        let (mut bench, process, _) = back(Some(turn(Phase::Working, replies)), None);
        let actions = bench.told(&process, Told::Idle {});
        if completed {
            assert_eq!(outcome(&actions), Some(&Outcome::Completed));
        } else {
            assert_eq!(failure(&actions), FailureKind::AnswerLost);
        }
        assert!(bench.machine.is_idle());
    }
}

#[test]
fn a_run_that_was_answered_gets_no_second_end() {
    let (mut bench, process, actions) = back(Some(turn(Phase::Answered, 1)), None);
    assert_eq!(actions, [Action::AwaitIdle]);
    assert_eq!(outcome(&bench.told(&process, Told::Idle {})), None);
    let (mut bench, process, _) = back(Some(turn(Phase::Answered, 1)), None);
    assert_eq!(outcome(&bench.exit(&process)), None);
}

#[test]
fn an_exit_meanwhile_ends_the_run_and_the_queue_gets_a_fresh_process() {
    let next = pending("next");
    let (mut bench, process) = adopted(Some(turn(Phase::Working, 0)), Some(next.clone()));
    let actions = bench.exit(&process);
    assert_eq!(failure(&actions), FailureKind::ProcessEnded);
    assert!(actions.contains(&Action::Forget(process.clone())), "{actions:?}");
    assert_eq!(actions.last(), Some(&Action::AcquireSlot));
    let (successor, actions) = bench.start();
    assert_ne!(successor, process);
    assert_eq!(pushes(&actions), [&next]);
}

#[test]
fn a_channel_that_does_not_come_back_is_waited_for_no_longer_than_a_start() {
    let next = pending("next");
    let (mut bench, process) = adopted(Some(turn(Phase::Pushed, 0)), Some(next.clone()));
    assert_eq!(bench.machine.deadline(), None, "spawnd may be away for long");
    assert_eq!(bench.pass(START * 10), []);
    bench.of(&process, FromProcess::ReadyPid(7));
    bench.of(&process, FromProcess::Adopted);
    assert_eq!(bench.machine.deadline(), Some(bench.now + START));
    let actions = bench.pass(START);
    assert_eq!(failure(&actions), FailureKind::ProcessEnded);
    assert_eq!(actions.last(), Some(&Action::Signal(process.clone(), Signal::Term)));
    bench.exit(&process);
    assert_eq!(pushes(&bench.start().1), [&next]);
}

#[test]
fn a_process_that_was_still_starting_goes_through_its_start() {
    let (first, second) = (turn(Phase::Pushed, 0), pending("second"));
    let (mut bench, process) = adopted(Some(first.clone()), Some(second));
    assert!(!bench.machine.may_ask());
    bench.of(&process, FromProcess::Adopted);
    assert!(bench.machine.may_ask());
    bench.of(&process, FromProcess::Registered { pid: 7 });
    assert!(!bench.machine.may_ask());
    let actions = bench.of(&process, FromProcess::ReadyPid(7));
    assert_eq!(pushes(&actions), [&first.pending]);
}

#[test]
fn a_start_that_fails_after_the_restart_fails_what_waits() {
    let (mut bench, process) = adopted(None, Some(pending("next")));
    bench.of(&process, FromProcess::Adopted);
    let screen = "Not logged in".to_owned();
    let actions = bench.of(&process, FromProcess::UnknownDialog { screen });
    assert_eq!(failure(&actions), FailureKind::CannotStart("not_logged_in"));
}

#[test]
fn an_abort_meanwhile_is_one_esc_when_the_process_is_back() {
    let open = turn(Phase::Working, 0);
    let run = open.pending.run;
    let (mut bench, process) = adopted(Some(open), None);
    assert_eq!(bench.give(Input::Abort(run)), []);
    assert_eq!(bench.give(Input::Abort(run)), []);
    bench.of(&process, FromProcess::ReadyPid(7));
    let actions = bench.of(&process, FromProcess::Registered { pid: 7 });
    assert_eq!(actions, [Action::PressEsc, Action::AwaitIdle]);
    assert_eq!(bench.pass(ESC_PATIENCE), [Action::PressEsc, Action::AwaitIdle]);
    assert_eq!(outcome(&bench.told(&process, Told::Idle {})), Some(&Outcome::Aborted));
}

#[test]
fn a_channel_that_dies_with_what_it_kept_does_not_have_the_message_sent_again() {
    let (mut bench, process) = adopted(Some(turn(Phase::Pushed, 0)), None);
    let actions = bench.of(&process, FromProcess::ChannelGone);
    assert_eq!(failure(&actions), FailureKind::ProcessEnded);
    assert_eq!(actions.last(), Some(&Action::Signal(process, Signal::Term)));
}

#[test]
fn the_first_version_does_not_take_an_adopted_session_over() {
    let (mut bench, process) = adopted(None, None);
    bench.exit(&process);
    assert!(bench.machine.is_over() && !bench.machine.accepts_attachment());
}

fn fresh() -> Pending {
    let asked = pending("fresh");
    let prompt = crate::session::turn::Prompt { fresh: true, ..(*asked.prompt).clone() };
    Pending { prompt: prompt.into(), ..asked }
}

#[test]
fn a_fresh_conversation_waits_for_a_process_of_its_own() {
    let (mut bench, process, _) = back(None, Some(fresh()));
    let actions = bench.told(&process, Told::Idle {});
    assert!(actions.contains(&Action::Signal(process.clone(), Signal::Term)), "{actions:?}");
    assert!(pushes(&actions).is_empty());
    let actions = bench.exit(&process);
    assert!(actions.contains(&Action::Renew), "{actions:?}");
}

#[test]
fn a_process_that_was_started_for_a_fresh_conversation_gets_its_message() {
    let (mut bench, process, next) = (Bench::new(), SessionId::random(), fresh());
    let (queue, renewed) = (vec![next.clone()], Some(next.run));
    let left = Left { process: process.clone(), turn: None, queue, turns: 2, renewed };
    bench.machine = Machine::adopt(bench.machine.limits.clone(), left, bench.now);
    bench.of(&process, FromProcess::Adopted);
    bench.of(&process, FromProcess::ReadyPid(7));
    let actions = bench.of(&process, FromProcess::Registered { pid: 7 });
    assert_eq!(pushes(&actions), [&next]);
}

#[test]
fn the_tokens_of_a_turn_that_was_taken_over_are_counted() {
    let turn = turn(Phase::Working, 1);
    let (run, message_id) = (turn.pending.run, turn.pending.message.clone());
    let (mut bench, process, _) = back(Some(turn), None);
    bench.reply(&process, "answer", Some(&message_id));
    bench.stop_hook(&process, Some(&message_id));
    let usage = TokenUsage::default();
    let actions = bench.told(&process, Told::Usage { message_id, usage, exact: true });
    assert!(actions.contains(&Action::Exact(run, usage)), "{actions:?}");
}
