//! What a power cut may take, and how long the log of the database grows: a thread that syncs and
//! checkpoints, so that no commit waits for the disk.
//!
//! The main file is never opened here beside SQLite: closing any descriptor of it would drop the
//! POSIX locks that SQLite holds on it (fcntl(2)), and with them the protection against other
//! processes. The write-ahead log has no locks, and it alone is what `synchronous=NORMAL` leaves
//! to be synced; it stays the same file while a connection is open.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

/// From a commit to its sync; the rest of a second is the disk's.
const DELAY: Duration = Duration::from_millis(500);

/// Pages of the log from which on they are copied into the main file (16 MiB). A log that begins
/// anew overwrites itself, which costs the writer half of what a growing one does.
const CHECKPOINT: i64 = 4000;

/// Pages from which on the writer is held up until the log can begin anew (32 MiB): a writer
/// without a pause would never let it.
const RESTART: i64 = 8000;

/// How long that may take before it is given up until the next time: another process may read.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// Tells the thread what happens.
#[derive(Clone, Default)]
pub(super) struct Durability(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Clean,
    /// With about as many pages written since the last sync.
    Dirty(usize),
    Stopped,
}

impl Durability {
    /// About as many pages were committed.
    pub(super) fn committed(&self, pages: usize) {
        let mut state = self.state();
        match *state {
            State::Clean => *state = State::Dirty(pages),
            State::Dirty(before) => {
                *state = State::Dirty(before + pages);
                if !is_much(before + pages) || is_much(before) {
                    return;
                }
            }
            State::Stopped => return,
        }
        self.0.1.notify_all();
    }

    pub(super) fn stop(&self) {
        *self.state() = State::Stopped;
        self.0.1.notify_all();
    }

    /// Until [`Self::stop`]. `log` is the database's write-ahead log.
    pub(super) fn serve(&self, log: &File, connection: &Connection) {
        let mut failed = false;
        while self.wait() {
            match log.sync_data() {
                Ok(()) => failed = false,
                Err(error) if failed => tracing::debug!(%error, "sync the store"),
                Err(error) => {
                    failed = true;
                    tracing::error!(%error, "the store cannot be synced: a power cut may take what was committed");
                }
            }
            if let Err(error) = checkpoint(connection) {
                // The log is whole without it; what ails the file, the writer meets too.
                tracing::debug!(%error, "checkpoint the store");
            }
        }
    }

    /// For a commit, and then for those that follow it, unless they are many. `false` at the end.
    fn wait(&self) -> bool {
        let unpoisoned = PoisonError::into_inner;
        let clean = |state: &mut State| *state == State::Clean;
        let few = |state: &mut State| matches!(state, State::Dirty(pages) if !is_much(*pages));
        let state = self.0.1.wait_while(self.state(), clean).unwrap_or_else(unpoisoned);
        let waited = self.0.1.wait_timeout_while(state, DELAY, few);
        let (mut state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *state == State::Stopped {
            return false;
        }
        *state = State::Clean;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_much(pages: usize) -> bool {
    i64::try_from(pages).is_ok_and(|pages| pages >= CHECKPOINT)
}

/// Copies a long log into the main file. Readers and the writer go on meanwhile, unless it is far
/// too long.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    if pages(connection, "PRAGMA wal_checkpoint(NOOP)")? < CHECKPOINT {
        return Ok(());
    }
    if pages(connection, "PRAGMA wal_checkpoint(PASSIVE)")? >= RESTART {
        pages(connection, "PRAGMA wal_checkpoint(RESTART)")?;
    }
    Ok(())
}

/// What a checkpoint says of the log's length; -1 when another checkpoint is under way.
fn pages(connection: &Connection, checkpoint: &str) -> rusqlite::Result<i64> {
    connection.query_row(checkpoint, [], |row| row.get(1))
}

#[cfg(test)]
mod tests;
