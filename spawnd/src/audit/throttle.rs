//! How many refusals of a peer are written one by one. Pure: time comes in as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// Peers that are told apart within one window; the rest share a place. A uid is needed for each.
const PEERS: usize = 64;
/// The place of the rest: (uid_t) -1 is nobody's.
const OTHERS: u32 = u32::MAX;

pub(super) struct Throttle {
    per_second: u64,
    peers: HashMap<u32, Window>,
}

struct Window {
    until: Instant,
    written: u64,
    counted: u64,
}

impl Throttle {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second, peers: HashMap::new() }
    }

    /// Shall this one be written? Else it is counted.
    pub(super) fn admits(&mut self, peer: u32, now: Instant) -> bool {
        let known = self.peers.contains_key(&peer) || self.peers.len() < PEERS;
        let window = self.peers.entry(if known { peer } else { OTHERS }).or_insert(Window {
            until: now + WINDOW,
            written: 0,
            counted: 0,
        });
        if window.written < self.per_second {
            window.written += 1;
            return true;
        }
        window.counted += 1;
        false
    }

    /// Ends windows that are over; the peers of which refusals were counted, and how many.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(u32, u64)> {
        let over = |window: &Window| window.until <= now;
        let due = self.peers.iter().filter(|(_, window)| over(window) && window.counted > 0);
        let due = due.map(|(peer, window)| (*peer, window.counted)).collect();
        self.peers.retain(|_, window| !over(window));
        due
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().map(|window| window.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_measure_and_windows_end() {
        let (mut throttle, now) = (Throttle::new(2), Instant::now());
        assert_eq!([0; 4].map(|_| throttle.admits(1, now)), [true, true, false, false]);
        assert!(throttle.admits(2, now));
        assert_eq!(throttle.due(now), []);
        assert_eq!(throttle.due(now + WINDOW), [(1, 2)]);
        assert!(throttle.admits(1, now + WINDOW));
    }

    #[test]
    fn ten_thousand_uids_cost_a_bounded_memory() {
        let (mut throttle, now) = (Throttle::new(1), Instant::now());
        for uid in 0..10_000 {
            throttle.admits(uid, now);
        }
        assert_eq!(throttle.peers.len(), PEERS + 1);
        assert_eq!(throttle.due(now + WINDOW), [(OTHERS, 10_000 - PEERS as u64 - 1)]);
    }
}
