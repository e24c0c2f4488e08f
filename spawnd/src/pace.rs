//! How fast spawns may come. Pure: time comes in.

use std::time::{Duration, Instant};

use crate::refusal::Refusal;

/// A token bucket for spawns.
pub struct Pace {
    /// Of one token.
    every: Duration,
    /// What an empty bucket takes to fill.
    room: Duration,
    /// When it will be full again.
    full_at: Instant,
}

impl Pace {
    /// Both are positive.
    pub fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        let every = Duration::from_nanos(1_000_000_000 / per_second.max(1));
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        Self { every, room: every.saturating_mul(burst), full_at: now }
    }

    /// # Errors
    /// When spawns come too fast.
    pub fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        let full_at = self.full_at.max(now) + self.every;
        if full_at.saturating_duration_since(now) > self.room {
            return Err(Refusal::Pace);
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawns_have_a_burst_and_then_a_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(10, 3, start);
        assert!((0..3).all(|_| pace.take(start).is_ok()));
        assert_eq!(pace.take(start), Err(Refusal::Pace));
        let soon = start + Duration::from_millis(100);
        assert_eq!((pace.take(soon), pace.take(soon)), (Ok(()), Err(Refusal::Pace)));
        let late = start + Duration::from_secs(3600);
        assert_eq!((0..9).filter(|_| pace.take(late).is_ok()).count(), 3);
    }
}
