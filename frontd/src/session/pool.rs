//! The process slots of this server, shared out first come first served. When none is free, the
//! session that has been idle the longest is asked to stop; a busy one never is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::machine::Input;
use super::message::Message;
use crate::identity::SessionKey;

/// A place for one process, from before its spawn until its exit is known.
pub type Slot = OwnedSemaphorePermit;

pub struct Pool {
    slots: Arc<Semaphore>,
    size: usize,
    wait: Duration,
    waiting: AtomicUsize,
    idle: Mutex<HashMap<SessionKey, Idle>>,
}

struct Idle {
    since: Instant,
    inbox: mpsc::Sender<Message>,
}

impl Pool {
    /// `size` processes at most; a session waits at most `wait` for a slot.
    pub fn new(size: usize, wait: Duration) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(size)),
            size,
            wait,
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
        }
    }

    /// Processes that live, start or stop now.
    pub fn in_use(&self) -> usize {
        self.size - self.slots.available_permits()
    }

    /// A slot, or `None` when the wait was in vain.
    pub async fn acquire(&self) -> Option<Slot> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.evict_oldest();
        let slot = Arc::clone(&self.slots).acquire_owned();
        tokio::time::timeout(self.wait, slot).await.ok()?.ok()
    }

    /// The session came to rest. If others wait, it makes room at once.
    pub fn now_idle(&self, key: &SessionKey, inbox: &mpsc::Sender<Message>, since: Instant) {
        self.lock().insert(key.clone(), Idle { since, inbox: inbox.clone() });
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.evict_oldest();
        }
    }

    pub fn now_busy(&self, key: &SessionKey) {
        self.lock().remove(key);
    }

    fn evict_oldest(&self) {
        let mut idle = self.lock();
        let oldest = idle.iter().min_by_key(|(_, idle)| idle.since).map(|(key, _)| key.clone());
        if let Some(idle) = oldest.and_then(|key| idle.remove(&key)) {
            // A full inbox means that the session is not idle after all; its end of work will
            // bring it back here.
            let _ = idle.inbox.try_send(Message::Input(Input::Evict));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
