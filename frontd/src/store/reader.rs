//! A connection that only reads, on its own thread: a replay holds no commit up.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Shared, StoreError};

/// Requests that wait for the thread; who asks beyond waits.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the thread, which ends when this is gone.
pub(super) struct Reader {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

impl Reader {
    /// `jobs` is for [`serve`].
    pub(super) fn new(shared: Arc<Shared>) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        (Self { jobs, shared }, queue)
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        step: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.shared.is_corrupt() {
            return Err(StoreError::Corrupt);
        }
        let (sender, answer) = oneshot::channel();
        let job = move |connection: &Connection| {
            // Whoever asked may have gone meanwhile.
            let _ = sender.send(query(connection));
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| StoreError::Stopped)?;
        let answer = answer.await.map_err(|_| StoreError::Stopped)?;
        answer.map_err(|source| {
            let error = StoreError::Query { step, source };
            self.shared.failed_to_read(&error);
            error
        })
    }
}

/// Until the [`Reader`] is gone.
pub(super) fn serve(connection: &Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        job(connection);
    }
}
