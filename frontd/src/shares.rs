//! Something of which there is only so much, and of which one principal may hold a part alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Shares {
    all: Arc<Semaphore>,
    size: usize,
    /// What one principal may hold.
    each: usize,
    /// By principal, of those that were here.
    own: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// What somebody holds, until it is dropped.
pub struct Share {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Share {
    /// One thing of both.
    pub fn merge(&mut self, more: Self) {
        self.own.merge(more.own);
        self.all.merge(more.all);
    }
}

impl Shares {
    pub fn new(size: usize, each: usize) -> Self {
        let all = Arc::new(Semaphore::new(size));
        Self { all, size, each, own: Mutex::default() }
    }

    /// So much, or all that one may hold, when it is there. Cancel-safe.
    pub async fn acquire(&self, principal: &str, units: u32) -> Option<Share> {
        let units = units.min(u32::try_from(self.each).unwrap_or(u32::MAX));
        // One's own first: whoever has enough waits beside the queue, not in it.
        let own = self.of(principal).acquire_many_owned(units).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(units).await.ok()?;
        Some(Share { own, all })
    }

    /// One unit, if it is there now.
    pub fn try_acquire(&self, principal: &str) -> Option<Share> {
        let own = self.of(principal).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Share { own, all })
    }

    pub fn in_use(&self) -> usize {
        self.size.saturating_sub(self.all.available_permits())
    }

    fn of(&self, principal: &str) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        match own.get(principal) {
            Some(own) => Arc::clone(own),
            None => {
                let new = Arc::new(Semaphore::new(self.each));
                own.insert(principal.into(), Arc::clone(&new));
                new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn one_who_holds_its_part_waits_and_holds_nobody_up() {
        let shares = Shares::new(4, 2);
        let al = shares.acquire("al", 2).await.unwrap();
        assert!(shares.acquire("al", 1).now_or_never().is_none());
        assert!(shares.try_acquire("al").is_none());
        let bo = shares.acquire("bo", 9).now_or_never().unwrap();
        assert_eq!(shares.in_use(), 4);
        assert!(shares.try_acquire("cy").is_none());
        drop(bo);
        assert!(shares.try_acquire("cy").is_some());
        drop(al);
        assert_eq!(shares.in_use(), 0);
    }
}
