//! Points of the fake's life at which a test can hold it, and a journal of what was pushed. Both
//! are files in the working directory: at a point that the conf file names the fake makes
//! `at-POINT` and goes on once `go-POINT` is there; `journal` gets a line for each push and
//! each receipt.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use super::claude::{Claude, Halt};
use super::wire::Push;

/// How often `go-POINT` is looked for.
const TICK: Duration = Duration::from_millis(5);

impl Claude {
    /// Waits here if the conf file says so. What comes in meanwhile is taken in.
    pub(super) fn reach(&mut self, point: &str) -> Result<(), Halt> {
        if !self.conf.holds.iter().any(|hold| hold == point) {
            return Ok(());
        }
        let cwd = self.records.places.cwd.clone();
        let go = cwd.join(format!("go-{point}"));
        if !go.exists() {
            let _ = File::create(cwd.join(format!("at-{point}")));
        }
        while !go.exists() {
            self.pause(TICK)?;
        }
        Ok(())
    }

    /// A line for the test: what happened to which message in this process.
    pub(super) fn journal(&self, what: &str, push: &Push) {
        if self.conf.holds.is_empty() {
            return;
        }
        let path = self.records.places.cwd.join("journal");
        if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
            let message = push.meta("message_id").unwrap_or_default();
            let _ = file.write_all(format!("{} {what} {message}\n", std::process::id()).as_bytes());
        }
    }
}
