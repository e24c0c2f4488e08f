//! A process that is to end ends: first asked, then killed, as often as it takes.

use super::*;

#[test]
fn an_idle_session_is_stopped_after_its_time_and_killed_if_it_stays() {
    let (mut bench, process, _, id) = Bench::working();
    bench.stop_hook(&process, Some(&id));
    assert!(bench.pass(IDLE - Duration::from_secs(1)).is_empty());
    let actions = bench.pass(Duration::from_secs(1));
    assert_eq!(actions, [Action::Signal(process.clone(), Signal::Term)]);
    let actions = bench.pass(STOP_PATIENCE);
    assert_eq!(actions, [Action::Signal(process, Signal::Kill)]);
}

#[test]
fn a_message_for_a_stopping_session_waits_for_the_exit() {
    let (mut bench, process, _, id) = Bench::working();
    bench.stop_hook(&process, Some(&id));
    bench.give(Input::Evict);
    let (_, _, actions) = bench.submit("next");
    assert!(actions.is_empty());
    let actions = bench.exit(&process);
    assert_eq!(actions, [Action::Forget(process), Action::ReleaseSlot, Action::AcquireSlot]);
}

#[test]
fn an_abort_presses_esc_and_ends_when_claude_is_idle() {
    let (mut bench, process, run, _) = Bench::working();
    let actions = bench.give(Input::Abort(run));
    assert_eq!(actions, [Action::PressEsc, Action::AwaitIdle]);
    assert!(bench.give(Input::Abort(run)).is_empty(), "once is enough");
    let actions = bench.told(&process, Told::Idle {});
    assert_eq!(outcome(&actions), Some(&Outcome::Aborted));
    assert!(bench.machine.is_idle());
}

#[test]
fn a_stop_that_is_not_heeded_becomes_a_kill_until_the_exit_is_known() {
    let (mut bench, process, _, id) = Bench::working();
    bench.stop_hook(&process, Some(&id));
    let term = [Action::Signal(process.clone(), Signal::Term)];
    assert_eq!(bench.pass(IDLE), term);
    assert_eq!(bench.pass(STOP_PATIENCE - Duration::from_millis(1)), []);
    let kill = [Action::Signal(process.clone(), Signal::Kill)];
    assert_eq!(bench.pass(Duration::from_millis(1)), kill);
    assert_eq!(bench.pass(STOP_PATIENCE), kill);
    // Nothing else frees the conversation.
    let (_, _, actions) = bench.submit("next");
    assert_eq!(actions, []);
    let actions = bench.exit(&process);
    assert_eq!(actions, [Action::Forget(process), Action::ReleaseSlot, Action::AcquireSlot]);
    assert_eq!(bench.pass(STOP_PATIENCE), []);
}

#[test]
fn an_abort_escalates_from_esc_to_kill() {
    let (mut bench, process, run, _) = Bench::working();
    let esc = [Action::PressEsc, Action::AwaitIdle];
    assert_eq!(bench.give(Input::Abort(run)), esc);
    assert_eq!(bench.pass(ESC_PATIENCE), esc);
    let actions = bench.pass(ESC_PATIENCE);
    assert_eq!(outcome(&actions), Some(&Outcome::Aborted));
    assert_eq!(actions.last(), Some(&Action::Signal(process.clone(), Signal::Term)));
    assert_eq!(bench.pass(STOP_PATIENCE), [Action::Signal(process.clone(), Signal::Kill)]);
    assert_eq!(outcome(&bench.exit(&process)), None, "it was told once");
}
