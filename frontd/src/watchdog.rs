//! Tells systemd that the event loop turns. One that hangs is killed and started again; its sessions
//! and their runs wait for the next one.

use std::time::Duration;

use sd_notify::NotifyState;

/// Of the time that systemd waits for a sign: two may be late before it acts.
const SHARE: u32 = 3;

/// From now on, if the unit asks for it (`WatchdogSec=`).
pub fn feed() {
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tokio::spawn(signs(patience / SHARE));
    }
}

async fn signs(every: Duration) {
    // An interval of nothing panics, and no unit means it.
    let mut interval = tokio::time::interval(every.max(Duration::from_millis(1)));
    loop {
        interval.tick().await;
        // A systemd that takes nothing is one that looks at no watchdog either.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
