//! The process slots of this server, shared out first come first served. When none is free, the
//! session that has been idle the longest is asked to stop; a busy one never is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::machine::Input;
use super::message::Message;
use crate::identity::SessionKey;

pub struct Pool {
    shared: Arc<Shared>,
    wait: Duration,
}

struct Shared {
    /// A permit for each free place; those of taken ones are forgotten until they are free again.
    slots: Semaphore,
    size: usize,
    /// Processes beyond `size`: taken over from an earlier frontd that had more.
    over: AtomicUsize,
    waiting: AtomicUsize,
    idle: Mutex<HashMap<SessionKey, Idle>>,
}

struct Idle {
    since: Instant,
    inbox: mpsc::Sender<Message>,
}

/// A place for one process, from before its spawn until its exit is known.
pub struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        let taken_off = self
            .0
            .over
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |over| over.checked_sub(1));
        match taken_off {
            // Still as many as there may be, or more: nobody's place became free.
            Ok(_) if self.0.waiting.load(Ordering::Relaxed) > 0 => self.0.evict_oldest(),
            Ok(_) => {}
            Err(_) => self.0.slots.add_permits(1),
        }
    }
}

impl Pool {
    /// `size` processes at most; a session waits at most `wait` for a slot.
    pub fn new(size: usize, wait: Duration) -> Self {
        let (over, waiting, idle) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
        let shared = Shared { slots: Semaphore::new(size), size, over, waiting, idle };
        Self { shared: Arc::new(shared), wait }
    }

    /// Processes that live, start or stop now.
    pub fn in_use(&self) -> usize {
        let Shared { slots, size, over, .. } = &*self.shared;
        size - slots.available_permits() + over.load(Ordering::Relaxed)
    }

    /// A slot, or `None` when the wait was in vain.
    pub async fn acquire(&self) -> Option<Slot> {
        let shared = &self.shared;
        if let Ok(permit) = shared.slots.try_acquire() {
            permit.forget();
            return Some(Slot(Arc::clone(shared)));
        }
        let _waiting = Waiting::new(&shared.waiting);
        shared.evict_oldest();
        let permit = tokio::time::timeout(self.wait, shared.slots.acquire()).await.ok()?.ok()?;
        permit.forget();
        Some(Slot(Arc::clone(shared)))
    }

    /// The slot of a process that runs already, whether there is a free one or not: it is nobody's
    /// fault that there are fewer now, and none is stopped for it but when idle and in the way.
    pub fn adopt(&self) -> Slot {
        match self.shared.slots.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => drop(self.shared.over.fetch_add(1, Ordering::Relaxed)),
        }
        Slot(Arc::clone(&self.shared))
    }

    /// The session came to rest. If others wait, it makes room at once.
    pub fn now_idle(&self, key: &SessionKey, inbox: &mpsc::Sender<Message>, since: Instant) {
        self.shared.lock().insert(key.clone(), Idle { since, inbox: inbox.clone() });
        if self.shared.waiting.load(Ordering::Relaxed) > 0 {
            self.shared.evict_oldest();
        }
    }

    pub fn now_busy(&self, key: &SessionKey) {
        self.shared.lock().remove(key);
    }
}

impl Shared {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn adopted_processes_beyond_the_size_take_the_next_free_places() {
        let pool = Pool::new(2, Duration::from_secs(1));
        let first = pool.adopt();
        let [second, third] = [pool.adopt(), pool.adopt()];
        assert_eq!(pool.in_use(), 3);
        drop(first);
        assert_eq!(pool.in_use(), 2);
        assert!(pool.acquire().await.is_none(), "two still run");
        drop(second);
        let again = pool.acquire().await.unwrap();
        assert_eq!(pool.in_use(), 2);
        drop((third, again));
        assert_eq!(pool.in_use(), 0);
        let all = [pool.acquire().await, pool.acquire().await];
        assert!(all.iter().all(Option::is_some) && pool.acquire().await.is_none());
    }
}
