//! The thread that writes entries: to the journal's socket, or to stderr as JSON lines. It alone
//! ever waits for whoever reads them.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::{Job, Shared};

const JOURNAL: &str = "/run/systemd/journal/socket";
/// systemd sets it to device and inode of the stream that it connected (systemd.exec(5)).
const STREAM: &str = "JOURNAL_STREAM";
/// A journal that restarts is back in less.
const AGAIN: Duration = Duration::from_millis(250);
/// From the first entry of a batch to its writing: a busy server wakes this thread seldom.
const GATHER: Duration = Duration::from_millis(5);
/// A datagram that no journal takes.
const TOO_LARGE: i32 = nix::errno::Errno::EMSGSIZE as i32;
/// Entries of a batch.
const BATCH: usize = 64;
/// How long the end of the server waits for a reader that takes nothing.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) enum Sink {
    /// A journal that restarts binds its socket anew: each entry is sent to the name.
    Journal { socket: UnixDatagram, name: PathBuf },
    /// JSON, one line for each entry.
    Lines(Box<dyn Write + Send>),
}

impl Sink {
    /// The journal when systemd connected our stderr to it.
    ///
    /// # Errors
    /// When the socket to the journal cannot be made.
    pub(super) fn choose() -> io::Result<Self> {
        let stream = std::env::var(STREAM).ok();
        if stream.is_some_and(|stream| is_stderr(&stream)) {
            return Self::journal(JOURNAL.into());
        }
        Ok(Self::Lines(Box::new(io::stderr())))
    }

    pub(super) fn journal(name: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journal that is stopped must not hold the end of the server.
        socket.set_write_timeout(Some(AGAIN))?;
        Ok(Self::Journal { socket, name })
    }

    /// How many of the entries were dealt with, and how many of those are lost.
    fn write(&mut self, entries: &[Entry]) -> (usize, u64) {
        match self {
            Self::Journal { socket, name } => {
                let mut lost = 0;
                for (done, entry) in entries.iter().enumerate() {
                    match socket.send_to(&entry.native(), &*name) {
                        Ok(_) => {}
                        // It will never fit.
                        Err(error) if error.raw_os_error() == Some(TOO_LARGE) => {
                            lost += 1;
                        }
                        Err(_) => return (done, lost),
                    }
                }
                (entries.len(), lost)
            }
            Self::Lines(out) => {
                let lines: Vec<u8> = entries.iter().flat_map(Entry::json).collect();
                let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
                // Part of them may be out: written again they would be there twice.
                let lost = if write_all(out, &lines).is_ok() { 0 } else { count };
                (entries.len(), lost)
            }
        }
    }
}

/// Waits for a stderr that does not block, too: it may be another process's choice.
fn write_all(out: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The variable is inherited by everything that a unit starts; a stderr that was sent elsewhere
/// since is not the journal.
fn is_stderr(stream: &str) -> bool {
    let Ok(stat) = nix::sys::stat::fstat(io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Writes what comes, to the end.
pub(super) fn serve(mut sink: Sink, jobs: &Receiver<Job>, shared: &Shared) {
    let mut waiting: Vec<Entry> = Vec::new();
    let mut until: Option<Instant> = None;
    loop {
        if waiting.len() < BATCH && gather(jobs, shared, &mut waiting) == Gathered::Over {
            until.get_or_insert_with(|| Instant::now() + FAREWELL);
        }
        for ((cause, kind), count) in shared.counted(until.is_some()) {
            waiting.push(Entry::counted(&cause, kind, count));
        }
        let (done, lost) = sink.write(&waiting);
        waiting.drain(..done);
        shared.lose(lost);
        if !waiting.is_empty() {
            if shared.is_over()
                && *until.get_or_insert_with(|| Instant::now() + FAREWELL) <= Instant::now()
            {
                return;
            }
            std::thread::sleep(AGAIN);
            continue;
        }
        let untold = shared.untold();
        if untold > 0 {
            waiting.push(Entry::lost(untold));
        } else if until.is_some() {
            return;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Gathered {
    /// What there was, for now.
    Some,
    /// The server ends, and nothing more is in the queue.
    Over,
}

/// Takes what there is; waits for it if there is nothing to do meanwhile.
fn gather(jobs: &Receiver<Job>, shared: &Shared, waiting: &mut Vec<Entry>) -> Gathered {
    let patience = match shared.next_deadline() {
        _ if !waiting.is_empty() || shared.is_over() => Some(Duration::ZERO),
        Some(at) => Some(at.saturating_duration_since(Instant::now())),
        None => None,
    };
    let first = match patience {
        Some(patience) => jobs.recv_timeout(patience),
        None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    let mut next = match first {
        Ok(job) => Some(job),
        Err(RecvTimeoutError::Timeout) if shared.is_over() => return Gathered::Over,
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return Gathered::Over,
    };
    if matches!(next, Some(Job::Write(_))) && !shared.is_over() {
        std::thread::sleep(GATHER);
    }
    while let Some(job) = next {
        if let Job::Write(entry) = job {
            waiting.push(*entry);
        }
        if waiting.len() >= BATCH {
            break;
        }
        next = jobs.try_recv().ok();
    }
    Gathered::Some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_was_inherited_says_nothing_of_this_stderr() {
        let stat = nix::sys::stat::fstat(io::stderr().as_fd()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in ["", "1:2", "8:x"] {
            assert!(!is_stderr(other), "{other}");
        }
    }
}
