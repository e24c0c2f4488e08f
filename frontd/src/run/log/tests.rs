use super::*;
use crate::identity::of_first_version;

fn run(limit: usize) -> Arc<Run> {
    let key = of_first_version("local", "a").unwrap();
    Run::new(RunId::random(), key, "synthesis".into(), limit)
}

fn text(text: &str) -> Event {
    Event::TextDelta { delta: text.into() }
}

fn seen(run: &Run) -> Vec<Event> {
    let mut seen = Vec::new();
    for seq in 1.. {
        match run.look(seq) {
            Look::Here(logged) => {
                assert_eq!(logged.seq, seq);
                seen.push(logged.event.clone());
            }
            Look::Stored => panic!("{seq} is not in memory"),
            Look::NotYet | Look::Over => break,
        }
    }
    seen
}

#[test]
fn nobody_sees_an_event_before_it_is_published_and_nothing_follows_the_end() {
    let run = run(1 << 20);
    run.append(text("one"));
    let last = run.append(Event::Finished(Outcome::Completed)).unwrap();
    assert!(matches!(run.look(1), Look::NotYet));
    assert!(run.is_finished() && !run.is_over());
    run.publish(1);
    assert_eq!(seen(&run), [text("one")]);
    assert!(matches!(run.look(2), Look::NotYet));
    run.publish(last.seq);
    assert!(run.is_over() && matches!(run.look(3), Look::Over));
    assert!(run.append(text("late")).is_none());
    assert_eq!(seen(&run), [text("one"), Event::Finished(Outcome::Completed)]);
}

#[test]
fn a_publication_beyond_the_end_shows_what_there_is() {
    let run = run(1 << 20);
    run.append(text("one"));
    run.publish(u64::MAX);
    assert_eq!(run.visible(), 1);
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_the_publication() {
    let run = run(1 << 20);
    let changed = run.changed();
    let woken = tokio::spawn(changed);
    tokio::task::yield_now().await;
    run.append(text("one"));
    run.publish(1);
    woken.await.unwrap();
}

#[test]
fn a_run_over_its_bound_fails_and_says_so() {
    let run = run(1000);
    let mut last = run.append(text("x")).unwrap();
    while let Some(next) = run.append(text("x")) {
        last = next;
    }
    let Event::Finished(Outcome::Failed { error }) = &last.event else { panic!("{last:?}") };
    assert_eq!(error.kind, FailureKind::TooLong);
    assert!(last.seq < 10);
}

#[test]
fn what_is_committed_leaves_memory_and_what_is_not_stays() {
    let run = run(64 << 20);
    let big = "x".repeat(WINDOW / 4);
    for _ in 0..8 {
        run.append(text(&big));
    }
    run.publish(7);
    assert!(matches!(run.look(1), Look::Stored));
    assert!(matches!(run.look(7), Look::Here(_)), "the newest visible one stays");
    assert!(matches!(run.look(8), Look::NotYet));
    let kept = (1..=7).filter(|seq| matches!(run.look(*seq), Look::Here(_))).count();
    assert!(kept <= 4, "{kept}");
}

#[test]
fn what_the_store_did_not_take_stays_in_memory_behind_a_note() {
    let run = run(64 << 20);
    run.append(text("stored"));
    run.publish(1);
    run.append(text("lost"));
    run.append(Event::Finished(Outcome::Completed));
    run.not_stored(2);
    let end = Event::Finished(Outcome::Completed);
    let note = Event::Status(Status::NotStored);
    assert_eq!(seen(&run), [text("stored"), note, text("lost"), end]);
    assert!(run.is_over() && !run.is_stored());
    run.not_stored(3);
    assert_eq!(seen(&run).len(), 4, "said once");
}

#[test]
fn an_unstored_run_is_never_forgotten() {
    let run = run(64 << 20);
    run.append(text("a"));
    run.not_stored(1);
    for _ in 0..8 {
        let logged = run.append(text(&"x".repeat(WINDOW / 4))).unwrap();
        run.publish(logged.seq);
    }
    assert_eq!(seen(&run).len(), 10);
}

#[test]
fn seats_are_bounded_and_given_back() {
    let run = run(1000);
    let first = run.seat(2).unwrap();
    let _second = run.seat(2).unwrap();
    assert!(run.seat(2).is_none());
    drop(first);
    assert!(run.seat(2).is_some());
}

#[test]
fn a_run_of_an_earlier_process_goes_on_where_it_was() {
    let key = of_first_version("local", "a").unwrap();
    let run = Run::again(RunId::random(), key, "m".into(), 5, 1 << 20, 7, 100);
    assert!(matches!(run.look(7), Look::Stored));
    assert!(matches!(run.look(8), Look::NotYet));
    let logged = run.append(text("more")).unwrap();
    assert_eq!(logged.seq, 8);
    run.publish(8);
    assert!(matches!(run.look(8), Look::Here(_)));
}
