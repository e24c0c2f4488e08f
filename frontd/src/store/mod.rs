//! What outlives the process: conversations, runs with their events, and the processes that serve
//! them, in one SQLite file.
//!
//! [`StoreHandle`] owns two threads: one writes, committing together what waits; one reads. No
//! turn waits for a disk on the event loop.

pub mod change;
mod conversations;
mod durability;
mod error;
#[cfg(test)]
mod fixture;
mod ledger;
mod open;
mod reader;
pub mod retention;
mod rows;
mod runs;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use proto::ids::{AbsolutePath, ConversationId, UnixUser};
use tokio::sync::oneshot;

pub use change::{
    Batch, Change, Done, Idempotency, NewRun, Page, ProcessRow, RunRow, SessionRow, StoredFile,
};
pub use error::StoreError;
pub use retention::Keep;

use crate::identity::{self, SessionKey};
use crate::run::RunId;
use crate::spawner::chain;
use durability::Durability;
use error::Cause;
use reader::Reader;
use writer::Writer;

/// Of the hashes of what a conversation has seen: the latest. History beyond is older than any
/// that a client still edits.
pub const SEEN: usize = 4096;

const SYNC: &str = "store-sync";

/// A session key's conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub key: SessionKey,
    pub id: ConversationId,
    pub user: UnixUser,
    /// Fixed when the conversation begins: the CLI finds its transcript by it.
    pub workspace: AbsolutePath,
}

impl Conversation {
    /// A new one, with an id of its own.
    pub fn new(key: SessionKey, user: UnixUser, workspace: AbsolutePath) -> Self {
        Self { key, id: ConversationId(uuid::Uuid::new_v4()), user, workspace }
    }
}

/// The store on its own threads. The last clone to go waits for what was asked of it.
#[derive(Clone)]
pub struct StoreHandle(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Both are `None` only while it is dropped: that ends the threads once they have nothing to
    /// do.
    batches: Option<mpsc::Sender<Batch>>,
    reader: Option<Reader>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads and the handle tell each other.
struct Shared {
    path: PathBuf,
    pending: AtomicUsize,
    failing: AtomicBool,
    corrupt: AtomicBool,
    durability: Durability,
    keep: Mutex<Keep>,
}

impl StoreHandle {
    /// Opens or makes the database at `path`, and its folder, and starts the threads. A corrupt
    /// database is set aside, which is logged with its new name.
    ///
    /// # Errors
    /// Whatever keeps the store from being opened or its threads from being started.
    pub fn open(path: &Path, keep: Keep) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        if let Some(aside) = &opened.set_aside {
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(%path, %aside, "the store was corrupt and is set aside; conversations begin anew");
        }
        let shared = Arc::new(Shared::new(path, keep));
        let (batches, queue) = mpsc::channel();
        let (reader, jobs) = Reader::new(Arc::clone(&shared));
        let open::Files { writer, reader: reading, checkpointer, log } = opened.files;
        let writer = Writer::new(writer, Arc::clone(&shared));
        let durability = shared.durability.clone();
        let mut inner =
            Inner { shared, batches: Some(batches), reader: Some(reader), threads: Vec::new() };
        // From here on `inner` ends those that have started.
        for (name, work) in [
            ("store", Box::new(move || writer.serve(&queue)) as Box<dyn FnOnce() + Send>),
            ("store-reader", Box::new(move || reader::serve(&reading, jobs))),
            (SYNC, Box::new(move || durability.serve(&log, &checkpointer))),
        ] {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            let prepare = |source| StoreError::Prepare { path: path.to_owned(), source };
            inner.threads.push(thread.map_err(prepare)?);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Never blocks; callers bound what they have outstanding.
    pub fn write(&self, batch: Batch) {
        self.0.shared.pending.fetch_add(1, Ordering::Relaxed);
        let Some(batches) = &self.0.batches else { return };
        if let Err(mpsc::SendError(batch)) = batches.send(batch) {
            self.0.shared.pending.fetch_sub(1, Ordering::Relaxed);
            if let Some(done) = batch.done {
                done(Err(Arc::new(StoreError::Stopped)));
            }
        }
    }

    /// Batches that are not yet committed.
    pub fn pending(&self) -> usize {
        self.0.shared.pending.load(Ordering::Relaxed)
    }

    /// The database and its log on disk.
    pub fn bytes(&self) -> u64 {
        let database = self.0.shared.path.as_os_str();
        let size = |suffix: &str| {
            let mut path = database.to_owned();
            path.push(suffix);
            std::fs::metadata(path).map_or(0, |metadata| metadata.len())
        };
        size("") + size("-wal")
    }

    /// Writes `changes`. Once this has returned, they survive any end of this process.
    ///
    /// # Errors
    /// When they could not be written: then none of them was.
    pub async fn committed(&self, changes: Vec<Change>) -> Result<(), Arc<StoreError>> {
        let (sender, verdict) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        self.write(Batch { changes, done: Some(done) });
        verdict.await.unwrap_or_else(|_| Err(Arc::new(StoreError::Stopped)))
    }

    /// Keeps as much from now on.
    pub fn set_keep(&self, keep: Keep) {
        *self.0.shared.keep.lock().unwrap_or_else(PoisonError::into_inner) = keep;
    }

    /// Did the last commit fail for want of a disk that takes it? Cleared by the next that
    /// succeeds; one is tried every second.
    pub fn is_failing(&self) -> bool {
        self.0.shared.failing.load(Ordering::Relaxed) || self.0.shared.is_corrupt()
    }
}

/// Reads. Each sees everything that was committed before it was asked.
///
/// # Errors
/// When the database cannot be read, or a row is none of ours.
#[expect(clippy::missing_errors_doc, reason = "one word for all of them")]
impl StoreHandle {
    /// A key's conversation, and the hashes of what it has seen.
    pub async fn conversation(
        &self,
        key: SessionKey,
    ) -> Result<Option<(Conversation, Vec<u64>)>, StoreError> {
        self.read("look a conversation up", move |db| conversations::get(db, &key)).await
    }

    pub async fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        self.read("look a run up", move |db| runs::get(db, id)).await
    }

    /// The run that was begun with this idempotency key, and the fingerprint of its request.
    pub async fn keyed(
        &self,
        principal: String,
        key: String,
    ) -> Result<Option<(RunRow, [u8; 32])>, StoreError> {
        let principal = identity::plain(&principal);
        self.read("look a key up", move |db| runs::keyed(db, &principal, &key)).await
    }

    /// The events after `after`: at most 1,024 and 512 KiB, but at least one if there is one.
    pub async fn events(&self, run: RunId, after: u64) -> Result<Page, StoreError> {
        self.read("read a run's events", move |db| runs::events(db, run, after)).await
    }

    /// A session's runs, the newest first; with `before`, those older than the run with this
    /// number.
    pub async fn runs_of(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        self.read("list a session's runs", move |db| runs::of_session(db, &key, before, limit))
            .await
    }

    /// The oldest first.
    pub async fn unfinished(&self) -> Result<Vec<RunRow>, StoreError> {
        self.read("list the runs under way", runs::unfinished).await
    }

    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        self.read("list processes", conversations::processes).await
    }

    /// A principal's, or everybody's, in the order of their keys; with `after`, those whose key comes
    /// later than this text.
    pub async fn sessions(
        &self,
        principal: Option<String>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.read("list sessions", move |db| {
            conversations::sessions(db, principal.as_deref(), after.as_deref(), limit)
        })
        .await
    }

    /// How many sessions there are, and how many principals have some.
    pub async fn count(&self) -> Result<(u64, u64), StoreError> {
        self.read("count sessions", conversations::count).await
    }

    /// The session with this key.
    pub async fn session(&self, key: SessionKey) -> Result<Option<SessionRow>, StoreError> {
        self.read("look a session up", move |db| conversations::session(db, &key)).await
    }

    /// A file of a run under way.
    pub async fn file(&self, run: RunId, index: usize) -> Result<Option<StoredFile>, StoreError> {
        self.read("read a file", move |db| runs::file(db, run, index)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        step: &'static str,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.reader.as_ref().ok_or(StoreError::Stopped)?.read(step, query).await
    }
}

impl Shared {
    fn new(path: &Path, keep: Keep) -> Self {
        Self {
            path: path.to_owned(),
            pending: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
            durability: Durability::default(),
            keep: Mutex::new(keep),
        }
    }

    fn keep(&self) -> Keep {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// About as many pages were written.
    fn committed(&self, pages: usize) {
        self.durability.committed(pages);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!("the store takes what is written again");
        }
    }

    /// Learns from the error of a commit.
    fn failed(&self, error: &StoreError) {
        match error.cause() {
            Cause::Batch => {}
            Cause::Disk | Cause::Locked => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let error = chain(error);
                    tracing::error!(%error, "the store takes nothing: new runs are refused");
                }
            }
            Cause::Corrupt => self.corrupted(error),
        }
    }

    /// Learns from the error of a read.
    fn failed_to_read(&self, error: &StoreError) {
        if error.cause() == Cause::Corrupt {
            self.corrupted(error);
        }
    }

    /// Nothing is written any more to a file whose pages contradict each other, and nothing that
    /// it says is trusted. It is left where it is until nobody has it open: the next start sets
    /// it aside.
    fn corrupted(&self, error: &StoreError) {
        if self.corrupt.swap(true, Ordering::Relaxed) {
            return;
        }
        let (path, error) = (self.path.display(), chain(error));
        tracing::error!(%path, %error, "the store is corrupt: nothing is stored until a restart, which sets it aside");
        if let Err(error) = open::mark_corrupt(&self.path) {
            tracing::error!(%path, %error, "the next start may not know that the store is corrupt");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.batches = None;
        self.reader = None;
        let own = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last to be started: it syncs what the writer does until its end.
            if thread.thread().name() == Some(SYNC) {
                self.shared.durability.stop();
            }
            // A callback may hold the last handle: a thread cannot wait for itself.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}
