//! The process slots of this server, shared out first come first served. When none is free, the
//! session that has been idle the longest is asked to stop; a busy one never is. One principal may
//! have a part of them: beyond that its own idle sessions make room, nobody else's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::machine::Input;
use super::message::Message;
use super::places::Places;
use crate::identity::SessionKey;

pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    all: Arc<Places>,
    idle: Mutex<HashMap<SessionKey, Idle>>,
    own: Mutex<Own>,
}

/// The places of principals.
struct Own {
    /// Of each; `None`: as many as there are.
    size: Option<usize>,
    places: HashMap<String, Arc<Places>>,
}

struct Idle {
    since: Instant,
    inbox: mpsc::Sender<Message>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// Every process of the server is busy.
    All,
    /// Every one that the principal may have is.
    Own,
}

/// A place for one process, from before its spawn until its exit is known.
pub struct Slot {
    shared: Arc<Shared>,
    /// Of its principal, with the name as it is written in keys.
    own: Option<(String, Arc<Places>)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { shared, own } = self;
        // Where one was over, nobody's place became free.
        if let Some((principal, places)) = own
            && !places.give_back()
            && places.waiting() > 0
        {
            shared.evict_oldest(|key| key.principal() == principal);
        }
        if !shared.all.give_back() && shared.all.waiting() > 0 {
            shared.evict_oldest(|_| true);
        }
    }
}

impl Pool {
    /// `size` processes at most, `each` of one principal.
    pub fn new(size: usize, each: Option<usize>) -> Self {
        let own = Mutex::new(Own { size: each, places: HashMap::new() });
        let shared = Shared { all: Arc::new(Places::new(size)), idle: Mutex::default(), own };
        Self { shared: Arc::new(shared) }
    }

    /// Other limits from now on. Where there are more processes already, they go on, and none begins
    /// until there are fewer.
    pub fn resize(&self, size: usize, each: Option<usize>) {
        self.shared.all.resize(size);
        let mut own = self.shared.lock_own();
        if let (Some(_), Some(each)) = (own.size, each) {
            own.size = Some(each);
            own.places.values().for_each(|places| places.resize(each));
        }
    }

    /// Processes that live, start or stop now.
    pub fn in_use(&self) -> usize {
        self.shared.all.in_use()
    }

    /// Processes that there may be.
    pub fn size(&self) -> usize {
        self.shared.all.size()
    }

    /// Sessions that wait for a slot.
    pub fn waiting(&self) -> usize {
        let own = self.shared.lock_own();
        self.shared.all.waiting() + own.places.values().map(|own| own.waiting()).sum::<usize>()
    }

    /// A slot.
    ///
    /// # Errors
    /// What was waited for in vain.
    pub async fn acquire(&self, principal: &str, wait: Duration) -> Result<Slot, NoSlot> {
        // Shared with what is waited for, which may move between threads.
        let had_own = AtomicBool::new(false);
        let slot = tokio::time::timeout(wait, self.wait_for(principal, &had_own)).await;
        slot.map_err(|_| match had_own.into_inner() {
            true => NoSlot::All,
            false => NoSlot::Own,
        })
    }

    async fn wait_for(&self, principal: &str, had_own: &AtomicBool) -> Slot {
        let shared = &self.shared;
        // Given back if the wait for the rest is in vain.
        let own = match shared.of(principal) {
            None => None,
            Some(places) => {
                let evict = || shared.evict_oldest(|key| key.principal() == principal);
                Some((principal.to_owned(), Taken::of(places, evict).await))
            }
        };
        had_own.store(true, Ordering::Relaxed);
        let all = Taken::of(Arc::clone(&shared.all), || shared.evict_oldest(|_| true)).await;
        drop(all.keep());
        let own = own.map(|(principal, taken)| (principal, taken.keep()));
        Slot { shared: Arc::clone(shared), own }
    }

    /// The slot of a process that runs already, whether there is a free one or not: it is nobody's
    /// fault that there are fewer now, and none is stopped for it but when idle and in the way.
    pub fn adopt(&self, principal: &str) -> Slot {
        let own = self.shared.of(principal);
        if let Some(own) = &own {
            own.take_beyond();
        }
        self.shared.all.take_beyond();
        let own = own.map(|own| (principal.to_owned(), own));
        Slot { shared: Arc::clone(&self.shared), own }
    }

    /// The session came to rest. If others wait, it makes room at once.
    pub fn now_idle(&self, key: &SessionKey, inbox: &mpsc::Sender<Message>, since: Instant) {
        self.shared.lock().insert(key.clone(), Idle { since, inbox: inbox.clone() });
        let principal = key.principal();
        if self.shared.all.waiting() > 0 {
            self.shared.evict_oldest(|_| true);
        } else if self.shared.of(principal).is_some_and(|own| own.waiting() > 0) {
            self.shared.evict_oldest(|key| key.principal() == principal);
        }
    }

    pub fn now_busy(&self, key: &SessionKey) {
        self.shared.lock().remove(key);
    }
}

/// A place that goes back unless it is kept.
struct Taken(Option<Arc<Places>>);

impl Taken {
    /// `make_room` is called before it waits. Cancel-safe.
    async fn of(places: Arc<Places>, make_room: impl FnOnce()) -> Self {
        if !places.try_take() {
            places.wait(make_room).await;
        }
        Self(Some(places))
    }

    fn keep(mut self) -> Arc<Places> {
        self.0.take().expect("only its end takes it")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(places) = &self.0 {
            places.give_back();
        }
    }
}

impl Shared {
    /// The places of a principal, which the key names as it is written in keys.
    fn of(&self, principal: &str) -> Option<Arc<Places>> {
        let mut own = self.lock_own();
        let size = own.size?;
        let new = || Arc::new(Places::new(size));
        Some(Arc::clone(own.places.entry(principal.to_owned()).or_insert_with(new)))
    }

    /// Asks the session that has been idle the longest, of those that may be asked.
    fn evict_oldest(&self, may: impl Fn(&SessionKey) -> bool) {
        let mut idle = self.lock();
        let idle_ones = idle.iter().filter(|(key, _)| may(key));
        let oldest = idle_ones.min_by_key(|(_, idle)| idle.since).map(|(key, _)| key.clone());
        if let Some(idle) = oldest.and_then(|key| idle.remove(&key)) {
            // A full inbox means that the session is not idle after all; its end of work will
            // bring it back here.
            let _ = idle.inbox.try_send(Message::Input(Input::Evict));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn adopted_processes_beyond_the_size_take_the_next_free_places() {
        let pool = Pool::new(2, None);
        let first = pool.adopt("al");
        let [second, third] = [pool.adopt("al"), pool.adopt("al")];
        assert_eq!(pool.in_use(), 3);
        drop(first);
        assert_eq!(pool.in_use(), 2);
        assert!(pool.acquire("al", WAIT).await.is_err(), "two still run");
        drop(second);
        let again = pool.acquire("bo", WAIT).await.unwrap();
        assert_eq!(pool.in_use(), 2);
        drop((third, again));
        assert_eq!(pool.in_use(), 0);
        let all = [pool.acquire("al", WAIT).await, pool.acquire("bo", WAIT).await];
        assert!(all.iter().all(Result::is_ok) && pool.acquire("al", WAIT).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_principal_at_its_limit_waits_for_its_own_and_leaves_others_alone() {
        let pool = Pool::new(4, Some(1));
        let al = pool.acquire("2:al", WAIT).await.unwrap();
        let [(to_al, mut heard_al), (to_bo, mut heard_bo)] = [mpsc::channel(1), mpsc::channel(1)];
        let key = |name| crate::identity::of_first_version(name, "a").unwrap();
        pool.now_idle(&key("al"), &to_al, Instant::now());
        pool.now_idle(&key("bo"), &to_bo, Instant::now());
        let principal = key("al").principal().to_owned();
        let _own = pool.acquire(&principal, WAIT).await.unwrap();
        assert!(pool.acquire(&principal, WAIT).await.is_err());
        assert!(matches!(heard_al.try_recv(), Ok(Message::Input(Input::Evict))));
        assert!(heard_bo.try_recv().is_err());
        assert!(pool.acquire("bo", WAIT).await.is_ok(), "there is room for others");
        drop(al);
    }

    #[tokio::test(start_paused = true)]
    async fn another_size_holds_from_now_on_and_ends_nobody() {
        let pool = Pool::new(1, Some(1));
        let first = pool.acquire("al", WAIT).await.unwrap();
        assert!(pool.acquire("al", WAIT).await.is_err());
        pool.resize(3, Some(2));
        let second = pool.acquire("al", WAIT).await.unwrap();
        assert!(pool.acquire("al", WAIT).await.is_err(), "two of one");
        let third = pool.acquire("bo", WAIT).await.unwrap();
        assert!(pool.acquire("bo", WAIT).await.is_err(), "three of all");
        pool.resize(1, Some(1));
        assert_eq!((pool.in_use(), pool.size()), (3, 1));
        drop(second);
        assert!(pool.acquire("al", WAIT).await.is_err(), "its first one runs");
        drop(third);
        assert!(pool.acquire("bo", WAIT).await.is_err(), "one of all runs");
        drop(first);
        let _last = pool.acquire("al", WAIT).await.unwrap();
        assert_eq!((pool.in_use(), pool.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_gives_back_what_it_had() {
        let pool = Pool::new(1, Some(1));
        let first = pool.acquire("al", WAIT).await.unwrap();
        assert!(pool.acquire("bo", WAIT).await.is_err());
        drop(first);
        assert!(pool.acquire("bo", WAIT).await.is_ok());
    }
}
