//! What outlives the process: which conversation of the CLI belongs to which session key.
//!
//! [`sqlite`] is the store itself, synchronous. [`StoreHandle`] owns the one thread that uses it
//! and answers over channels, so that no turn waits for a disk on the event loop.

pub mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::ids::{AbsolutePath, ConversationId, UnixUser};
use tokio::sync::{mpsc, oneshot};

use crate::identity::SessionKey;
use sqlite::Store;

/// Requests that wait for the thread. Each belongs to one session's actor, which waits for the
/// answer, so the queue is as long as there are sessions that start at once.
const QUEUE: usize = 256;

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

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("prepare the store at {}", path.display())]
    Prepare { path: PathBuf, source: std::io::Error },
    #[error("open the store at {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("the store at {} has version {found}, this program knows up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("set the corrupt store at {} aside", path.display())]
    SetAside { path: PathBuf, source: std::io::Error },
    #[error("{step}")]
    Query { step: &'static str, source: rusqlite::Error },
    #[error("the store's thread has ended")]
    Stopped,
}

/// The store on its own thread. The last clone to go waits for what was asked of it.
#[derive(Clone)]
pub struct StoreHandle(Arc<Inner>);

struct Inner {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Job {
    Get(SessionKey, Answer<Option<Conversation>>),
    Put(Conversation, Answer<()>),
    Touch(SessionKey, Answer<()>),
}

impl StoreHandle {
    /// Opens or makes the database at `path`, and its folder, and starts the thread. A corrupt
    /// database is set aside, which is logged with its new name.
    ///
    /// # Errors
    /// Whatever keeps the store from being opened or its thread from being started.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = Store::open(path)?;
        if let Some(aside) = &opened.set_aside {
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(%path, %aside, "the store was corrupt and is set aside; conversations begin anew");
        }
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || serve(&opened.store, queue))
            .map_err(|source| StoreError::Prepare { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(Inner { jobs: Some(jobs), thread: Some(thread) })))
    }

    /// # Errors
    /// When the database cannot be read, or the row is not one of ours.
    pub async fn get(&self, key: SessionKey) -> Result<Option<Conversation>, StoreError> {
        self.ask(|answer| Job::Get(key, answer)).await
    }

    /// Inserts the conversation, or replaces the one that the key had. Once this has returned, it
    /// survives any end of this process.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn put(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.ask(|answer| Job::Put(conversation, answer)).await
    }

    /// Notes that the conversation was used now. An unknown key is no error.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn touch(&self, key: SessionKey) -> Result<(), StoreError> {
        self.ask(|answer| Job::Touch(key, answer)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let jobs = self.0.jobs.as_ref().ok_or(StoreError::Stopped)?;
        jobs.send(job(sender)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the queue ends the thread once it is empty.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(store: &Store, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        // Whoever asked may have gone meanwhile.
        match job {
            Job::Get(key, answer) => drop(answer.send(store.get(&key))),
            Job::Put(conversation, answer) => drop(answer.send(store.put(&conversation, now()))),
            Job::Touch(key, answer) => drop(answer.send(store.touch(&key, now()))),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{BodyHints, identify};

    #[tokio::test]
    async fn a_conversation_is_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frontd/synthesis.db");
        let body = BodyHints { user: Some("alice"), ..BodyHints::default() };
        let key = identify("local", &http::HeaderMap::new(), &body).unwrap().key;
        let workspace = AbsolutePath::new("/srv/demo").unwrap();
        let conversation =
            Conversation::new(key.clone(), UnixUser::new("alice").unwrap(), workspace);

        let store = StoreHandle::open(&path).unwrap();
        assert_eq!(store.get(key.clone()).await.unwrap(), None);
        store.put(conversation.clone()).await.unwrap();
        store.touch(key.clone()).await.unwrap();
        let other = store.clone();
        drop(store);
        assert_eq!(other.get(key.clone()).await.unwrap().as_ref(), Some(&conversation));
        drop(other);

        let store = StoreHandle::open(&path).unwrap();
        assert_eq!(store.get(key).await.unwrap(), Some(conversation));
    }
}
