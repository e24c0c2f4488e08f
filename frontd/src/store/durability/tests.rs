use super::*;
use crate::store::open;

#[test]
fn a_commit_is_waited_for_and_the_end_ends_the_wait() {
    let durability = Durability::default();
    durability.committed(1);
    assert!(durability.wait());
    assert_eq!(*durability.state(), State::Clean);
    let waiting = durability.clone();
    let thread = std::thread::spawn(move || waiting.wait());
    durability.stop();
    assert!(!thread.join().unwrap());
    durability.committed(1);
    assert!(!durability.wait(), "stopped is stopped");
}

#[test]
fn many_pages_do_not_wait_for_more() {
    let durability = Durability::default();
    for _ in 0..2 {
        durability.committed(usize::try_from(CHECKPOINT / 2).unwrap());
    }
    let start = std::time::Instant::now();
    assert!(durability.wait());
    assert!(start.elapsed() < DELAY);
}

#[test]
fn a_long_log_is_copied_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let files = open::open(&folder.path().join("synthesis.db")).unwrap().files;
    let write = |pages: i64| {
        let sql = format!("INSERT INTO events VALUES (?1, 0, zeroblob({}))", pages * 4096);
        let next: i64 = files
            .writer
            .query_row("SELECT coalesce(max(id), 0) + 1 FROM events", [], |row| row.get(0))
            .unwrap();
        files.writer.execute(&sql, [next]).unwrap();
    };
    let length = || pages(&files.checkpointer, "PRAGMA wal_checkpoint(NOOP)").unwrap();
    write(CHECKPOINT / 2);
    checkpoint(&files.checkpointer).unwrap();
    let main = || std::fs::metadata(folder.path().join("synthesis.db")).unwrap().len();
    assert!(main() < 1 << 20, "a short log is left alone");
    write(CHECKPOINT / 2);
    assert!(length() > CHECKPOINT);
    checkpoint(&files.checkpointer).unwrap();
    assert!(main() > CHECKPOINT as u64 * 4096);
    write(1);
    assert!(length() < 20, "{}", length());

    // A reader keeps an old state: the log grows, is copied as far as it can be, and the wait
    // for the reader has an end.
    files.reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    write(RESTART + 1);
    checkpoint(&files.checkpointer).unwrap_or_else(|error| panic!("{error}"));
    files.reader.execute_batch("COMMIT").unwrap();
    checkpoint(&files.checkpointer).unwrap();
    write(1);
    assert!(length() < 20, "{}", length());
}
