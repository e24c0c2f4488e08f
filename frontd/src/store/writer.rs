//! The one connection that writes, on its own thread: what waits is committed together.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::change::{Batch, Change, Done};
use super::ledger::Ledger;
use super::retention;
use super::{Shared, StoreError, runs};
use crate::run::{Outcome, RunId};

/// Of one transaction. A commit costs as much as some ten events, so what is gained by larger
/// groups is little, and what waits behind one waits longer.
const GROUP_BATCHES: usize = 256;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What a small commit writes, about.
const PAGES: usize = 5;
const PAGE: usize = 4096;

/// How often a store that fails is tried.
const PROBE: Duration = Duration::from_secs(1);

/// How often it is looked whether something has grown too old or too much.
const RETENTION: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    ledger: Ledger,
    /// Runs of which an event could not be stored: nothing of what follows it is.
    broken: HashMap<RunId, Broken>,
}

/// What the row of such a run must still be told.
#[derive(Debug, Default)]
struct Broken {
    noted: bool,
    end: Option<(Outcome, u64)>,
}

type Verdict = Result<(), Arc<StoreError>>;

impl Writer {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self { connection, shared, ledger: Ledger::default(), broken: HashMap::new() }
    }

    /// Until the other end of `batches` is gone and everything is written.
    pub(super) fn serve(mut self, batches: &Receiver<Batch>) {
        let start = Instant::now();
        let (mut mend_at, mut retain_at) = (start, start + RETENTION);
        loop {
            let due = if self.needs_mending() { mend_at.min(retain_at) } else { retain_at };
            match batches.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(first) => self.commit(gather(first, batches), now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let instant = Instant::now();
            if self.needs_mending() && mend_at <= instant && !self.mend() {
                mend_at = instant + PROBE;
            }
            if retain_at <= instant {
                retain_at = if self.retain(now()) { instant } else { instant + RETENTION };
            }
        }
        if self.needs_mending() {
            self.mend();
        }
    }

    /// All of `group` in one transaction; if that fails, each alone, so that a bad batch takes no
    /// other with it. `now` is in milliseconds since 1970.
    fn commit(&mut self, group: Vec<Batch>, now: u64) {
        let verdicts = self.verdicts(&group, now);
        self.shared.pending.fetch_sub(group.len(), Ordering::Relaxed);
        for (batch, verdict) in group.into_iter().zip(verdicts) {
            if let Some(done) = batch.done {
                call(done, verdict);
            }
        }
    }

    fn verdicts(&mut self, group: &[Batch], now: u64) -> Vec<Verdict> {
        let together = self.write(group, now);
        match together {
            Err(error) if group.len() > 1 && error.cause().may_spare_others() => {
                let alone = group.iter().map(|batch| {
                    let batch = std::slice::from_ref(batch);
                    let verdict = self.write(batch, now).map_err(Arc::new);
                    self.learn(batch, &verdict);
                    verdict
                });
                alone.collect()
            }
            together => {
                let verdict = together.map_err(Arc::new);
                self.learn(group, &verdict);
                vec![verdict; group.len()]
            }
        }
    }

    fn write(&mut self, batches: &[Batch], now: u64) -> Result<(), StoreError> {
        let before = self.connection.total_changes();
        let mut ledger = std::mem::take(&mut self.ledger);
        let broken = std::mem::take(&mut self.broken);
        let result = self.transaction(|transaction| {
            for change in batches.iter().flat_map(|batch| &batch.changes) {
                if let Change::Append { run, .. } = change
                    && broken.contains_key(run)
                {
                    continue;
                }
                if let Change::End { run, .. } = change
                    && broken.contains_key(run)
                {
                    runs::set_incomplete(transaction, *run).map_err(failed("end a run"))?;
                }
                ledger.apply(transaction, change, now)?;
            }
            Ok(())
        });
        self.broken = broken;
        if result.is_ok() {
            // Else what it remembers was rolled back.
            self.ledger = ledger;
            // What was passed over proves nothing of the disk.
            if self.connection.total_changes() > before {
                let bytes: usize = batches.iter().map(weight).sum();
                self.shared.committed(PAGES + bytes / PAGE);
            }
        }
        result
    }

    fn transaction(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.shared.is_corrupt() {
            return Err(StoreError::Corrupt);
        }
        let begin = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let result = begin.map_err(failed("begin to write")).and_then(|transaction| {
            work(&transaction)?;
            transaction.commit().map_err(failed("commit"))
        });
        if let Err(error) = &result {
            self.shared.failed(error);
        }
        result
    }

    /// What a verdict means for the runs of the batches.
    fn learn(&mut self, batches: &[Batch], verdict: &Verdict) {
        for change in batches.iter().flat_map(|batch| &batch.changes) {
            match verdict {
                Ok(()) => {
                    if let Change::End { run, .. } = change {
                        self.broken.remove(run);
                    }
                }
                Err(_) => {
                    if let Change::Append { run, .. } = change {
                        self.broken.entry(*run).or_default();
                    }
                    if let Change::End { run, outcome, at } = change {
                        let broken = self.broken.entry(*run).or_default();
                        broken.end = Some((outcome.clone(), *at));
                    }
                }
            }
        }
    }

    fn needs_mending(&self) -> bool {
        let failing = self.shared.failing.load(Ordering::Relaxed);
        !self.shared.is_corrupt() && (failing || self.broken.values().any(|run| !run.noted))
    }

    /// Tries whether the store takes something again, and says of the runs that broke that they
    /// did, and how they ended; `false` if it takes nothing.
    fn mend(&mut self) -> bool {
        let mut broken = std::mem::take(&mut self.broken);
        let mended = self.transaction(|transaction| {
            for (run, Broken { end, .. }) in &broken {
                runs::note_broken(transaction, *run, end.as_ref()).map_err(failed("end a run"))?;
            }
            // The page that every database has is written even if there is nothing to say.
            let version: i64 = transaction
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .map_err(failed("try to write"))?;
            transaction.pragma_update(None, "user_version", version).map_err(failed("try to write"))
        });
        if mended.is_ok() {
            self.shared.committed(PAGES);
            // A run under way stays, so that its later events are passed over.
            broken.retain(|_, run| run.end.is_none());
            broken.values_mut().for_each(|run| run.noted = true);
            self.ledger = Ledger::default();
        }
        self.broken = broken;
        mended.is_ok()
    }

    /// One step of retention; `false` if there is nothing to do.
    fn retain(&mut self, now: u64) -> bool {
        if self.shared.is_corrupt() {
            return false;
        }
        match retention::step(&mut self.connection, &self.shared.keep(), now) {
            Ok(did) => {
                if did {
                    self.shared.committed(PAGES);
                }
                did
            }
            Err(source) => {
                let error = StoreError::Query { step: "remove what is old", source };
                tracing::warn!(error = %crate::spawner::chain(&error), "store");
                self.shared.failed(&error);
                false
            }
        }
    }
}

fn failed(step: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Query { step, source }
}

/// The thread outlives a fault of whoever wants to know.
fn call(done: Done, verdict: Verdict) {
    if catch_unwind(AssertUnwindSafe(|| done(verdict))).is_err() {
        tracing::error!("who waited for a commit panicked");
    }
}

/// What waits already, up to a group's bounds.
fn gather(first: Batch, batches: &Receiver<Batch>) -> Vec<Batch> {
    let mut bytes = weight(&first);
    let mut group = vec![first];
    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
        let Ok(next) = batches.try_recv() else { break };
        bytes += weight(&next);
        group.push(next);
    }
    group
}

fn weight(batch: &Batch) -> usize {
    let change = |change: &Change| match change {
        Change::Begin(run) => {
            run.prompt.len() + run.files.iter().map(|file| file.data.len()).sum::<usize>()
        }
        Change::Append { logged, .. } => logged.json.len(),
        Change::Progress { .. }
        | Change::End { .. }
        | Change::Usage { .. }
        | Change::Conversation(_)
        | Change::Seen { .. }
        | Change::ForgetSession(_)
        | Change::ProcessUp(_)
        | Change::ProcessSeq { .. }
        | Change::ProcessGone(_) => 0,
    };
    batch.changes.iter().map(change).sum()
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
