//! A number of places that may change: who has one keeps it, and where more are taken than there
//! are, what is given back is gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

#[derive(Debug)]
pub struct Places {
    /// A permit for each free place; those of taken ones are forgotten until they are free again.
    free: Semaphore,
    size: AtomicUsize,
    /// Taken beyond `size`.
    over: AtomicUsize,
    waiting: AtomicUsize,
}

impl Places {
    pub fn new(size: usize) -> Self {
        let (over, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { free: Semaphore::new(size), size: AtomicUsize::new(size), over, waiting }
    }

    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Taken ones.
    pub fn in_use(&self) -> usize {
        let taken = self.size().saturating_sub(self.free.available_permits());
        taken + self.over.load(Ordering::Relaxed)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn try_take(&self) -> bool {
        self.free.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Takes one when there is one. `make_room` is called once the wait is known. Cancel-safe.
    pub async fn wait(&self, make_room: impl FnOnce()) {
        let _waiting = Waiting::new(&self.waiting);
        make_room();
        if let Ok(permit) = self.free.acquire().await {
            permit.forget();
        }
    }

    /// Takes one, whether there is one or not.
    pub fn take_beyond(&self) {
        if !self.try_take() {
            self.over.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives one back; `false` when there are still as many taken as may be, or more.
    pub fn give_back(&self) -> bool {
        let was_over = self.take_off(1) == 1;
        if !was_over {
            self.free.add_permits(1);
        }
        !was_over
    }

    pub fn resize(&self, size: usize) {
        let before = self.size.swap(size, Ordering::Relaxed);
        if let Some(more) = size.checked_sub(before) {
            self.free.add_permits(more - self.take_off(more));
        } else {
            let fewer = before - size;
            let taken = fewer - self.free.forget_permits(fewer);
            self.over.fetch_add(taken, Ordering::Relaxed);
        }
    }

    /// At most `count` of those beyond; how many it were.
    fn take_off(&self, count: usize) -> usize {
        let less = |over: usize| Some(over.saturating_sub(count));
        let before = self.over.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.unwrap_or_default().min(count)
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
