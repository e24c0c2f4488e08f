//! The runs that are under way, by id and by the key that a client gave.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::id::RunId;
use super::log::Run;
use crate::identity::SessionKey;

/// Runs that are over and that the store does not have: kept for readers that come late.
const UNSTORED: usize = 32;

/// A client's own key of a request, and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    pub principal: String,
    pub key: String,
    pub fingerprint: [u8; 32],
}

/// Runs under way. Whatever is not here and was ever stored is in the store.
#[derive(Debug, Default)]
pub struct Runs {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    active: HashMap<RunId, (Arc<Run>, Option<Slot>)>,
    keyed: HashMap<Slot, ([u8; 32], RunId)>,
    unstored: VecDeque<Arc<Run>>,
}

/// Principal and key.
type Slot = (String, String);

/// What became of a run that a client wanted to begin.
#[derive(Debug)]
pub enum Begun {
    New,
    /// The key's run is under way already.
    Known {
        run: Arc<Run>,
        fingerprint: [u8; 32],
    },
}

impl Runs {
    /// Enters the run, unless its key has one already.
    pub fn begin(&self, run: &Arc<Run>, keyed: Option<&Keyed>) -> Begun {
        let mut inner = self.lock();
        let slot = keyed.map(|keyed| (keyed.principal.clone(), keyed.key.clone()));
        if let (Some(keyed), Some(slot)) = (keyed, &slot) {
            if let Some((fingerprint, id)) = inner.keyed.get(slot)
                && let Some((run, _)) = inner.active.get(id)
            {
                return Begun::Known { run: Arc::clone(run), fingerprint: *fingerprint };
            }
            inner.keyed.insert(slot.clone(), (keyed.fingerprint, run.id()));
        }
        inner.active.insert(run.id(), (Arc::clone(run), slot));
        Begun::New
    }

    /// The run under way that was begun with this key, and the fingerprint of its request.
    pub fn keyed(&self, keyed: &Keyed) -> Option<(Arc<Run>, [u8; 32])> {
        let inner = self.lock();
        let (fingerprint, id) = inner.keyed.get(&(keyed.principal.clone(), keyed.key.clone()))?;
        inner.active.get(id).map(|(run, _)| (Arc::clone(run), *fingerprint))
    }

    pub fn find(&self, id: RunId) -> Option<Arc<Run>> {
        let inner = self.lock();
        let unstored = || inner.unstored.iter().find(|run| run.id() == id);
        inner.active.get(&id).map(|(run, _)| run).or_else(unstored).cloned()
    }

    /// The session's runs that are under way, oldest first.
    pub fn of(&self, key: &SessionKey) -> Vec<Arc<Run>> {
        let inner = self.lock();
        let mut runs: Vec<_> = inner
            .active
            .values()
            .map(|(run, _)| run)
            .filter(|run| run.key() == key)
            .cloned()
            .collect();
        runs.sort_by_key(|run| run.created());
        runs
    }

    /// How many runs the principal has under way, and how many of them claude has not been given.
    pub fn count_of(&self, principal: &str) -> (usize, usize) {
        let inner = self.lock();
        let own = inner.active.values().filter(|(run, _)| run.key().is_of(principal));
        own.fold((0, 0), |(all, waiting), (run, _)| {
            (all + 1, waiting + usize::from(!run.is_pushed()))
        })
    }

    /// How many are under way, and how many of them claude has not been given.
    pub fn tally(&self) -> (usize, usize) {
        let inner = self.lock();
        let waiting = inner.active.values().filter(|(run, _)| !run.is_pushed()).count();
        (inner.active.len(), waiting)
    }

    /// The sessions that have runs under way.
    pub fn keys(&self) -> HashSet<SessionKey> {
        self.lock().active.values().map(|(run, _)| run.key().clone()).collect()
    }

    /// How many runs are under way, and how many readers those and the unstored ones have.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.lock();
        let runs = inner.active.values().map(|(run, _)| run).chain(&inner.unstored);
        (inner.active.len(), runs.map(|run| run.readers()).sum())
    }

    /// The run is over, committed or not.
    pub fn end(&self, id: RunId) {
        let mut inner = self.lock();
        let Some((run, slot)) = inner.active.remove(&id) else { return };
        if let Some(slot) = slot {
            inner.keyed.remove(&slot);
        }
        if !run.is_stored() {
            inner.unstored.push_back(run);
            if inner.unstored.len() > UNSTORED {
                inner.unstored.pop_front();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::of_first_version;
    use crate::run::Event;

    fn run() -> Arc<Run> {
        let key = of_first_version("local", "a").unwrap();
        Run::new(RunId::random(), key, "m".into(), 1 << 20)
    }

    fn keyed(fingerprint: u8) -> Keyed {
        let (principal, key) = ("local".to_owned(), "k".to_owned());
        Keyed { principal, key, fingerprint: [fingerprint; 32] }
    }

    #[test]
    fn a_key_has_one_run_at_a_time() {
        let (runs, first, second) = (Runs::default(), run(), run());
        assert!(matches!(runs.begin(&first, Some(&keyed(1))), Begun::New));
        let Begun::Known { run, fingerprint } = runs.begin(&second, Some(&keyed(2))) else {
            panic!("two runs of one key")
        };
        assert_eq!((run.id(), fingerprint), (first.id(), [1; 32]));
        assert!(runs.find(second.id()).is_none());
        runs.end(first.id());
        assert!(matches!(runs.begin(&second, Some(&keyed(2))), Begun::New));
    }

    #[test]
    fn the_end_of_an_old_run_leaves_the_newer_one_alone() {
        let (runs, old, new) = (Runs::default(), run(), run());
        runs.begin(&old, None);
        runs.end(old.id());
        runs.begin(&new, Some(&keyed(1)));
        runs.end(old.id());
        assert!(runs.find(new.id()).is_some());
        assert!(matches!(runs.begin(&run(), Some(&keyed(1))), Begun::Known { .. }));
    }

    #[test]
    fn a_run_that_the_store_does_not_have_is_found_after_its_end() {
        let runs = Runs::default();
        let first = run();
        for number in 0..=UNSTORED {
            let run = if number == 0 { Arc::clone(&first) } else { run() };
            runs.begin(&run, None);
            run.append(Event::TextDelta { delta: "x".into() });
            run.not_stored(1);
            runs.end(run.id());
            assert_eq!(runs.find(first.id()).is_some(), number < UNSTORED, "{number}");
        }
    }
}
