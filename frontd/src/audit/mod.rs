//! The record of frontd: who asked for what, what was let in or refused, how each turn ended. Each
//! entry names its witness. No message text is in it unless the configuration says so.
//!
//! Entries are written by a thread of their own from a bounded queue: nothing on the event loop
//! waits for the journal. What does not fit is counted and told. What a peer can cause at will is
//! counted instead of written above a rate; what happens to a run never is.

mod entry;
pub mod redact;
mod sink;
#[cfg(test)]
mod tests;
mod throttle;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use entry::{Cause, Entry, Kind, Peer};
use sink::Sink;
use throttle::{Throttle, Verdict};

/// Entries that may wait for the journal: some seconds of a busy server, some megabytes.
const WAITING: usize = 4096;
/// Entries of one kind that one peer can cause in a second before the rest is counted.
const PER_SECOND: u64 = 10;
/// How long the end of the server waits for the thread, whoever holds that up.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The handle that the server's parts share.
pub struct Audit {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    /// Disconnected when the thread has ended.
    thread: Mutex<Option<Receiver<()>>>,
}

enum Job {
    Write(Box<Entry>),
    /// Something is counted from now on, or the server ends.
    Look,
}

struct Shared {
    throttle: Mutex<Throttle>,
    /// Entries that were lost: not told of yet, and ever.
    untold: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
}

impl Audit {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there is neither journal nor thread to be had.
    pub fn start() -> io::Result<Self> {
        Self::with(Sink::choose()?, WAITING)
    }

    fn with(sink: Sink, waiting: usize) -> io::Result<Self> {
        let (audit, jobs) = Self::new(waiting);
        let shared = Arc::clone(&audit.shared);
        let (alive, ended) = sync_channel(0);
        let work = move || {
            sink::serve(sink, &jobs, &shared);
            drop::<SyncSender<()>>(alive);
        };
        std::thread::Builder::new().name("audit".to_owned()).spawn(work)?;
        *lock(&audit.thread) = Some(ended);
        Ok(audit)
    }

    fn new(waiting: usize) -> (Self, Receiver<Job>) {
        let (jobs, receiver) = sync_channel(waiting);
        let throttle = Mutex::new(Throttle::new(PER_SECOND));
        let (untold, lost, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { throttle, untold, lost, over });
        (Self { jobs, shared, thread: Mutex::default() }, receiver)
    }

    /// Never waits.
    pub fn write(&self, entry: Entry) {
        match self.jobs.try_send(Job::Write(Box::new(entry))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.shared.lose(1),
        }
    }

    /// Writes, or counts, what somebody can cause as often as he likes. The entry is made only if it
    /// is written.
    pub fn caused(&self, cause: Cause, kind: Kind, entry: impl FnOnce() -> Entry) {
        match lock(&self.shared.throttle).judge(&cause, kind, Instant::now()) {
            Verdict::Write => self.write(entry()),
            // A full queue: its thread is at work, and looks after each batch.
            Verdict::CountFirst => drop(self.jobs.try_send(Job::Look)),
            Verdict::Count => {}
        }
    }

    /// Entries that could not be written so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits, as far as somebody takes it in time. Blocks so long.
    pub fn end(&self) {
        let Some(ended) = lock(&self.thread).take() else { return };
        self.shared.over.store(true, Ordering::Release);
        // If the queue is full the thread is at work, and sees it.
        let _ = self.jobs.try_send(Job::Look);
        let _ = ended.recv_timeout(END_WITHIN);
    }
}

impl Shared {
    fn lose(&self, count: u64) {
        self.untold.fetch_add(count, Ordering::Relaxed);
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// What was lost since this was asked last.
    fn untold(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// Nothing more comes than is in the queue.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn counted(&self, all: bool) -> Vec<((Cause, Kind), u64)> {
        let mut throttle = lock(&self.throttle);
        if all { throttle.end() } else { throttle.due(Instant::now()) }
    }

    fn next_deadline(&self) -> Option<Instant> {
        lock(&self.throttle).next_deadline()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
