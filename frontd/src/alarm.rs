//! A timer that moves later for free. A session's deadline changes several times a turn, that of a
//! stream with each event, mostly to later; setting a tokio timer anew each time would cost each
//! time.

use std::pin::Pin;
use std::time::Instant;

use tokio::time::Sleep;

/// Rings at the deadline, or earlier where an earlier one was set before: whoever hears it looks
/// at the clock again.
#[derive(Default)]
pub struct Alarm {
    armed: Option<Pin<Box<Sleep>>>,
    wanted: Option<Instant>,
}

impl Alarm {
    pub fn set(&mut self, deadline: Option<Instant>) {
        self.wanted = deadline;
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
        match &mut self.armed {
            Some(sleep) if sleep.deadline() <= deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.armed = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// Cancel-safe. Never, when no deadline is set.
    pub async fn rings(&mut self) {
        match (&mut self.armed, self.wanted) {
            (Some(sleep), Some(_)) => {
                sleep.as_mut().await;
                self.armed = None;
            }
            (Some(_) | None, _) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_later_deadline_costs_an_early_ring_and_an_earlier_one_is_kept() {
        let start = tokio::time::Instant::now();
        let at = |seconds| Some((start + Duration::from_secs(seconds)).into_std());
        let mut alarm = Alarm::default();
        alarm.set(at(20));
        alarm.set(at(1800));
        alarm.rings().await;
        assert_eq!(start.elapsed().as_secs(), 20);
        alarm.set(at(1800));
        alarm.set(at(30));
        alarm.rings().await;
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
