use super::*;
use crate::run::RunId;
use crate::store::change::{Change, RunRow};
use crate::store::fixture::{DAY, KEEP, append, begin, begin_with_key, end, key};
use crate::store::ledger::Ledger;
use crate::store::open::{self, Files};
use crate::store::runs;

struct Bench {
    files: Files,
    ledger: Ledger,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = open::open(&folder.path().join("synthesis.db")).unwrap().files;
        Self { files, ledger: Ledger::default(), folder }
    }

    fn write(&mut self, changes: &[Change]) {
        let transaction = self.files.writer.unchecked_transaction().unwrap();
        for change in changes {
            self.ledger.apply(&transaction, change, 1).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// A run of `events` events of about 1,000 bytes that ended at `at`.
    fn run(&mut self, events: u64, at: Option<u64>) -> RunId {
        let run = RunId::random();
        let mut changes = vec![begin(run, "a")];
        changes.extend((1..=events).map(|seq| append(run, seq, &"x".repeat(1000))));
        changes.extend(at.map(|at| end(run, at)));
        self.write(&changes);
        run
    }

    fn step(&mut self, keep: &Keep, now: u64) -> bool {
        step(&mut self.files.writer, keep, now).unwrap()
    }

    fn all(&mut self, keep: &Keep, now: u64) {
        while self.step(keep, now) {}
    }

    fn row(&self, run: RunId) -> Option<RunRow> {
        runs::get(&self.files.reader, run).unwrap()
    }

    fn seqs(&self, run: RunId) -> Vec<u64> {
        let page = runs::events(&self.files.reader, run, 0).unwrap();
        page.events.iter().map(|event| event.seq).collect()
    }
}

#[test]
fn an_old_run_is_reduced_to_its_last_event_and_later_removed() {
    let mut bench = Bench::new();
    let (old, young) = (bench.run(5, Some(DAY)), bench.run(5, Some(10 * DAY)));
    let running = bench.run(5, None);
    bench.all(&KEEP, 31 * DAY);
    assert_eq!(bench.seqs(old), [1, 2, 3, 4, 5], "not older than 30 days");
    bench.all(&KEEP, 31 * DAY + 1);
    assert_eq!(bench.seqs(old), [5]);
    let row = bench.row(old).unwrap();
    assert_eq!((row.first_seq, row.last_seq), (5, 5));
    assert!(row.outcome.is_some() && row.bytes > 5000, "{row:?}");
    assert_eq!(bench.seqs(young).len(), 5);
    bench.all(&KEEP, 61 * DAY);
    assert!(bench.row(old).is_some(), "its row stays as long again");
    bench.all(&KEEP, 61 * DAY + 1);
    assert_eq!((bench.row(old), bench.seqs(old)), (None, Vec::new()));
    assert_eq!(bench.seqs(young), [5]);
    bench.all(&KEEP, 1000 * DAY);
    assert_eq!(bench.row(young), None);
    assert_eq!(bench.seqs(running).len(), 5, "a run under way is never touched");
}

#[test]
fn a_clean_up_concerns_no_later_run_of_the_same_session_or_key() {
    let mut bench = Bench::new();
    let (old, newer) = (RunId::random(), RunId::random());
    bench.write(&[begin_with_key(old, "a", "k"), append(old, 1, "x"), end(old, DAY)]);
    bench.write(&[begin_with_key(newer, "a", "k"), append(newer, 1, "x"), append(newer, 2, "y")]);
    bench.all(&KEEP, 1000 * DAY);
    assert_eq!(bench.row(old), None);
    let (keyed, _) = runs::keyed(&bench.files.reader, "local", "k").unwrap().unwrap();
    assert_eq!((keyed.id, keyed.last_seq, keyed.first_seq), (newer, 2, 1));
    // It goes on as if nothing had happened.
    bench.write(&[append(newer, 3, "z")]);
    assert_eq!(bench.seqs(newer), [1, 2, 3]);
}

#[test]
fn steps_are_small_and_say_at_each_what_is_kept() {
    let mut bench = Bench::new();
    let many = bench.run(1000, Some(DAY));
    let mut steps = 0;
    while bench.step(&KEEP, 100 * DAY) {
        steps += 1;
        let Some(row) = bench.row(many) else { continue };
        assert_eq!(bench.seqs(many).first(), Some(&row.first_seq));
        assert_eq!(row.last_seq, 1000);
    }
    assert!(steps >= 1000 / STEP_EVENTS, "{steps}");
    let large = RunId::random();
    let event = "x".repeat(900 << 10);
    bench.write(&[
        begin(large, "a"),
        append(large, 1, &event),
        append(large, 2, &event),
        append(large, 3, &event),
        append(large, 4, "last"),
        end(large, DAY),
    ]);
    assert!(bench.step(&KEEP, 31 * DAY + 1));
    assert_eq!(bench.row(large).unwrap().first_seq, 3, "about a megabyte at once");
}

#[test]
fn beyond_the_size_the_oldest_go_first_and_the_file_shrinks() {
    let mut bench = Bench::new();
    let runs: Vec<RunId> = (0..100).map(|number| bench.run(200, Some(number))).collect();
    let running = bench.run(200, None);
    let size = |bench: &Bench| {
        bench.files.checkpointer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        std::fs::metadata(bench.folder.path().join("synthesis.db")).unwrap().len()
    };
    let before = size(&bench);
    assert!(before > 20 << 20, "{before}");
    let keep = Keep { bytes: 10 << 20, ..KEEP };
    bench.all(&keep, DAY);
    let after = size(&bench);
    let spare = SPARE_PAGES as u64 * 4096;
    assert!(((8 << 20)..(10 << 20) + spare + (64 << 10)).contains(&after), "{after}");
    let reduced = |run: &&RunId| bench.seqs(**run).len() == 1;
    let gone = runs.iter().take_while(reduced).count();
    assert!((40..80).contains(&gone), "{gone}");
    let whole = |run: &RunId| bench.seqs(*run).len() == 200;
    assert!(runs[gone + 1..].iter().all(whole), "the oldest first, and no more than must");
    assert!(runs.iter().all(|run| bench.row(*run).is_some()));

    // With nothing left to reduce the rows go, and a run under way stays whatever its size.
    let keep = Keep { bytes: 1, ..KEEP };
    bench.all(&keep, DAY);
    assert!(runs.iter().all(|run| bench.row(*run).is_none()));
    assert_eq!(bench.seqs(running).len(), 200);
}

#[test]
fn the_events_of_a_forgotten_session_go_too() {
    let mut bench = Bench::new();
    bench.run(600, Some(1));
    bench.write(&[Change::ForgetSession(key("a"))]);
    let newer = bench.run(3, None);
    let count = |bench: &Bench| -> i64 {
        bench.files.reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&bench), 603);
    bench.all(&KEEP, 1);
    assert_eq!(count(&bench), 3);
    assert_eq!(bench.seqs(newer), [1, 2, 3]);
    let marks = "SELECT count(*) FROM forgotten_runs";
    let marks: i64 = bench.files.reader.query_row(marks, [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 0);
}

#[test]
fn a_run_without_events_can_go() {
    let mut bench = Bench::new();
    let run = bench.run(0, Some(1));
    bench.all(&KEEP, 31 * DAY);
    assert_eq!(bench.row(run).unwrap().first_seq, 1);
    bench.all(&KEEP, 100 * DAY);
    assert_eq!(bench.row(run), None);
}
