//! Runs, their events and files: SQL alone.

use bytes::Bytes;
use proto::bridge::TokenUsage;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::change::{NewRun, Page, RunRow, StoredFile};
use super::rows::{self, not_ours, signed, unsigned};
use crate::identity::SessionKey;
use crate::run::{Logged, Outcome, RunId};

/// Of one page: what a reader's buffer may hold, and what the reader's thread reads in about a
/// millisecond.
const PAGE_EVENTS: i64 = 1024;
const PAGE_BYTES: usize = 512 * 1024;

/// A run under way, as a writer must know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenRun {
    pub(super) number: i64,
    pub(super) last_seq: u64,
    pub(super) bytes: u64,
}

/// Of an event that the run cannot have: far more than fit into its bytes.
const NO_SEQ: u64 = u32::MAX as u64;

/// As the table says. A number after all possible ones stays within its run.
pub(super) fn event_id(run: i64, seq: u64) -> i64 {
    run << 32 | signed(seq.min(NO_SEQ))
}

/// The place within its run.
pub(super) fn seq_of(id: i64) -> u64 {
    id.cast_unsigned() & NO_SEQ
}

// ---- writing --------------------------------------------------------------------------------

pub(super) fn begin(
    connection: &Connection,
    number: i64,
    session: i64,
    run: &NewRun,
) -> rusqlite::Result<()> {
    let principal = run.key.principal();
    if let Some(idempotency) = &run.idempotency {
        // A run that ended before claude had its message did nothing: the key is free again.
        let sql = "UPDATE runs SET idempotency_key = NULL, fingerprint = NULL
            WHERE principal = ?1 AND idempotency_key = ?2 AND finished IS NOT NULL AND pushed = 0";
        connection.prepare_cached(sql)?.execute([principal, &idempotency.key])?;
    }
    let sql = "INSERT INTO runs (number, id, session, principal, model, created,
            idempotency_key, fingerprint, client_message)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        number,
        run.id.bytes(),
        session,
        principal,
        run.model,
        signed(run.created),
        run.idempotency.as_ref().map(|idempotency| &idempotency.key),
        run.idempotency.as_ref().map(|idempotency| idempotency.fingerprint),
        run.client_message,
    ])?;
    let sql = "INSERT INTO open_runs VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![number, run.prompt])?;
    let sql = "INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5)";
    for (place, file) in (0_i64..).zip(&run.files) {
        let values = params![number, place, file.name, file.media_type, &file.data[..]];
        connection.prepare_cached(sql)?.execute(values)?;
    }
    Ok(())
}

pub(super) fn append(connection: &Connection, run: i64, logged: &Logged) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events VALUES (?1, ?2, ?3)";
    let values = params![event_id(run, logged.seq), signed(logged.at), &logged.json[..]];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

pub(super) fn progress(
    connection: &Connection,
    run: i64,
    pushed: bool,
    prompt: Option<&str>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET pushed = ?2 WHERE number = ?1";
    connection.prepare_cached(sql)?.execute(params![run, pushed])?;
    if let Some(prompt) = prompt {
        let sql = "UPDATE open_runs SET prompt = ?2 WHERE run = ?1";
        connection.prepare_cached(sql)?.execute(params![run, prompt])?;
    }
    Ok(())
}

pub(super) fn end(
    connection: &Connection,
    run: OpenRun,
    outcome: &Outcome,
    at: u64,
) -> rusqlite::Result<()> {
    let outcome = serde_json::to_string(outcome)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let sql = "UPDATE runs SET finished = ?2, outcome = ?3, last_seq = ?4, bytes = ?5
        WHERE number = ?1";
    let (last_seq, bytes) = (signed(run.last_seq), signed(run.bytes));
    connection.prepare_cached(sql)?.execute(params![
        run.number,
        signed(at),
        outcome,
        last_seq,
        bytes
    ])?;
    connection.prepare_cached("DELETE FROM open_runs WHERE run = ?1")?.execute([run.number])?;
    connection.prepare_cached("DELETE FROM files WHERE run = ?1")?.execute([run.number])?;
    Ok(())
}

/// Notes that events after the last stored one are lost.
pub(super) fn set_incomplete(connection: &Connection, id: RunId) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET incomplete = 1 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([id.bytes()])?;
    Ok(())
}

/// The same, with the end if there was one.
pub(super) fn note_broken(
    connection: &Connection,
    id: RunId,
    ended: Option<&(Outcome, u64)>,
) -> rusqlite::Result<()> {
    set_incomplete(connection, id)?;
    if let Some((outcome, at)) = ended
        && let Some(run) = find_open(connection, id)?
    {
        end(connection, run, outcome, *at)?;
    }
    Ok(())
}

pub(super) fn set_usage(
    connection: &Connection,
    id: RunId,
    usage: &TokenUsage,
) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET input_tokens = ?2, output_tokens = ?3,
        cache_read_input_tokens = ?4, cache_creation_input_tokens = ?5 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![
        id.bytes(),
        signed(usage.input_tokens),
        signed(usage.output_tokens),
        signed(usage.cache_read_input_tokens),
        signed(usage.cache_creation_input_tokens),
    ])?;
    Ok(())
}

/// The run, if it is under way.
pub(super) fn find_open(connection: &Connection, id: RunId) -> rusqlite::Result<Option<OpenRun>> {
    let sql = "SELECT number, coalesce(max(e.id), 0), coalesce(sum(length(json)), 0)
        FROM runs r LEFT JOIN events e ON e.id > number << 32 AND e.id < number + 1 << 32
        WHERE r.id = ?1 AND finished IS NULL GROUP BY number";
    let open = |row: &Row<'_>| {
        let (last_seq, bytes) = (seq_of(row.get(1)?), unsigned(row, 2)?);
        Ok(OpenRun { number: row.get(0)?, last_seq, bytes })
    };
    connection.prepare_cached(sql)?.query_row([id.bytes()], open).optional()
}

/// Greater than that of any run.
pub(super) fn next_number(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT max(coalesce((SELECT max(number) FROM runs), 0),
        coalesce((SELECT max(run) FROM forgotten_runs), 0)) + 1";
    connection.query_row(sql, [], |row| row.get(0))
}

/// The number of a session key, which gets one if it has none.
pub(super) fn session_number(connection: &Connection, key: &SessionKey) -> rusqlite::Result<i64> {
    let sql = "SELECT number FROM session_keys WHERE session_key = ?1";
    let known = connection.prepare_cached(sql)?.query_row([key.as_str()], |row| row.get(0));
    if let Some(known) = known.optional()? {
        return Ok(known);
    }
    let sql = "INSERT INTO session_keys (session_key) VALUES (?1) RETURNING number";
    connection.prepare_cached(sql)?.query_row([key.as_str()], |row| row.get(0))
}

/// Everything of a session but its events, which retention removes in small steps.
pub(super) fn forget_session(connection: &Connection, key: &SessionKey) -> rusqlite::Result<()> {
    let runs = "(SELECT number FROM runs WHERE session =
        (SELECT number FROM session_keys WHERE session_key = ?1))";
    for sql in [
        &format!("INSERT OR IGNORE INTO forgotten_runs SELECT number FROM {runs}"),
        &format!("DELETE FROM files WHERE run IN {runs}"),
        &format!("DELETE FROM open_runs WHERE run IN {runs}"),
        &format!("DELETE FROM runs WHERE number IN {runs}"),
        "DELETE FROM seen WHERE session =
            (SELECT number FROM session_keys WHERE session_key = ?1)",
        "DELETE FROM session_keys WHERE session_key = ?1",
        "DELETE FROM conversations WHERE session_key = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([key.as_str()])?;
    }
    Ok(())
}

// ---- reading --------------------------------------------------------------------------------

/// Up to WHERE; what a run under way has not in its row is looked up.
const ROW: &str = "SELECT r.number, r.id, k.session_key, r.model, r.created, r.finished, r.outcome,
        r.first_seq,
        coalesce(r.last_seq, (SELECT max(id) & 0xffffffff FROM events e
            WHERE e.id > r.number << 32 AND e.id < r.number + 1 << 32), 0),
        coalesce(r.bytes, (SELECT sum(length(json)) FROM events e
            WHERE e.id > r.number << 32 AND e.id < r.number + 1 << 32), 0),
        r.pushed, o.prompt, r.client_message, r.input_tokens, r.output_tokens,
        r.cache_read_input_tokens, r.cache_creation_input_tokens, r.incomplete, r.fingerprint
    FROM runs r JOIN session_keys k ON k.number = r.session
    LEFT JOIN open_runs o ON o.run = r.number";

fn row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let finished = row.get::<_, Option<i64>>(5)?.map(|_| unsigned(row, 5)).transpose()?;
    Ok(RunRow {
        number: unsigned(row, 0)?,
        id: rows::run_id(row, 1)?,
        key: rows::session_key(row, 2)?,
        model: row.get(3)?,
        created: unsigned(row, 4)?,
        finished,
        outcome: rows::outcome(row, 6)?,
        first_seq: unsigned(row, 7)?,
        last_seq: unsigned(row, 8)?,
        bytes: unsigned(row, 9)?,
        pushed: row.get(10)?,
        prompt: row.get(11)?,
        client_message: row.get(12)?,
        usage: rows::usage(row, 13)?,
        incomplete: row.get(17)?,
    })
}

pub(super) fn get(connection: &Connection, id: RunId) -> rusqlite::Result<Option<RunRow>> {
    let sql = format!("{ROW} WHERE r.id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.bytes()], row).optional()
}

/// The run with this idempotency key, and its fingerprint.
pub(super) fn keyed(
    connection: &Connection,
    principal: &str,
    key: &str,
) -> rusqlite::Result<Option<(RunRow, [u8; 32])>> {
    let sql = format!("{ROW} WHERE r.principal = ?1 AND r.idempotency_key = ?2");
    let both = |found: &Row<'_>| Ok((row(found)?, found.get(18)?));
    connection.prepare_cached(&sql)?.query_row([principal, key], both).optional()
}

/// A session's runs, the newest first, from before the run with number `before` on.
pub(super) fn of_session(
    connection: &Connection,
    key: &SessionKey,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<RunRow>> {
    let sql = format!(
        "{ROW} WHERE r.session = (SELECT number FROM session_keys WHERE session_key = ?1)
        AND r.number < ?2 ORDER BY r.number DESC LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let before = before.map_or(i64::MAX, signed);
    statement.query_map(params![key.as_str(), before, limit], row)?.collect()
}

/// The runs under way, the oldest first.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<RunRow>> {
    let sql = format!("{ROW} WHERE r.number IN (SELECT run FROM open_runs) ORDER BY r.number");
    connection.prepare_cached(&sql)?.query_map([], row)?.collect()
}

/// The events after `after`, up to a page's bounds but at least one. None of an unknown run.
pub(super) fn events(connection: &Connection, run: RunId, after: u64) -> rusqlite::Result<Page> {
    // One transaction: retention must not come between the two looks.
    let transaction = connection.unchecked_transaction()?;
    let sql = "SELECT number, first_seq FROM runs WHERE id = ?1";
    let known = connection
        .prepare_cached(sql)?
        .query_row([run.bytes()], |row| Ok((row.get::<_, i64>(0)?, unsigned(row, 1)?)))
        .optional()?;
    let Some((number, first_seq)) = known else {
        return Ok(Page { events: Vec::new(), first_seq: 1 });
    };
    let sql = "SELECT id, at, json FROM events WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let (after, end) = (event_id(number, after), event_id(number + 1, 0));
    let mut found = statement.query([after, end, PAGE_EVENTS])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let json = row.get_ref(2)?.as_blob()?;
        bytes += json.len();
        if bytes > PAGE_BYTES && !events.is_empty() {
            break;
        }
        let (seq, at) = (seq_of(row.get(0)?), unsigned(row, 1)?);
        let logged = Logged::read(seq, at, Bytes::copy_from_slice(json));
        events.push(logged.map_err(|error| not_ours(2, Type::Blob, error))?);
    }
    drop(found);
    drop(statement);
    transaction.finish()?;
    Ok(Page { events, first_seq })
}

pub(super) fn file(
    connection: &Connection,
    run: RunId,
    index: usize,
) -> rusqlite::Result<Option<StoredFile>> {
    let sql = "SELECT name, media_type, data FROM files
        WHERE run = (SELECT number FROM runs WHERE id = ?1) AND place = ?2";
    let place = i64::try_from(index).unwrap_or(i64::MAX);
    let file = |row: &Row<'_>| {
        let data: Vec<u8> = row.get(2)?;
        Ok(StoredFile { name: row.get(0)?, media_type: row.get(1)?, data: data.into() })
    };
    connection.prepare_cached(sql)?.query_row(params![run.bytes(), place], file).optional()
}
