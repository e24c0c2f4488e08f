//! The audit record: what was asked of this daemon, what it did, how it ended. Written by the
//! daemon itself, so that no frontd can forge or suppress it; never blocking, so that nobody can
//! stop the loop by stopping the journal.
//!
//! Whatever a peer can cause at will is counted instead of written above a rate; what happens to a
//! session never is.

mod entry;
mod sink;
mod throttle;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::launch::Demand;

pub use entry::{Entry, Kind};
pub use sink::{Error as SinkError, Sink};
use throttle::Throttle;

/// Entries that wait for the journal, beside those of starts and ends, for which there is room of
/// their own: under `Required` nothing new starts while one waits.
const WAITING: usize = 2048;
/// A journal that restarts is back in less.
const AGAIN: Duration = Duration::from_millis(250);

pub struct Audit {
    sink: Sink,
    demand: Demand,
    throttle: Throttle,
    /// From oldest to newest, already encoded.
    waiting: VecDeque<Vec<u8>>,
    /// The most that may wait.
    room: usize,
    again_at: Option<Instant>,
    lost: u64,
}

impl Audit {
    /// `per_second`: entries of one kind that one peer can cause; `sessions`: that may run.
    pub fn new(sink: Sink, demand: Demand, per_second: u64, sessions: usize) -> Self {
        // Of each a start and an end; and each may be signalled, or handed over, twice at once.
        let twice = 2 * sessions;
        let throttle = Throttle::new(per_second, u64::try_from(twice).unwrap_or(u64::MAX));
        let (waiting, room) = (VecDeque::new(), WAITING + twice);
        Self { sink, demand, throttle, waiting, room, again_at: None, lost: 0 }
    }

    /// From now on, as with [`new`](Self::new).
    pub fn adapt(&mut self, demand: Demand, per_second: u64, sessions: usize) {
        let twice = 2 * sessions;
        self.throttle.adapt(per_second, u64::try_from(twice).unwrap_or(u64::MAX));
        (self.demand, self.room) = (demand, WAITING + twice);
    }

    /// Writes an entry, now or, when the journal does not take it, as soon as it does.
    pub fn write(&mut self, entry: &Entry, now: Instant) {
        let room = if entry.kind.is_of_a_process() { self.room } else { WAITING };
        if self.waiting.len() >= room {
            self.lost += 1;
            return;
        }
        self.waiting.push_back(self.sink.encode(entry));
        self.flush(now);
    }

    /// Writes or counts what a peer with that uid caused.
    pub fn caused(&mut self, peer: u32, entry: &Entry, now: Instant) {
        if self.throttle.admits(peer, entry.kind, now) {
            self.write(entry, now);
        }
    }

    /// May something start that must be on record?
    pub fn is_open(&mut self, now: Instant) -> bool {
        self.flush(now);
        match self.demand {
            Demand::Required => self.waiting.is_empty() && self.lost == 0,
            Demand::BestEffort => true,
        }
    }

    /// Is nothing left to write?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.again_at.into_iter().chain(self.throttle.next_deadline()).min()
    }

    /// Does what is due by the clock.
    pub fn advance(&mut self, now: Instant) {
        for ((peer, kind), count) in self.throttle.due(now) {
            self.write(&Entry::counted(peer, kind, count), now);
        }
        if self.again_at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
    }

    /// Before the end: what was only counted so far is written as well.
    pub fn settle(&mut self, now: Instant) {
        for ((peer, kind), count) in self.throttle.end() {
            self.write(&Entry::counted(peer, kind, count), now);
        }
    }

    fn flush(&mut self, now: Instant) {
        while let Some(bytes) = self.waiting.front() {
            if !self.sink.write(bytes) {
                self.again_at = Some(now + AGAIN);
                return;
            }
            self.waiting.pop_front();
        }
        self.again_at = None;
        if self.lost > 0 {
            let lost = self.sink.encode(&Entry::lost(std::mem::take(&mut self.lost)));
            self.waiting.push_back(lost);
            self.flush(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, socket,
    };
    use std::os::fd::{AsRawFd as _, OwnedFd};

    /// A journal of one's own, on an abstract name that the kernel picks.
    fn pair() -> (Sink, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let journal = socket(AddressFamily::Unix, SockType::Datagram, flags, None).unwrap();
        bind(journal.as_raw_fd(), &UnixAddr::new_unnamed()).unwrap();
        let name = getsockname(journal.as_raw_fd()).unwrap();
        (Sink::journal(name).unwrap(), journal)
    }

    fn read(end: &OwnedFd) -> Vec<String> {
        let mut buffer = vec![0; 64 * 1024];
        let mut all = Vec::new();
        while let Ok(len) = nix::unistd::read(end, &mut buffer) {
            all.push(String::from_utf8_lossy(buffer.get(..len).unwrap()).into_owned());
        }
        all
    }

    fn refused(text: &str) -> Entry {
        Entry::new(Kind::Refused, "refused").reason(text)
    }

    #[test]
    fn after_a_hundred_thousand_refusals_a_start_is_on_record() {
        let (sink, end) = pair();
        let mut audit = Audit::new(sink, Demand::Required, 10, 100);
        let now = Instant::now();
        for _ in 0..100_000 {
            audit.caused(7, &refused("x"), now);
        }
        audit.write(&Entry::new(Kind::Started, "started"), now);
        let seen = read(&end);
        assert_eq!(seen.len(), 11);
        assert!(seen.last().unwrap().contains(Kind::Started.message_id()));
        audit.advance(now + Duration::from_secs(1));
        assert!(read(&end).concat().contains("SYNTHESIS_COUNT=99990\n"));
        assert_eq!(audit.next_deadline(), None);
    }

    #[test]
    fn what_a_full_journal_did_not_take_is_written_later_and_in_order() {
        let (sink, end) = pair();
        let mut audit = Audit::new(sink, Demand::Required, 10, 100);
        let now = Instant::now();
        let mut written = 0_u32;
        while audit.waiting.is_empty() {
            audit.write(&refused(&written.to_string()), now);
            written += 1;
        }
        assert!(!audit.is_open(now), "nothing may start unrecorded");
        audit.write(&refused(&written.to_string()), now);
        let mut seen = read(&end);
        audit.advance(now + AGAIN);
        assert!(audit.is_open(now));
        seen.extend(read(&end));
        let reasons: Vec<String> =
            (0..=written).map(|n| format!("SYNTHESIS_REASON={n}\n")).collect();
        assert_eq!(seen.len(), reasons.len());
        assert!(seen.iter().zip(&reasons).all(|(entry, reason)| entry.contains(reason)));
    }

    #[test]
    fn what_a_peer_can_cause_drives_out_no_end() {
        let name = UnixAddr::new("/nonexistent/journal").unwrap();
        let mut audit = Audit::new(Sink::journal(name).unwrap(), Demand::Required, 10, 100);
        let now = Instant::now();
        for _ in 0..2 * WAITING {
            audit.write(&Entry::new(Kind::Adopted, "again"), now);
        }
        let before = audit.lost;
        for _ in 0..200 {
            audit.write(&Entry::new(Kind::Exit, "over"), now);
        }
        assert_eq!((audit.lost, audit.waiting.len()), (before, WAITING + 200));
    }

    #[test]
    fn best_effort_starts_without_a_journal_and_says_what_was_lost() {
        let (sink, end) = pair();
        let mut audit = Audit::new(sink, Demand::BestEffort, 10, 100);
        let now = Instant::now();
        while audit.lost == 0 {
            audit.write(&refused("x"), now);
        }
        assert!(audit.is_open(now));
        let mut seen = Vec::new();
        while !audit.waiting.is_empty() {
            seen.extend(read(&end));
            audit.flush(now);
        }
        seen.extend(read(&end));
        assert!(seen.last().unwrap().contains("SYNTHESIS_COUNT=1\n"));
    }
}
