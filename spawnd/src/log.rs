//! One short line per event on stderr. Under journald each carries its level. What peers said is
//! escaped by the caller with `{:?}`.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;

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

fn line(level: Level, event: fmt::Arguments<'_>) {
    // sd-daemon(3): the prefix is for the journal; people at a terminal need none.
    static JOURNAL: OnceLock<bool> = OnceLock::new();
    let text = if *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some()) {
        format!("<{}>{event}\n", level as u8)
    } else {
        format!("spawnd: {event}\n")
    };
    // A log that cannot be written must not end the sessions.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
