//! The runs that are under way, by id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{Run, RunId};
use crate::identity::SessionKey;

/// Runs under way, each with the session that it belongs to.
#[derive(Debug, Default)]
pub struct Runs {
    active: Mutex<HashMap<RunId, (SessionKey, Arc<Run>)>>,
}

impl Runs {
    pub fn begin(&self, key: SessionKey) -> Arc<Run> {
        let run = Run::new(RunId::random());
        self.lock().insert(run.id(), (key, Arc::clone(&run)));
        run
    }

    pub fn find(&self, id: RunId) -> Option<(SessionKey, Arc<Run>)> {
        self.lock().get(&id).cloned()
    }

    pub fn end(&self, id: RunId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, (SessionKey, Arc<Run>)>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
