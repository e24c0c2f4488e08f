//! The one connection that writes, on its own thread: what waits is committed together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior};

use super::change::{Batch, Change};
use super::error::Cause;
use super::ledger::Ledger;
use super::{Shared, StoreError, runs};
use crate::run::{Outcome, RunId};

/// Of one transaction. The commit costs as much as some ten events; what waits behind a larger
/// group would wait for nothing.
const GROUP_BATCHES: usize = 256;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// How often a store that fails is tried.
const PROBE: Duration = Duration::from_secs(1);

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
        let mut probe = None;
        loop {
            let first = match probe {
                None => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => {
                    batches.recv_timeout(Instant::now().saturating_duration_since(at).max(PROBE))
                }
            };
            match first {
                Ok(first) => self.commit(gather(first, batches), now()),
                Err(RecvTimeoutError::Timeout) => self.mend(now()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            probe = self.needs_mending().then(Instant::now);
        }
    }

    /// All of `group` in one transaction; if that fails, each alone, so that a bad batch takes no
    /// other with it. `now` is in milliseconds since 1970.
    pub(super) fn commit(&mut self, group: Vec<Batch>, now: u64) {
        let mut verdicts = Vec::with_capacity(group.len());
        match self.transaction(&group, now) {
            Ok(()) => verdicts.resize_with(group.len(), || Ok(())),
            Err(error) if group.len() == 1 => verdicts.push(Err(Arc::new(error))),
            Err(error) => match error.cause() {
                Cause::Locked | Cause::Corrupt => {
                    let error = Arc::new(error);
                    verdicts.resize_with(group.len(), || Err(Arc::clone(&error)));
                }
                Cause::Batch | Cause::Disk => {
                    for batch in &group {
                        let verdict = self.transaction(std::slice::from_ref(batch), now);
                        let verdict = verdict.map_err(Arc::new);
                        self.learn(batch, &verdict);
                        verdicts.push(verdict);
                    }
                }
            },
        }
        for (batch, verdict) in group.into_iter().zip(verdicts) {
            self.learn(&batch, &verdict);
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
            if let Some(done) = batch.done {
                done(verdict);
            }
        }
    }

    fn transaction(&mut self, batches: &[Batch], now: u64) -> Result<(), StoreError> {
        if self.shared.is_corrupt() {
            return Err(StoreError::Corrupt);
        }
        let result = self.apply(batches, now);
        if let Err(error) = &result {
            // What it remembers may have been rolled back.
            self.ledger = Ledger::default();
            self.shared.note(error);
        }
        result
    }

    fn apply(&mut self, batches: &[Batch], now: u64) -> Result<(), StoreError> {
        let failed = |step| move |source| StoreError::Query { step, source };
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("begin to write"))?;
        for change in batches.iter().flat_map(|batch| &batch.changes) {
            if let Change::Append { run, .. } = change
                && self.broken.contains_key(run)
            {
                continue;
            }
            if let Change::End { run, .. } = change
                && self.broken.contains_key(run)
            {
                runs::set_incomplete(&transaction, *run).map_err(failed("end a run"))?;
            }
            self.ledger.apply(&transaction, change, now)?;
        }
        transaction.commit().map_err(failed("commit"))
    }

    /// What a batch's verdict means for its runs.
    fn learn(&mut self, batch: &Batch, verdict: &Verdict) {
        for change in &batch.changes {
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
    /// did, and how they ended.
    pub(super) fn mend(&mut self, _now: u64) {}
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
