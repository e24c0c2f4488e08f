//! What the service manager is told of this server (sd_notify(3)): that it is up, that it ends, and
//! in a few words what it does.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::app::App;

/// How often it is told what the server does.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Tells what the server does, when that has changed, until the task is dropped.
pub async fn tell(app: Arc<App>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut ticks = tokio::time::interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        let status = status(&app);
        if status != told {
            let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

fn status(app: &App) -> String {
    let (open, waiting) = app.runs.tally();
    let (processes, spawnd) = (app.pool.in_use(), app.spawner.is_connected());
    let lost = if spawnd { "" } else { "spawnd is away; " };
    format!("{lost}{processes} sessions with a process, {open} runs, {waiting} of them waiting")
}

/// It serves.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// It ends within this time: longer than the manager may be set to wait.
pub fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}
