//! What the CLI's own files prove: its debug log (does it listen?), its transcript (does it have a
//! message, what did a turn cost?), its state file (is it idle?), the settings (are hooks off?).
//!
//! All of them are written by claude or by its user, so every read is bounded, and a path that
//! claude names is only ever read, as that user, when it is a plain file.

pub(crate) mod debug_log;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod transcript;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a plain file for reading. A FIFO would block the open, a device the read.
pub(crate) fn open_plain(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let file = options.open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// The whole of a small file; `None` when it is missing or longer than `limit`.
fn read_small(path: &Path, limit: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let bound = u64::try_from(limit).ok()? + 1;
    open_plain(path)?.take(bound).read_to_end(&mut text).ok()?;
    (text.len() <= limit).then_some(text)
}
