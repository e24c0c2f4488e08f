//! What is kept, by age and by size. Of a run that is over, first the events go, up to the last,
//! which says how it ended; later its row. A run under way is never touched.
//!
//! Each step is a transaction of its own and takes about a millisecond, so that commits can come
//! between. It concerns the run that it found in the same transaction and no other.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::rows::{signed, unsigned};
use super::runs::{event_id, seq_of};

/// What one step removes at most; an event alone may be larger.
const STEP_EVENTS: usize = 256;
const STEP_BYTES: u64 = 1024 * 1024;

/// Free pages that stay for what comes next (4 MiB), and how many go at once.
const SPARE_PAGES: i64 = 1024;
const STEP_PAGES: i64 = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// A run's events, from its end on; its row stays as long again.
    pub age: Duration,
    /// Of the database, without what is free in it.
    pub bytes: u64,
}

/// A run that is over.
struct Old {
    number: i64,
    last_seq: u64,
}

/// One step, if there is something to do at `now` (milliseconds since 1970); `false` if not.
pub(super) fn step(connection: &mut Connection, keep: &Keep, now: u64) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let did =
        forget(&transaction)? || by_age(&transaction, keep, now)? || by_size(&transaction, keep)?;
    transaction.commit()?;
    Ok(did || shrink(connection)?)
}

/// What is left of runs that somebody wanted forgotten.
fn forget(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT run FROM forgotten_runs LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    let Some(number) = found else { return Ok(false) };
    if !remove_events(connection, number, event_id(number + 1, 0))? {
        let sql = "DELETE FROM forgotten_runs WHERE run = ?1";
        connection.prepare_cached(sql)?.execute([number])?;
    }
    Ok(true)
}

fn by_age(connection: &Connection, keep: &Keep, now: u64) -> rusqlite::Result<bool> {
    let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
    let limit = |times| signed(now.saturating_sub(age.saturating_mul(times)));
    if let Some(run) = oldest(connection, false, limit(1))? {
        reduce(connection, &run)?;
        return Ok(true);
    }
    if let Some(run) = oldest(connection, true, limit(2))? {
        remove(connection, &run)?;
        return Ok(true);
    }
    Ok(false)
}

fn by_size(connection: &Connection, keep: &Keep) -> rusqlite::Result<bool> {
    let pragma = |name| connection.query_row(name, [], |row| row.get::<_, i64>(0));
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    if pages * pragma("PRAGMA page_size")? <= signed(keep.bytes) {
        return Ok(false);
    }
    if let Some(run) = oldest(connection, false, i64::MAX)? {
        reduce(connection, &run)?;
        return Ok(true);
    }
    if let Some(run) = oldest(connection, true, i64::MAX)? {
        remove(connection, &run)?;
        return Ok(true);
    }
    Ok(false)
}

/// The run, reduced or not, whose end is the longest ago, if that was before `limit`.
fn oldest(connection: &Connection, reduced: bool, limit: i64) -> rusqlite::Result<Option<Old>> {
    let sql = "SELECT number, last_seq FROM runs
        WHERE finished IS NOT NULL AND reduced = ?1 AND finished < ?2
        ORDER BY finished LIMIT 1";
    let old =
        |row: &rusqlite::Row<'_>| Ok(Old { number: row.get(0)?, last_seq: unsigned(row, 1)? });
    connection.prepare_cached(sql)?.query_row(params![reduced, limit], old).optional()
}

/// Some of the events before the last.
fn reduce(connection: &Connection, run: &Old) -> rusqlite::Result<()> {
    let more = remove_events(connection, run.number, event_id(run.number, run.last_seq))?;
    let sql = "SELECT min(id) FROM events WHERE id > ?1 AND id < ?2";
    let range = [event_id(run.number, 0), event_id(run.number + 1, 0)];
    let first: Option<i64> = connection.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
    let first = first.map_or(run.last_seq + 1, seq_of);
    let sql = "UPDATE runs SET reduced = ?2, first_seq = ?3 WHERE number = ?1";
    connection.prepare_cached(sql)?.execute(params![run.number, !more, signed(first)])?;
    Ok(())
}

fn remove(connection: &Connection, run: &Old) -> rusqlite::Result<()> {
    // It is reduced: one event at most.
    remove_events(connection, run.number, event_id(run.number + 1, 0))?;
    let sql = "DELETE FROM runs WHERE number = ?1";
    connection.prepare_cached(sql)?.execute([run.number])?;
    Ok(())
}

/// Removes a step's worth of the run's events before the one with the id `end`; `false` if there
/// was none.
fn remove_events(connection: &Connection, run: i64, end: i64) -> rusqlite::Result<bool> {
    let start = event_id(run, 0);
    let sql = "SELECT id, length(json) FROM events WHERE id > ?1 AND id < ?2 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([start, end])?;
    let (mut last, mut events, mut bytes) = (None, 0, 0);
    while events < STEP_EVENTS
        && bytes < STEP_BYTES
        && let Some(row) = found.next()?
    {
        last = Some(row.get::<_, i64>(0)?);
        events += 1;
        bytes += unsigned(row, 1)?;
    }
    let Some(last) = last else { return Ok(false) };
    let sql = "DELETE FROM events WHERE id > ?1 AND id <= ?2";
    connection.prepare_cached(sql)?.execute([start, last])?;
    Ok(true)
}

/// Gives free pages at the end of the file back, a few of them; `false` if enough are given back.
fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let surplus = (free - SPARE_PAGES).min(STEP_PAGES);
    if surplus <= 0 {
        return Ok(false);
    }
    // Each row is a page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({surplus})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

#[cfg(test)]
mod tests;
