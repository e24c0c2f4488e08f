//! A timer that moves later for free. The deadline changes several times a turn, mostly
//! to later; setting a tokio timer anew each time would wake the runtime's driver each time.

use std::pin::Pin;
use std::time::Instant;

use tokio::time::Sleep;

/// Rings at the deadline, or earlier where an earlier one was set before: whoever hears it looks
/// at the clock again.
#[derive(Default)]
pub(crate) struct Alarm {
    armed: Option<Pin<Box<Sleep>>>,
    wanted: Option<Instant>,
}

impl Alarm {
    pub(crate) fn set(&mut self, deadline: Option<Instant>) {
        self.wanted = deadline;
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
        match &mut self.armed {
            Some(sleep) if sleep.deadline() <= deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.armed = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// Cancel-safe. Never, when no deadline is set.
    pub(crate) async fn rings(&mut self) {
        match (&mut self.armed, self.wanted) {
            (Some(sleep), Some(_)) => {
                sleep.as_mut().await;
                self.armed = None;
            }
            (Some(_) | None, _) => std::future::pending().await,
        }
    }
}
