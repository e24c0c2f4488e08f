//! A process is killed while it writes: what it was told to be committed is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::fixture::{append, begin, end, open};
use super::super::{Batch, Done};
use super::temporary;
use crate::run::RunId;

const PATH: &str = "CRASH_TEST_STORE";
/// Runs of three events each, acknowledged before the kill.
const RUNS: usize = 300;

/// The process that the test below kills; by itself, without its variable, it does nothing.
#[test]
fn victim() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let store = open(Path::new(&path));
    loop {
        let run = RunId::random();
        let changes = vec![begin(run, "a"), append(run, 1, "one"), append(run, 2, "two")];
        store.write(Batch { changes, done: None });
        let done: Done = Box::new(move |verdict| {
            verdict.unwrap();
            writeln!(std::io::stdout(), "stored {run}").unwrap();
        });
        store
            .write(Batch { changes: vec![append(run, 3, "three"), end(run, 1)], done: Some(done) });
        while store.pending() > 50 {
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    let (_folder, path) = temporary();
    let name = "store::tests::crash::victim";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(PATH, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut stored = Vec::new();
    let mut read = |stored: &mut Vec<RunId>| -> bool {
        let Some(Ok(line)) = lines.next() else { return false };
        let run = line.split("stored ").nth(1).and_then(RunId::parse);
        stored.extend(run);
        true
    };
    while stored.len() < RUNS && read(&mut stored) {}
    victim.kill().unwrap();
    while read(&mut stored) {}
    victim.wait().unwrap();
    assert!(stored.len() >= RUNS, "{}", stored.len());

    let store = open(&path);
    for run in stored {
        let row = store.run(run).await.unwrap().unwrap();
        assert!(row.finished.is_some() && row.last_seq == 3, "{row:?}");
    }
    // What was under way is whole or not there.
    for row in store.unfinished().await.unwrap() {
        assert_eq!((row.last_seq, row.prompt.as_deref()), (2, Some("do it")));
        assert_eq!(store.events(row.id, 0).await.unwrap().events.len(), 2);
    }
}
