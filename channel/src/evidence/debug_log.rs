//! The CLI's debug log: the only place where it says whether it listens to the channel. Followed
//! until it has said so, kept small afterwards.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::testimony::shorten;

/// A line that is longer is not one of those that we wait for.
const LINE: usize = 16 * 1024;
/// Bytes read at a time; the CLI writes some 50 KiB while it starts.
const CHUNK: usize = 8 * 1024;
/// Bytes of a reason that frontd hears of.
const REASON: usize = 500;
/// Bytes that the log may have before it is emptied: some hundred turns, for people.
const KEPT: u64 = 4 * 1024 * 1024;

const SERVER: &str = "MCP server \"synthesis\": ";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Registered,
    Skipped { reason: String },
}

/// Follows the log from where it ended when the follower was made: what is older is not about the
/// server that this process is.
pub(crate) struct Follower {
    path: PathBuf,
    from: u64,
    file: Option<File>,
    lines: Lines,
}

impl Follower {
    pub(crate) fn new(path: &Path) -> Self {
        let from = std::fs::metadata(path).map_or(0, |data| data.len());
        Self { path: path.to_owned(), from, file: None, lines: Lines::default() }
    }

    /// Reads what was added; the verdict, once it is there.
    pub(crate) fn look(&mut self) -> Option<Verdict> {
        if self.file.is_none() {
            let mut file = super::open_plain(&self.path)?;
            file.seek(SeekFrom::Start(self.from)).ok()?;
            self.file = Some(file);
        }
        let mut chunk = [0; CHUNK];
        loop {
            let read = self.file.as_mut()?.read(&mut chunk).ok().filter(|read| *read > 0)?;
            if let Some(verdict) = chunk.get(..read).and_then(|chunk| self.lines.take(chunk)) {
                return Some(verdict);
            }
        }
    }
}

/// Puts lines together from pieces that end anywhere.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    /// The rest of a line that was too long.
    skipping: bool,
}

impl Lines {
    fn take(&mut self, mut chunk: &[u8]) -> Option<Verdict> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = chunk.split_at(end);
            chunk = rest.get(1..).unwrap_or_default();
            self.grow(line);
            let verdict = if self.skipping { None } else { judge(&self.partial) };
            self.partial.clear();
            self.skipping = false;
            if verdict.is_some() {
                return verdict;
            }
        }
        self.grow(chunk);
        None
    }

    fn grow(&mut self, piece: &[u8]) {
        if self.skipping || self.partial.len() + piece.len() > LINE {
            self.skipping = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }
}

/// `… MCP server "synthesis": Channel notifications …`, at the end of the line's own prefix: the
/// same words deep inside a longer line are somebody's text.
fn judge(line: &[u8]) -> Option<Verdict> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (before, said) = line.split_once(SERVER)?;
    if before.len() > 64 {
        return None;
    }
    match said.strip_prefix("Channel notifications ")? {
        "registered" | "re-registered after reconnect" => Some(Verdict::Registered),
        other => {
            let reason: String =
                other.strip_prefix("skipped: ")?.chars().filter(|c| !c.is_control()).collect();
            Some(Verdict::Skipped { reason: shorten(reason, REASON) })
        }
    }
}

/// Empties the log when it has grown over [`KEPT`]. claude appends, so it goes on at the start.
pub(crate) fn bound(path: &Path) {
    let long = std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > KEPT);
    if long && let Ok(file) = OpenOptions::new().write(true).open(path) {
        // Not emptied now, then at the next activity.
        let _tried = file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: &str = "2026-11-21T01:04:34.493Z [DEBUG] MCP server \"synthesis\": Channel \
                       notifications registered\n";
    const NO: &str = "2026-11-21T01:04:34.493Z [DEBUG] MCP server \"synthesis\": Channel \
                      notifications skipped: channels feature is not currently available\n";

    #[test]
    fn a_line_is_found_wherever_the_pieces_end() {
        let text = format!("first\n{}\n{YES}", "x".repeat(3 * LINE));
        for size in [1, 2, 3, 7, 64, 4096, text.len()] {
            let mut lines = Lines::default();
            let found: Vec<_> =
                text.as_bytes().chunks(size).filter_map(|chunk| lines.take(chunk)).collect();
            assert_eq!(found, [Verdict::Registered], "{size}");
            assert!(lines.partial.capacity() <= 2 * LINE);
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_kept() {
        let mut lines = Lines::default();
        let reason = "channels feature is not currently available".to_owned();
        assert_eq!(lines.take(NO.as_bytes()), Some(Verdict::Skipped { reason }));
    }

    #[test]
    fn other_servers_and_quoted_words_are_no_verdict() {
        for line in [
            YES.replace("synthesis", "other"),
            format!("{}{YES}", "a user said ".repeat(9)),
            YES.replace("registered", "registered soon"),
            YES.trim_end().to_owned(),
            "MCP server \"synthesis\": connected\n".to_owned(),
        ] {
            assert_eq!(Lines::default().take(line.as_bytes()), None, "{line}");
        }
        assert_eq!(judge(b"\xff MCP server \"synthesis\": Channel notifications registered"), None);
    }

    #[test]
    fn what_an_earlier_server_was_told_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        std::fs::write(&path, YES).unwrap();
        let mut follower = Follower::new(&path);
        assert_eq!(follower.look(), None);
        std::fs::write(&path, format!("{YES}{NO}")).unwrap();
        assert!(matches!(follower.look(), Some(Verdict::Skipped { .. })));
    }

    #[test]
    fn a_log_that_comes_later_is_read_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        let mut follower = Follower::new(&path);
        assert_eq!(follower.look(), None);
        std::fs::write(&path, YES).unwrap();
        assert_eq!(follower.look(), Some(Verdict::Registered));
    }

    #[test]
    fn only_a_long_log_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug.log");
        std::fs::write(&path, YES).unwrap();
        bound(&path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), YES);
        std::fs::write(&path, vec![b'x'; usize::try_from(KEPT).unwrap() + 1]).unwrap();
        bound(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
