//! The log of one run that is under way. One writer appends; an event is seen once it is
//! committed; every reader has its own place, sees the same events and holds nobody back.
//!
//! What is committed need not stay in memory: a reader that is far behind goes on from the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::event::{Event, Logged, Outcome, Status};
use super::failure::{Failure, FailureKind};
use super::id::RunId;
use crate::identity::SessionKey;

/// Bytes of committed events that stay in memory for readers that keep up.
const WINDOW: usize = 256 * 1024;
/// What an event costs beside its JSON.
const EVENT: usize = 128;

/// One run under way: an append-only list of events, closed by [`Event::Finished`].
#[derive(Debug)]
pub struct Run {
    id: RunId,
    key: SessionKey,
    /// The model's name as the client gave it.
    model: Arc<str>,
    /// Milliseconds since 1970.
    created: u64,
    /// Bytes that the whole log may have.
    limit: usize,
    log: Mutex<Log>,
    appended: Arc<Notify>,
    readers: AtomicUsize,
    /// claude was given the message.
    pushed: AtomicBool,
}

#[derive(Debug)]
struct Log {
    /// From `first` on.
    events: VecDeque<Arc<Logged>>,
    first: u64,
    /// The last one that readers see.
    visible: u64,
    /// The last one that was appended.
    last: u64,
    /// Bytes of all events so far, and of those in `events`.
    bytes: usize,
    kept: usize,
    finished: bool,
    /// This frontd stops: the run goes on elsewhere.
    left: bool,
    /// The store has everything that is visible.
    stored: bool,
}

/// What a reader finds at its place.
#[derive(Debug)]
pub enum Look {
    Here(Arc<Logged>),
    /// No longer in memory: the store has it.
    Stored,
    NotYet,
    /// The last event was read, or nothing more will be told here.
    Over,
}

impl Run {
    /// `limit` is in bytes.
    pub fn new(id: RunId, key: SessionKey, model: Arc<str>, limit: usize) -> Arc<Self> {
        let log = Log {
            events: VecDeque::new(),
            first: 1,
            visible: 0,
            last: 0,
            bytes: 0,
            kept: 0,
            finished: false,
            left: false,
            stored: true,
        };
        Arc::new(Self {
            id,
            key,
            model,
            created: now(),
            limit,
            log: Mutex::new(log),
            appended: Arc::default(),
            readers: AtomicUsize::new(0),
            pushed: AtomicBool::new(false),
        })
    }

    /// A run of an earlier process of this server: it goes on after its event `last`.
    pub fn again(
        id: RunId,
        key: SessionKey,
        model: Arc<str>,
        created: u64,
        limit: usize,
        last: u64,
        bytes: usize,
    ) -> Arc<Self> {
        let run = Self::new(id, key, model, limit);
        let mut run = Arc::into_inner(run).expect("nobody else has it yet");
        run.created = created;
        let log = run.log.get_mut().unwrap_or_else(PoisonError::into_inner);
        (log.first, log.visible, log.last, log.bytes) = (last + 1, last, last, bytes);
        Arc::new(run)
    }

    pub fn id(&self) -> RunId {
        self.id
    }

    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    pub fn is_pushed(&self) -> bool {
        self.pushed.load(Ordering::Relaxed)
    }

    pub fn set_pushed(&self, pushed: bool) {
        self.pushed.store(pushed, Ordering::Relaxed);
    }

    /// Milliseconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Appends unless the run is finished; a run that outgrows its bound fails with that. Nobody
    /// sees the event before [`publish`](Self::publish).
    pub fn append(&self, event: Event) -> Option<Arc<Logged>> {
        let mut log = self.lock();
        if log.finished {
            return None;
        }
        let mut logged = Logged::new(log.last + 1, now(), event);
        let is_end = matches!(logged.event, Event::Finished(_));
        if !is_end && log.bytes + logged.json.len() + EVENT > self.limit {
            let message = "the run's log is longer than a run may have";
            let error = Failure::new(FailureKind::TooLong, message);
            let end = Event::Finished(Outcome::Failed { error });
            logged = Logged::new(logged.seq, logged.at, end);
        }
        let logged = Arc::new(logged);
        log.push(Arc::clone(&logged));
        Some(logged)
    }

    /// Readers see everything up to `seq` from now on.
    pub fn publish(&self, seq: u64) {
        let mut log = self.lock();
        log.visible = log.visible.max(seq.min(log.last));
        log.forget();
        drop(log);
        self.appended.notify_waiters();
    }

    /// The store did not take event `from`: everything after it stays in memory, behind a note
    /// that says so. Readers see all of it.
    pub fn not_stored(&self, from: u64) {
        let mut log = self.lock();
        if log.stored {
            log.stored = false;
            let from = from.max(log.visible + 1).max(log.first);
            let at = usize::try_from(from - log.first).unwrap_or(usize::MAX).min(log.events.len());
            let later: Vec<Arc<Logged>> = log.events.drain(at..).collect();
            let kept: usize = later.iter().map(|logged| weight(logged)).sum();
            (log.kept, log.bytes) = (log.kept - kept, log.bytes - kept);
            (log.last, log.finished) = (from - 1, false);
            let note = Logged::new(from, now(), Event::Status(Status::NotStored));
            log.push(Arc::new(note));
            for logged in later {
                let (at, event) = (logged.at, logged.event.clone());
                let seq = log.last + 1;
                log.push(Arc::new(Logged::new(seq, at, event)));
            }
        }
        log.visible = log.last;
        drop(log);
        self.appended.notify_waiters();
    }

    /// Readers here hear no more of it.
    pub fn leave(&self) {
        self.lock().left = true;
        self.appended.notify_waiters();
    }

    /// Does the run go on without this process of the server?
    pub fn is_left(&self) -> bool {
        self.lock().left
    }

    /// Does the store have what readers see?
    pub fn is_stored(&self) -> bool {
        self.lock().stored
    }

    pub fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Readers see the end.
    pub fn is_over(&self) -> bool {
        let log = self.lock();
        log.finished && log.visible == log.last
    }

    /// The last event that readers see.
    pub fn visible(&self) -> u64 {
        self.lock().visible
    }

    pub fn look(&self, seq: u64) -> Look {
        let log = self.lock();
        if seq > log.visible {
            let over = log.left || (log.finished && log.visible == log.last);
            return if over { Look::Over } else { Look::NotYet };
        }
        let index = seq.checked_sub(log.first).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| log.events.get(index)) {
            Some(logged) => Look::Here(Arc::clone(logged)),
            None => Look::Stored,
        }
    }

    /// Completes when events became visible after this call.
    pub fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.appended).notified_owned()
    }

    /// Readers now.
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Counts one more reader; `None` when there are `most` already.
    pub fn seat(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let add = |count: usize| (count < most).then_some(count + 1);
        self.readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Seat(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic elsewhere cannot leave the log half written: no step between two changes panics.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, logged: Arc<Logged>) {
        self.last = logged.seq;
        self.finished = matches!(logged.event, Event::Finished(_));
        self.bytes += weight(&logged);
        self.kept += weight(&logged);
        self.events.push_back(logged);
    }

    /// Drops from memory what the store has and only slow readers still want.
    fn forget(&mut self) {
        while self.stored
            && self.kept > WINDOW
            && let Some(oldest) = self.events.front()
            && oldest.seq < self.visible
        {
            self.kept -= weight(oldest);
            self.first = oldest.seq + 1;
            self.events.pop_front();
        }
    }
}

fn weight(logged: &Logged) -> usize {
    logged.json.len() + EVENT
}

/// A reader's place among those of a run.
#[derive(Debug)]
pub struct Seat(Arc<Run>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
