//! How many entries of a kind that a peer caused are written one by one. Pure: time comes in as an
//! argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::entry::{Cause, Kind};

/// What is counted is told after so long.
const WINDOW: Duration = Duration::from_secs(1);
/// Causes, each with each kind, that are told apart; the rest share places, for addresses are cheap.
const PLACES: usize = 256;

type Place = (Cause, Kind);

pub(super) struct Throttle {
    per_second: u64,
    places: HashMap<Place, Bucket>,
}

struct Bucket {
    left: u64,
    since: Instant,
    counted: u64,
    tell_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// The first that is counted: somebody must look at [`Throttle::next_deadline`] again.
    CountFirst,
    Count,
}

impl Throttle {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second, places: HashMap::new() }
    }

    /// Shall this one be written, or only be counted?
    pub(super) fn judge(&mut self, cause: &Cause, kind: Kind, now: Instant) -> Verdict {
        let mut place = (cause.clone(), kind);
        if self.places.len() >= PLACES && !self.places.contains_key(&place) {
            place.0 = Cause::Others;
        }
        let full = Bucket { left: self.per_second, since: now, counted: 0, tell_at: None };
        let bucket = self.places.entry(place).or_insert(full);
        bucket.refill(self.per_second, now);
        if bucket.left > 0 {
            bucket.left -= 1;
            return Verdict::Write;
        }
        bucket.counted += 1;
        let first = bucket.tell_at.is_none();
        bucket.tell_at.get_or_insert(now + WINDOW);
        if first { Verdict::CountFirst } else { Verdict::Count }
    }

    /// Of whom what was counted, and how often, as far as it is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Place, u64)> {
        let due = self.take(|bucket| bucket.tell_at.is_some_and(|at| at <= now));
        let per_second = self.per_second;
        self.places.retain(|_, bucket| {
            bucket.refill(per_second, now);
            bucket.left < per_second || bucket.counted > 0
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
            (place.clone(), std::mem::take(&mut bucket.counted))
        })
        .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.places.values().filter_map(|bucket| bucket.tell_at).min()
    }
}

impl Bucket {
    fn refill(&mut self, per_second: u64, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        self.since += Duration::from_secs(seconds);
        self.left = self.left.saturating_add(seconds.saturating_mul(per_second)).min(per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Peer;
    use super::*;

    #[test]
    fn each_peer_and_kind_has_its_own_measure_and_it_is_filled_again() {
        let (mut throttle, now) = (Throttle::new(2), Instant::now());
        let one = Cause::Peer(Peer::Uid(1));
        let judged = [0; 4].map(|_| throttle.judge(&one, Kind::Refused, now));
        use Verdict::{Count, CountFirst, Write};
        assert_eq!(judged, [Write, Write, CountFirst, Count]);
        let other = Cause::Peer(Peer::Address([10, 0, 0, 1].into()));
        assert_eq!(throttle.judge(&other, Kind::Refused, now), Write);
        assert_eq!(throttle.judge(&one, Kind::Authentication, now), Write);
        assert_eq!(throttle.due(now), []);
        assert_eq!(throttle.due(now + WINDOW), [((one.clone(), Kind::Refused), 2)]);
        assert_eq!(throttle.judge(&one, Kind::Refused, now + WINDOW), Write);
        assert_eq!(throttle.next_deadline(), None);
    }

    #[test]
    fn any_number_of_addresses_costs_a_bounded_memory() {
        let (mut throttle, now) = (Throttle::new(1), Instant::now());
        for n in 0..10_000_u32 {
            let address = Peer::Address(n.to_be_bytes().into());
            throttle.judge(&Cause::Peer(address), Kind::Refused, now);
        }
        assert_eq!(throttle.places.len(), PLACES + 1);
        let counted = 10_000 - PLACES as u64 - 1;
        assert_eq!(throttle.due(now + WINDOW), [((Cause::Others, Kind::Refused), counted)]);
        throttle.due(now + 2 * WINDOW);
        assert_eq!(throttle.places.len(), 0, "who is quiet is forgotten");
    }
}
