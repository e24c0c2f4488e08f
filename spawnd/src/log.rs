//! One short line per event of our own on stderr; what peers ask and what becomes of it is the
//! audit record's ([`crate::audit`]). Under journald each carries its level. What peers said is
//! escaped by the caller with `{:?}`.

use std::fmt;
use std::sync::{Mutex, OnceLock};

use crate::stderr::Stderr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

pub fn error(event: fmt::Arguments<'_>) {
    line(Level::Error, event);
}

pub fn warning(event: fmt::Arguments<'_>) {
    line(Level::Warning, event);
}

pub fn info(event: fmt::Arguments<'_>) {
    line(Level::Info, event);
}

/// Did systemd connect our stderr to the journal (systemd.exec(5))?
pub fn under_journal() -> bool {
    static JOURNAL: OnceLock<bool> = OnceLock::new();
    *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some())
}

fn line(level: Level, event: fmt::Arguments<'_>) {
    // sd-daemon(3): the prefix is for the journal; people at a terminal need none.
    let text = match under_journal() {
        true => format!("<{}>{event}\n", level as u8),
        false => format!("spawnd: {event}\n"),
    };
    static STDERR: OnceLock<Option<Mutex<Stderr>>> = OnceLock::new();
    let stderr = STDERR.get_or_init(|| Stderr::open().ok().map(Mutex::new));
    // A log that cannot be written must neither end nor stop the sessions: the line is lost.
    if let Some(Ok(mut stderr)) = stderr.as_ref().map(Mutex::lock) {
        let _ = stderr.write(text.as_bytes());
    }
}
