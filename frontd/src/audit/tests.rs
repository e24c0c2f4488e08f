//! The record as a whole: in order, bounded, counted, and never in the way.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;

use super::*;

/// A place for lines whose reader is a test's.
struct Lines(mpsc::Sender<Vec<u8>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines() -> (Sink, mpsc::Receiver<Vec<u8>>) {
    let (sender, written) = mpsc::channel();
    (Sink::Lines(Box::new(Lines(sender))), written)
}

fn fields(written: &mpsc::Receiver<Vec<u8>>) -> Vec<serde_json::Value> {
    let bytes: Vec<u8> = written.try_iter().flatten().collect();
    let text = String::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbered(n: usize) -> Entry {
    Entry::new(Kind::Admitted, "m").with("SYNTHESIS_RUN", n)
}

#[test]
fn entries_are_written_in_order_before_the_end() {
    let (sink, written) = lines();
    let audit = Audit::with(sink, WAITING).unwrap();
    (0..1000).for_each(|n| audit.write(numbered(n)));
    audit.end();
    let runs: Vec<String> =
        fields(&written).iter().map(|e| e["SYNTHESIS_RUN"].as_str().unwrap().to_owned()).collect();
    assert_eq!(runs, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(audit.lost(), 0);
}

#[test]
fn what_does_not_fit_is_counted_and_told() {
    let (audit, jobs) = Audit::new(10);
    (0..25).for_each(|n| audit.write(numbered(n)));
    assert_eq!(audit.lost(), 15);
    let (sink, written) = lines();
    audit.shared.over.store(true, Ordering::Release);
    sink::serve(sink, &jobs, &audit.shared);
    let written = fields(&written);
    assert_eq!(written.len(), 11);
    let last = written.last().unwrap();
    assert_eq!(last["MESSAGE_ID"], Kind::Lost.message_id());
    assert_eq!(last["SYNTHESIS_COUNT"], "15");
}

#[test]
fn a_flood_of_one_peer_is_counted_and_drives_out_nothing() {
    let (sink, written) = lines();
    let audit = Audit::with(sink, 100).unwrap();
    let peer = Peer::Uid(7);
    for _ in 0..100_000 {
        audit.caused(Cause::Peer(peer), Kind::Authentication, || {
            Entry::new(Kind::Authentication, "no").client(peer)
        });
    }
    audit.write(numbered(1));
    audit.end();
    let written = fields(&written);
    let of = |kind: Kind| written.iter().filter(move |e| e["MESSAGE_ID"] == kind.message_id());
    let single = of(Kind::Authentication).count();
    let counted: Vec<_> = of(Kind::Counted).collect();
    assert!(single <= 30, "{single} were written one by one");
    let sum: usize = counted
        .iter()
        .map(|e| e["SYNTHESIS_COUNT"].as_str().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(single + sum, 100_000);
    assert!(counted.iter().all(|e| e["SYNTHESIS_COUNTED"] == Kind::Authentication.message_id()));
    assert!(counted.iter().all(|e| e["SYNTHESIS_CLIENT_UID"] == "7"));
    assert_eq!((of(Kind::Admitted).count(), audit.lost()), (1, 0));
}

#[test]
fn what_was_counted_is_told_without_anything_else_happening() {
    let (sink, written) = lines();
    let audit = Audit::with(sink, 100).unwrap();
    for _ in 0..=PER_SECOND {
        audit.caused(Cause::Principal("p".into()), Kind::Refused, || {
            Entry::new(Kind::Refused, "no")
        });
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = Vec::new();
    while !seen.windows(17).any(|part| part == b"SYNTHESIS_COUNTED") {
        seen.extend(written.recv_timeout(deadline - Instant::now()).expect("it is told"));
    }
}

#[test]
fn a_journal_that_was_away_gets_everything_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("socket");
    let audit = Audit::with(Sink::journal(name.clone()).unwrap(), 100).unwrap();
    audit.write(numbered(0));
    let journal = UnixDatagram::bind(&name).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    audit.write(numbered(1));
    let mut buffer = [0; 4096];
    for n in 0..2 {
        let len = journal.recv(&mut buffer).expect("an entry");
        let entry = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert!(entry.contains(&format!("\nSYNTHESIS_RUN={n}\n")), "{entry}");
    }
    audit.end();
}

#[test]
fn the_end_does_not_wait_for_a_journal_that_never_comes() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::journal(folder.path().join("nobody")).unwrap();
    let audit = Audit::with(sink, 10).unwrap();
    let begin = Instant::now();
    (0..1000).for_each(|n| audit.write(numbered(n)));
    assert!(begin.elapsed() < Duration::from_millis(200), "nothing waits");
    audit.end();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(audit.lost() > 900);
}
