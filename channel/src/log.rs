//! Words for the operator, on standard error. claude holds the other end: when it is gone, a word
//! is lost and nothing else happens.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line. Never a body, never a secret.
pub(crate) fn line(words: Arguments<'_>) {
    // `eprintln!` would panic when claude has closed its end.
    let _lost = writeln!(std::io::stderr(), "channel: {words}");
}

macro_rules! log {
    ($($words:tt)*) => { $crate::log::line(format_args!($($words)*)) };
}
pub(crate) use log;
