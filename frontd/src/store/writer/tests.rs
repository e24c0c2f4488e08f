//! What happens when the disk takes nothing.

use std::path::PathBuf;
use std::sync::mpsc;

use super::*;
use crate::store::fixture::{KEEP, append, begin, end, pushed};
use crate::store::{Done, RunRow, StoreHandle, open};

struct Bench {
    writer: Writer,
    files: (Connection, tempfile::TempDir),
    path: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        let files = open::open(&path).unwrap().files;
        let writer = Writer::new(files.writer, Arc::new(Shared::new(&path, KEEP)));
        Self { writer, files: (files.reader, folder), path }
    }

    /// Commits a group; which of its batches were stored?
    fn commit(&mut self, group: Vec<Vec<Change>>) -> Vec<bool> {
        let (sender, verdicts) = mpsc::channel();
        let batches = group.into_iter().map(|changes| {
            let sender = sender.clone();
            let done: Done = Box::new(move |verdict| sender.send(verdict.is_ok()).unwrap());
            self.writer.shared.pending.fetch_add(1, Ordering::Relaxed);
            Batch { changes, done: Some(done) }
        });
        let batches = batches.collect();
        self.writer.commit(batches, 1);
        assert_eq!(self.writer.shared.pending.load(Ordering::Relaxed), 0);
        verdicts.try_iter().collect()
    }

    fn row(&self, run: RunId) -> Option<RunRow> {
        runs::get(&self.files.0, run).unwrap()
    }

    fn is_failing(&self) -> bool {
        self.writer.shared.failing.load(Ordering::Relaxed)
    }

    /// As if the disk had no more than a few pages.
    fn fill_disk(&self) {
        let pages: i64 = self.pragma("page_count");
        self.writer.connection.pragma_update(None, "max_page_count", pages + 4).unwrap();
    }

    fn free_disk(&self) {
        self.writer.connection.pragma_update(None, "max_page_count", i64::from(i32::MAX)).unwrap();
    }

    fn pragma(&self, name: &str) -> i64 {
        self.writer.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    }
}

fn large() -> String {
    "x".repeat(100_000)
}

#[test]
fn a_run_whose_event_did_not_fit_is_stored_no_further_and_says_so() {
    let mut bench = Bench::new();
    let (run, other) = (RunId::random(), RunId::random());
    assert_eq!(bench.commit(vec![vec![begin(run, "a"), append(run, 1, "one")]]), [true]);
    bench.fill_disk();
    assert_eq!(bench.commit(vec![vec![append(run, 2, &large())]]), [false]);
    assert!(bench.is_failing());
    // There is room for this one, but it would follow a hole.
    assert_eq!(bench.commit(vec![vec![append(run, 3, "three"), pushed(run)]]), [true]);
    assert_eq!(bench.row(run).unwrap().last_seq, 1);
    // Other runs are none the worse for it.
    assert_eq!(bench.commit(vec![vec![begin(other, "b"), append(other, 1, "x")]]), [true]);
    assert!(!bench.is_failing(), "a commit that wrote clears it");

    bench.free_disk();
    assert!(bench.writer.needs_mending() && bench.writer.mend());
    assert!(!bench.writer.needs_mending());
    let row = bench.row(run).unwrap();
    assert!(row.incomplete && row.pushed && row.finished.is_none(), "{row:?}");
    assert_eq!(bench.commit(vec![vec![append(run, 4, "four")]]), [true]);
    assert_eq!(bench.commit(vec![vec![append(run, 5, "five"), end(run, 9)]]), [true]);
    let row = bench.row(run).unwrap();
    assert_eq!((row.last_seq, row.finished, row.incomplete), (1, Some(9), true));
    assert!(bench.writer.broken.is_empty(), "nothing is remembered of a run that is over");
    assert!(!bench.row(other).unwrap().incomplete);
}

#[test]
fn an_end_that_did_not_fit_is_stored_once_there_is_room() {
    let mut bench = Bench::new();
    let run = RunId::random();
    bench.commit(vec![vec![begin(run, "a"), append(run, 1, "one")]]);
    bench.fill_disk();
    assert_eq!(bench.commit(vec![vec![append(run, 2, &large()), end(run, 9)]]), [false]);
    assert!(bench.row(run).unwrap().finished.is_none());
    bench.free_disk();
    assert!(bench.writer.mend());
    assert!(!bench.is_failing());
    let row = bench.row(run).unwrap();
    assert_eq!((row.finished, row.last_seq, row.incomplete), (Some(9), 1, true));
    assert!(bench.writer.broken.is_empty());
}

#[test]
fn a_run_that_could_not_begin_leaves_nothing() {
    let mut bench = Bench::new();
    let run = RunId::random();
    bench.fill_disk();
    let first = vec![begin(run, "a"), append(run, 1, &large())];
    assert_eq!(bench.commit(vec![first, vec![append(run, 2, "two")]]), [false, true]);
    bench.free_disk();
    assert!(bench.writer.mend());
    assert_eq!(bench.commit(vec![vec![append(run, 3, "three"), end(run, 9)]]), [true]);
    assert_eq!(bench.row(run), None);
    assert!(bench.writer.broken.is_empty());
}

#[test]
fn what_is_too_large_for_the_disk_takes_nothing_small_with_it() {
    let mut bench = Bench::new();
    let (small, big) = (RunId::random(), RunId::random());
    bench.commit(vec![vec![begin(small, "a")], vec![begin(big, "b")]]);
    bench.fill_disk();
    let group = vec![
        vec![append(small, 1, "x")],
        vec![append(big, 1, &large())],
        vec![append(big, 2, "y")],
        vec![append(small, 2, "x")],
    ];
    // What follows the large one is passed over, which is no error of its own.
    assert_eq!(bench.commit(group), [true, false, true, true]);
    assert_eq!(bench.row(small).unwrap().last_seq, 2);
    assert_eq!(bench.row(big).unwrap().last_seq, 0);
}

#[test]
fn nothing_written_proves_nothing_of_the_disk() {
    let mut bench = Bench::new();
    let run = RunId::random();
    bench.commit(vec![vec![begin(run, "a")]]);
    bench.fill_disk();
    assert_eq!(bench.commit(vec![vec![append(run, 1, &large())]]), [false]);
    assert_eq!(bench.commit(vec![vec![append(run, 2, "passed over")], Vec::new()]), [true, true]);
    assert!(bench.is_failing());
}

#[test]
fn a_lock_that_outlasts_the_wait_fails_all_that_waited_and_is_over_when_it_is_over() {
    let mut bench = Bench::new();
    let run = RunId::random();
    bench.commit(vec![vec![begin(run, "a")]]);
    bench.writer.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&bench.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let group = vec![vec![append(run, 1, "x")], vec![append(run, 2, "y")]];
    assert_eq!(bench.commit(group), [false, false]);
    assert!(bench.is_failing() && !bench.writer.mend() && bench.is_failing());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(bench.writer.mend() && !bench.is_failing());
    assert!(bench.row(run).unwrap().incomplete);
}

#[test]
fn a_group_is_bounded_in_number_and_bytes() {
    let (sender, batches) = mpsc::channel();
    let batch = |changes| Batch { changes, done: None };
    for _ in 0..GROUP_BATCHES + 7 {
        sender.send(batch(Vec::new())).unwrap();
    }
    let group = gather(batches.recv().unwrap(), &batches);
    assert_eq!(group.len(), GROUP_BATCHES);
    assert_eq!(gather(batches.recv().unwrap(), &batches).len(), 7);
    let run = RunId::random();
    for seq in 0..100 {
        sender.send(batch(vec![append(run, seq, &large())])).unwrap();
    }
    let group = gather(batches.recv().unwrap(), &batches);
    let bytes: usize = group.iter().map(weight).sum();
    assert!((GROUP_BYTES..GROUP_BYTES + 110_000).contains(&bytes), "{bytes}");
}

/// A disk of two megabytes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("CI").is_none(), "CI must be allowed to mount a small disk");
        println!("skipped: mounting a small disk needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_noticed_and_so_is_its_end() {
    let Some(disk) = SmallDisk::new() else { return };
    let path = disk.0.path().join("synthesis.db");
    let store = StoreHandle::open(&path, KEEP).unwrap();
    let run = RunId::random();
    store.committed(vec![begin(run, "a"), append(run, 1, "one")]).await.unwrap();
    let filler = disk.0.path().join("filler");
    let mut bytes = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut bytes, &[0; 4096]).is_ok() {}
    let mut seq = 2;
    let refused = loop {
        match store.committed(vec![append(run, seq, &large())]).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.cause(), crate::store::error::Cause::Disk, "{refused}");
    assert!(store.is_failing());
    // Reads go on.
    assert_eq!(store.run(run).await.unwrap().unwrap().last_seq, seq - 1);
    assert_eq!(store.events(run, 0).await.unwrap().events.first().unwrap().seq, 1);
    drop(bytes);
    std::fs::remove_file(filler).unwrap();
    // Nobody writes; the store tries by itself.
    let patience = Instant::now() + 10 * PROBE;
    while store.is_failing() {
        assert!(Instant::now() < patience, "still failing");
        store.run(run).await.unwrap();
    }
    store.committed(vec![end(run, 9)]).await.unwrap();
    let row = store.run(run).await.unwrap().unwrap();
    assert!(row.incomplete && row.finished.is_some(), "{row:?}");
    drop(store);
}
