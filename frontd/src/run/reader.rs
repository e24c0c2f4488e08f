//! One reader's place in a run: from memory where it keeps up, from the store where it does not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Event, Logged, Status};
use super::id::RunId;
use super::log::{Look, Run, Seat};
use crate::shares::Share;
use crate::store::{RunRow, StoreError, StoreHandle};

/// Reads a run's events one after the other.
pub struct Reader {
    source: Source,
    store: StoreHandle,
    /// The place to read next.
    next: u64,
    /// Read from the store, not given yet.
    page: VecDeque<Arc<Logged>>,
    /// What stands in for the events that the store did not take.
    epilogue: Vec<Arc<Logged>>,
    /// Among the readers of runs that are over.
    seat: Option<Share>,
}

#[derive(Debug)]
enum Source {
    Live {
        run: Arc<Run>,
        _seat: Seat,
    },
    /// Over, and kept up to event `last`.
    Stored {
        id: RunId,
        last: u64,
    },
}

/// Why a reader cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has dropped what comes next; the log goes on at `first`.
    #[error("the events before {first} are no longer kept")]
    Gone { first: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// A reader of a run under way that begins behind event `after`.
    pub fn live(run: Arc<Run>, seat: Seat, store: StoreHandle, after: u64) -> Self {
        let source = Source::Live { run, _seat: seat };
        let (page, epilogue) = (VecDeque::new(), Vec::new());
        Self { source, store, next: after.saturating_add(1), page, epilogue, seat: None }
    }

    /// A reader of a run that is over, or that nobody goes on with.
    pub fn stored(row: &RunRow, store: StoreHandle, after: u64) -> Self {
        let source = Source::Stored { id: row.id, last: row.last_seq };
        let next = after.saturating_add(1);
        let mut page = VecDeque::new();
        if next > row.last_seq {
            page.extend(epilogue(row).into_iter().filter(|logged| logged.seq >= next));
        }
        Self { source, store, next, page, epilogue: epilogue(row), seat: None }
    }

    /// Gives the seat back with the reader.
    #[must_use]
    pub fn with_seat(mut self, seat: Share) -> Self {
        self.seat = Some(seat);
        self
    }

    /// The next event, if it needs no wait.
    pub fn try_next(&mut self) -> Option<Arc<Logged>> {
        let logged = match self.page.pop_front() {
            Some(logged) => logged,
            None => match &self.source {
                Source::Live { run, .. } => match run.look(self.next) {
                    Look::Here(logged) => logged,
                    Look::Stored | Look::NotYet | Look::Over => return None,
                },
                Source::Stored { .. } => return None,
            },
        };
        self.next = logged.seq + 1;
        Some(logged)
    }

    /// The next event; waits for it. `None` after the last. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`]; the reader is of no more use then.
    pub async fn next(&mut self) -> Result<Option<Arc<Logged>>, ReadError> {
        loop {
            // Made before the look, so that what becomes visible between the two is not missed.
            let changed = self.run().map(|run| run.changed());
            if let Some(logged) = self.try_next() {
                return Ok(Some(logged));
            }
            let id = match (&self.source, changed) {
                (Source::Stored { last, .. }, _) if self.next > *last => return Ok(None),
                (Source::Stored { id, .. }, _) => *id,
                (Source::Live { run, .. }, changed) => match (run.look(self.next), changed) {
                    (Look::Here(_), _) => continue,
                    (Look::Stored, _) => run.id(),
                    (Look::NotYet, Some(changed)) => {
                        changed.await;
                        continue;
                    }
                    (Look::Over, _) | (Look::NotYet, None) => return Ok(None),
                },
            };
            self.turn_page(id).await?;
        }
    }

    fn run(&self) -> Option<&Arc<Run>> {
        match &self.source {
            Source::Live { run, .. } => Some(run),
            Source::Stored { .. } => None,
        }
    }

    async fn turn_page(&mut self, run: RunId) -> Result<(), ReadError> {
        let page = self.store.events(run, self.next - 1).await?;
        if page.first_seq > self.next {
            return Err(ReadError::Gone { first: page.first_seq });
        }
        if page.events.is_empty() {
            // The store's row says that there is more: it was removed meanwhile.
            return Err(ReadError::Gone { first: page.first_seq });
        }
        self.page.extend(page.events.into_iter().map(Arc::new));
        if let (Source::Stored { last, .. }, Some(read)) = (&self.source, self.page.back())
            && read.seq >= *last
        {
            self.page.extend(self.epilogue.drain(..));
        }
        Ok(())
    }
}

/// Events of a run that is over were lost when its store was full: a late reader hears so, and how
/// it ended.
fn epilogue(row: &RunRow) -> Vec<Arc<Logged>> {
    let (Some(at), Some(outcome), true) = (row.finished, &row.outcome, row.incomplete) else {
        return Vec::new();
    };
    let note = Logged::new(row.last_seq + 1, at, Event::Status(Status::NotStored));
    let end = Logged::new(row.last_seq + 2, at, Event::Finished(outcome.clone()));
    vec![Arc::new(note), Arc::new(end)]
}
