//! The store as its users see it.

mod crash;
mod reopened;

use std::sync::mpsc;

use proto::bridge::TokenUsage;
use proto::ids::Seq;

use super::fixture::{
    append, begin, begin_with_key, conversation_of, end, key, key_of, new_run, open, process,
    pushed,
};
use super::*;
use crate::run::{Failure, FailureKind, Outcome};

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frontd/synthesis.db");
    (folder, path)
}

#[tokio::test]
async fn a_conversation_and_what_it_saw_are_found_after_a_restart() {
    let (_folder, path) = temporary();
    let conversation = conversation_of("alice");
    let key = conversation.key.clone();

    let store = open(&path);
    assert_eq!(store.conversation(key.clone()).await.unwrap(), None);
    let seen = |hashes: &[u64]| Change::Seen { key: key.clone(), hashes: hashes.to_vec() };
    store.committed(vec![Change::Conversation(conversation.clone()), seen(&[1])]).await.unwrap();
    store.committed(vec![seen(&[u64::MAX, 2])]).await.unwrap();
    let other = store.clone();
    drop(store);
    let known = Some((conversation.clone(), vec![1, u64::MAX, 2]));
    assert_eq!(other.conversation(key.clone()).await.unwrap(), known);
    drop(other);

    let store = open(&path);
    assert_eq!(store.conversation(key.clone()).await.unwrap(), known);
    // The same once more changes nothing; another one has seen nothing.
    store.committed(vec![Change::Conversation(conversation)]).await.unwrap();
    assert_eq!(store.conversation(key.clone()).await.unwrap(), known);
    let second = conversation_of("alice");
    store.committed(vec![Change::Conversation(second.clone())]).await.unwrap();
    assert_eq!(store.conversation(key).await.unwrap(), Some((second, Vec::new())));
}

#[tokio::test]
async fn of_what_was_seen_the_latest_stays() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let conversation = conversation_of("alice");
    let key = conversation.key.clone();
    let all: Vec<u64> = (0..SEEN as u64 + 10).collect();
    let seen = Change::Seen { key: key.clone(), hashes: all.clone() };
    store.committed(vec![Change::Conversation(conversation), seen]).await.unwrap();
    let (_, kept) = store.conversation(key).await.unwrap().unwrap();
    assert_eq!(kept, all[10..]);
}

#[tokio::test]
async fn a_run_is_told_as_it_goes_and_when_it_is_over() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let run = RunId::random();
    assert_eq!(store.run(run).await.unwrap(), None);
    store.committed(vec![begin(run, "a"), append(run, 1, "one")]).await.unwrap();
    let bytes = crate::run::Logged::new(1, 2, crate::run::Event::TextDelta { delta: "one".into() })
        .json
        .len() as u64;
    let new = new_run(run, "a");
    let under_way = RunRow {
        id: run,
        number: 1,
        key: key("a"),
        model: new.model,
        created: new.created,
        finished: None,
        outcome: None,
        first_seq: 1,
        last_seq: 1,
        bytes,
        pushed: false,
        prompt: Some(new.prompt),
        client_message: new.client_message,
        usage: None,
        incomplete: false,
    };
    assert_eq!(store.run(run).await.unwrap().as_ref(), Some(&under_way));
    assert_eq!(store.unfinished().await.unwrap(), std::slice::from_ref(&under_way));
    assert_eq!(store.file(run, 0).await.unwrap().as_ref(), new.files.first());
    assert_eq!(store.file(run, 1).await.unwrap(), None);

    let prompt = Some("try again".to_owned());
    store
        .committed(vec![Change::Progress { run, pushed: true, prompt: prompt.clone() }])
        .await
        .unwrap();
    store.committed(vec![Change::Progress { run, pushed: true, prompt: None }]).await.unwrap();
    let pushed = RunRow { pushed: true, prompt, ..under_way };
    assert_eq!(store.run(run).await.unwrap().as_ref(), Some(&pushed));

    let failure = Failure::new(FailureKind::ModelError, "no");
    let outcome = Outcome::Failed { error: failure };
    let ended = Change::End { run, outcome: outcome.clone(), at: 9_000 };
    let usage = TokenUsage { input_tokens: 1, output_tokens: 2, ..TokenUsage::default() };
    store.committed(vec![append(run, 2, "two"), ended]).await.unwrap();
    store.committed(vec![Change::Usage { run, usage }]).await.unwrap();
    let over = RunRow {
        finished: Some(9_000),
        outcome: Some(outcome),
        last_seq: 2,
        bytes: 2 * bytes,
        prompt: None,
        usage: Some(usage),
        ..pushed
    };
    assert_eq!(store.run(run).await.unwrap(), Some(over));
    assert_eq!(store.unfinished().await.unwrap(), []);
    assert_eq!(store.file(run, 0).await.unwrap(), None);

    // Nothing follows the end.
    store.committed(vec![append(run, 3, "late"), end(run, 99)]).await.unwrap();
    let row = store.run(run).await.unwrap().unwrap();
    assert_eq!((row.last_seq, row.finished), (2, Some(9_000)));
}

#[tokio::test]
async fn a_page_of_events_is_bounded_in_number_and_bytes() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let (many, large) = (RunId::random(), RunId::random());
    let mut changes = vec![begin(many, "a"), begin(large, "b")];
    changes.extend((1..=1500).map(|seq| append(many, seq, "x")));
    for seq in 1..=3 {
        changes.push(append(large, seq, &"x".repeat(300 << 10)));
    }
    changes.push(append(large, 4, &"x".repeat(900 << 10)));
    store.committed(changes).await.unwrap();
    let seqs = async |run, after| -> Vec<u64> {
        let page = store.events(run, after).await.unwrap();
        assert_eq!(page.first_seq, 1);
        page.events.iter().map(|event| event.seq).collect()
    };
    assert_eq!(seqs(many, 0).await, (1..=1024).collect::<Vec<_>>());
    assert_eq!(seqs(many, 1024).await, (1025..=1500).collect::<Vec<_>>());
    assert_eq!(seqs(many, 1500).await, [0_u64; 0]);
    assert_eq!(seqs(many, u64::MAX).await, [0_u64; 0]);
    assert_eq!(seqs(large, 0).await, [1]);
    assert_eq!(seqs(large, 3).await, [4]);
    assert_eq!(seqs(RunId::random(), 0).await, [0_u64; 0]);
    let event = &store.events(many, 6).await.unwrap().events[0];
    assert_eq!(*event.json, *super::fixture::logged(7, "x").json);
    assert_eq!(event.at, 1007);
}

#[tokio::test]
async fn a_session_s_runs_come_newest_first_page_by_page() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let runs: Vec<RunId> = (0..5).map(|_| RunId::random()).collect();
    for run in &runs {
        store.committed(vec![begin(*run, "a"), begin(RunId::random(), "b")]).await.unwrap();
    }
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = store.runs_of(key("a"), before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        found.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(found, runs.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(store.runs_of(key("nobody"), None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn sessions_are_listed_for_their_principal_alone() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let mut own = Vec::new();
    for (principal, user) in
        [("local", "b"), ("local", "a"), ("local", "c"), ("loca", "a"), ("local,", "a")]
    {
        let conversation = Conversation { key: key_of(principal, user), ..conversation_of("any") };
        store.committed(vec![Change::Conversation(conversation.clone())]).await.unwrap();
        if principal == "local" {
            own.push(conversation.key);
        }
    }
    own.sort();
    let list = async |after: Option<&SessionKey>, limit| -> Vec<SessionRow> {
        let after = after.map(ToString::to_string);
        store.sessions(Some("local".to_owned()), after, limit).await.unwrap()
    };
    let keys = |rows: &[SessionRow]| -> Vec<SessionKey> {
        rows.iter().map(|row| row.key.clone()).collect()
    };
    assert_eq!(keys(&list(None, 9).await), own);
    assert_eq!(keys(&list(None, 2).await), own[..2]);
    assert_eq!(keys(&list(Some(&own[1]), 9).await), own[2..]);
    let others =
        store.sessions(Some("local".to_owned()), Some("4:loca,".to_owned()), 9).await.unwrap();
    assert_eq!(keys(&others), own, "a strange place to begin shows nothing of others");

    // A turn counts as a use.
    let used = list(None, 1).await[0].last_used;
    let late = NewRun { created: (used + 50) * 1000, ..new_run(RunId::random(), "a") };
    store.committed(vec![Change::Begin(Box::new(late))]).await.unwrap();
    assert_eq!(list(None, 1).await[0].last_used, used + 50);
}

#[tokio::test]
async fn an_idempotency_key_is_one_run_s_within_its_principal() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let keyed = async |principal: &str, key: &str| {
        let found = store.keyed(principal.to_owned(), key.to_owned()).await.unwrap();
        found.map(|(row, fingerprint)| {
            assert_eq!(fingerprint, [7; 32]);
            row.id
        })
    };
    let (first, second) = (RunId::random(), RunId::random());
    assert_eq!(keyed("local", "k").await, None);
    store.committed(vec![begin_with_key(first, "a", "k")]).await.unwrap();
    assert_eq!(keyed("local", "k").await, Some(first));
    assert_eq!(keyed("other", "k").await, None);
    let again = store.committed(vec![begin_with_key(second, "b", "k")]).await;
    assert!(matches!(*again.unwrap_err(), StoreError::Query { .. }));
    assert!(!store.is_failing(), "the disk is well");

    // Claude had the message of the first, so nobody else may have its key, not even later.
    store.committed(vec![pushed(first), end(first, 1)]).await.unwrap();
    assert!(store.committed(vec![begin_with_key(second, "b", "k")]).await.is_err());
    assert_eq!(keyed("local", "k").await, Some(first));

    // One that ended before that did nothing.
    store.committed(vec![begin_with_key(second, "b", "l"), end(second, 1)]).await.unwrap();
    let third = RunId::random();
    store.committed(vec![begin_with_key(third, "b", "l")]).await.unwrap();
    assert_eq!(keyed("local", "l").await, Some(third));
}

#[tokio::test]
async fn of_a_forgotten_session_nothing_stays_and_of_others_everything() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let (old, open_one, other) = (RunId::random(), RunId::random(), RunId::random());
    let mut changes = Vec::new();
    for user in ["a", "b"] {
        changes.push(Change::Conversation(conversation_of(user)));
        changes.push(Change::Seen { key: key(user), hashes: vec![1, 2] });
    }
    changes.extend([
        begin_with_key(old, "a", "k"),
        append(old, 1, "x"),
        end(old, 1),
        begin(open_one, "a"),
        append(open_one, 1, "x"),
        begin(other, "b"),
        append(other, 1, "x"),
    ]);
    store.committed(changes).await.unwrap();
    store.committed(vec![Change::ForgetSession(key("a"))]).await.unwrap();
    for run in [old, open_one] {
        assert_eq!(store.run(run).await.unwrap(), None);
        assert!(store.events(run, 0).await.unwrap().events.is_empty());
        assert_eq!(store.file(run, 0).await.unwrap(), None);
    }
    assert_eq!(store.conversation(key("a")).await.unwrap(), None);
    assert_eq!(store.runs_of(key("a"), None, 9).await.unwrap(), []);
    assert_eq!(store.keyed("local".to_owned(), "k".to_owned()).await.unwrap(), None);
    // What still comes of it is passed over.
    store.committed(vec![append(open_one, 2, "late"), end(open_one, 9)]).await.unwrap();
    assert_eq!(store.run(open_one).await.unwrap(), None);

    // The session can begin anew, with numbers that no old run had.
    let newer = RunId::random();
    store.committed(vec![begin(newer, "a"), append(newer, 1, "new")]).await.unwrap();
    assert_eq!(store.run(newer).await.unwrap().unwrap().number, 4);
    assert_eq!(store.events(newer, 0).await.unwrap().events.len(), 1);

    assert_eq!(store.conversation(key("b")).await.unwrap().unwrap().1, [1, 2]);
    store.committed(vec![append(other, 2, "y")]).await.unwrap();
    assert_eq!(store.run(other).await.unwrap().unwrap().last_seq, 2);
}

#[tokio::test]
async fn a_process_is_kept_with_its_place_until_it_is_gone() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let (one, two) = (process("a", 20), process("b", 10));
    let seq = |seq| Change::ProcessSeq { process: one.id.clone(), seq: Seq(seq) };
    store
        .committed(vec![Change::ProcessUp(one.clone()), Change::ProcessUp(two.clone())])
        .await
        .unwrap();
    store.committed(vec![seq(5)]).await.unwrap();
    store.committed(vec![seq(4)]).await.unwrap();
    drop(store);
    let store = open(&path);
    let one = ProcessRow { last_seq: Seq(5), ..one };
    assert_eq!(store.processes().await.unwrap(), [two.clone(), one.clone()]);
    store.committed(vec![Change::ProcessGone(one.id)]).await.unwrap();
    assert_eq!(store.processes().await.unwrap(), [two]);
}

#[tokio::test]
async fn a_bad_batch_takes_no_other_with_it_and_callbacks_come_in_order() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let run = RunId::random();
    let other = RunId::random();
    store.committed(vec![begin(run, "a"), begin(other, "b")]).await.unwrap();
    let (sender, verdicts) = mpsc::channel();
    for changes in [
        vec![append(run, 1, "one")],
        // Its second event would leave a hole; its first is not stored either.
        vec![append(other, 1, "one"), append(other, 3, "three")],
        vec![append(run, 2, "two")],
    ] {
        let sender = sender.clone();
        let done: Done = Box::new(move |verdict| {
            let _ = sender.send(verdict.map_err(|error| error.to_string()));
        });
        store.write(Batch { changes, done: Some(done) });
    }
    store.committed(Vec::new()).await.unwrap();
    assert_eq!(store.pending(), 0);
    let verdicts: Vec<_> = verdicts.try_iter().collect();
    let refused = format!("event 3 of {other} where 2 is next");
    assert_eq!(verdicts, [Ok(()), Err(refused), Ok(())]);
    assert_eq!(store.run(run).await.unwrap().unwrap().last_seq, 2);
    assert_eq!(store.run(other).await.unwrap().unwrap().last_seq, 0);
}

#[tokio::test]
async fn a_callback_may_panic_and_may_hold_the_last_handle() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let hush = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    store.write(Batch { changes: Vec::new(), done: Some(Box::new(|_| panic!("on purpose"))) });
    store.committed(vec![begin(RunId::random(), "a")]).await.unwrap();
    std::panic::set_hook(hush);

    let (sender, dropped) = tokio::sync::oneshot::channel();
    let (last, gate) = (store.clone(), mpsc::channel());
    let done: Done = Box::new(move |_| {
        gate.1.recv().unwrap();
        drop(last);
        sender.send(()).unwrap();
    });
    store.write(Batch { changes: Vec::new(), done: Some(done) });
    drop(store);
    gate.0.send(()).unwrap();
    dropped.await.unwrap();
    let store = open(&path);
    assert_eq!(store.unfinished().await.unwrap().len(), 1);
}

#[tokio::test]
async fn commits_wait_for_another_process_s_lock_and_reads_do_not() {
    let (_folder, path) = temporary();
    let store = open(&path);
    let run = RunId::random();
    store.committed(vec![begin(run, "a")]).await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (sender, mut verdict) = oneshot::channel();
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    store.write(Batch { changes: vec![append(run, 1, "x")], done: Some(done) });
    for _ in 0..50 {
        assert_eq!(store.run(run).await.unwrap().unwrap().last_seq, 0);
    }
    assert!(verdict.try_recv().is_err(), "the commit waits");
    assert_eq!(store.pending(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    verdict.await.unwrap().unwrap();
    assert!(!store.is_failing());
    assert_eq!(store.run(run).await.unwrap().unwrap().last_seq, 1);
}
