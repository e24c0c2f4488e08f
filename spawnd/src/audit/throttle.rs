//! How many entries of a kind that a peer caused are written one by one. Pure: time comes in as an
//! argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::entry::Kind;

/// What is counted is told after so long.
const WINDOW: Duration = Duration::from_secs(1);
/// Peers, each with each kind, that are told apart; the rest share places. A uid is needed for each.
const PEERS: usize = 64;
/// The place of the rest: (uid_t) -1 is nobody's.
const OTHERS: u32 = u32::MAX;

type Place = (u32, Kind);

pub(super) struct Throttle {
    per_second: u64,
    /// Of the kinds that an honest frontd causes for every session at once.
    burst: u64,
    places: HashMap<Place, Bucket>,
}

struct Bucket {
    left: u64,
    since: Instant,
    counted: u64,
    tell_at: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second, burst: burst.max(per_second), places: HashMap::new() }
    }

    pub(super) fn adapt(&mut self, per_second: u64, burst: u64) {
        (self.per_second, self.burst) = (per_second, burst.max(per_second));
    }

    /// Shall this one be written? Else it is counted.
    pub(super) fn admits(&mut self, peer: u32, kind: Kind, now: Instant) -> bool {
        let known = self.places.contains_key(&(peer, kind)) || self.places.len() < PEERS;
        let (capacity, rate) = (capacity(kind, self.per_second, self.burst), self.per_second);
        let place = (if known { peer } else { OTHERS }, kind);
        let full = Bucket { left: capacity, since: now, counted: 0, tell_at: None };
        let bucket = self.places.entry(place).or_insert(full);
        bucket.refill(capacity, rate, now);
        if bucket.left > 0 {
            bucket.left -= 1;
            return true;
        }
        bucket.counted += 1;
        bucket.tell_at.get_or_insert(now + WINDOW);
        false
    }

    /// Of whom what was counted, and how often, as far as it is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Place, u64)> {
        let due = self.take(|bucket| bucket.tell_at.is_some_and(|at| at <= now));
        let (burst, per_second) = (self.burst, self.per_second);
        self.places.retain(|(_, kind), bucket| {
            let capacity = capacity(*kind, per_second, burst);
            bucket.refill(capacity, per_second, now);
            bucket.left < capacity || bucket.counted > 0
        });
        due
    }

    /// All that was counted.
    pub(super) fn end(&mut self) -> Vec<(Place, u64)> {
        self.take(|bucket| bucket.counted > 0)
    }

    fn take(&mut self, which: impl Fn(&Bucket) -> bool) -> Vec<(Place, u64)> {
        let told = self.places.iter_mut().filter(|(_, bucket)| which(bucket));
        told.map(|(place, bucket)| {
            bucket.tell_at = None;
            (*place, std::mem::take(&mut bucket.counted))
        })
        .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.places.values().filter_map(|bucket| bucket.tell_at).min()
    }
}

fn capacity(kind: Kind, per_second: u64, burst: u64) -> u64 {
    if matches!(kind, Kind::Signal | Kind::Adopted) { burst } else { per_second }
}

impl Bucket {
    fn refill(&mut self, capacity: u64, per_second: u64, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        self.since += Duration::from_secs(seconds);
        self.left = self.left.saturating_add(seconds.saturating_mul(per_second)).min(capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_and_kind_has_its_own_measure_and_it_is_filled_again() {
        let (mut throttle, now) = (Throttle::new(2, 2), Instant::now());
        let mut refused = |peer| throttle.admits(peer, Kind::Refused, now);
        assert_eq!([0; 4].map(|_| refused(1)), [true, true, false, false]);
        assert!(refused(2));
        assert!(throttle.admits(1, Kind::Hello, now));
        assert_eq!(throttle.due(now), []);
        assert_eq!(throttle.due(now + WINDOW), [((1, Kind::Refused), 2)]);
        assert!(throttle.admits(1, Kind::Refused, now + WINDOW));
        assert_eq!(throttle.next_deadline(), None);
    }

    #[test]
    fn every_session_may_be_adopted_at_once_and_not_for_ever() {
        let (mut throttle, now) = (Throttle::new(10, 2000), Instant::now());
        let mut adopted = |now| throttle.admits(1, Kind::Adopted, now);
        assert_eq!((0..5000).filter(|_| adopted(now)).count(), 2000);
        assert_eq!((0..5000).filter(|_| adopted(now + WINDOW)).count(), 10);
        assert_eq!(throttle.end(), [((1, Kind::Adopted), 7990)]);
    }

    #[test]
    fn ten_thousand_uids_cost_a_bounded_memory() {
        let (mut throttle, now) = (Throttle::new(1, 1), Instant::now());
        for uid in 0..10_000 {
            throttle.admits(uid, Kind::Refused, now);
        }
        assert_eq!(throttle.places.len(), PEERS + 1);
        let counted = 10_000 - PEERS as u64 - 1;
        assert_eq!(throttle.due(now + WINDOW), [((OTHERS, Kind::Refused), counted)]);
    }
}
