//! SIGHUP: spawnd.toml as it is now, for what is asked from now on. Sessions keep what they were
//! started with. A file that is bad or not to be trusted changes nothing.

use std::time::Instant;

use crate::daemon::Daemon;
use crate::pace::Pace;
use crate::{log, reading, startup};

impl Daemon {
    /// Root asked for it, who may look at the same paths for as long as a start does.
    pub(crate) fn reload(&mut self, now: Instant) {
        let Some(path) = &self.file else { return self.close(now) };
        let (policy, kept) = match reading::again(path, &self.policy) {
            Ok(read) => read,
            Err(error) => {
                return log::error(format_args!("not reloaded, nothing has changed: {error}"));
            }
        };
        let limits = &policy.config.limits;
        if let Err(error) = startup::room_for_sessions(limits.sessions.0) {
            log::warning(format_args!("limits.sessions: {error}"));
        }
        self.pace = Pace::new(limits.spawns_per_second.0, limits.spawn_burst.0, now);
        let (per_second, sessions) = (limits.refusals_per_second.0, limits.sessions.size());
        self.audit.adapt(policy.config.audit, per_second, sessions);
        self.policy = policy;
        log::info(format_args!("reloaded {}", path.display()));
        if !kept.is_empty() {
            log::warning(format_args!("{} cannot change before a restart", kept.join(", ")));
        }
    }
}
