//! Conversations, what they have seen, and the processes that serve them: SQL alone.

use proto::ids::{Seq, SessionId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::change::{ProcessRow, SessionRow};
use super::rows::{self, signed, unsigned};
use super::{Conversation, SEEN};
use crate::identity::SessionKey;

/// Inserts, or replaces what the key had. `now` is in milliseconds since 1970.
pub(super) fn put(
    connection: &Connection,
    conversation: &Conversation,
    now: u64,
) -> rusqlite::Result<()> {
    let key = conversation.key.as_str();
    let id = conversation.id.to_string();
    let sql = "DELETE FROM seen
        WHERE session = (SELECT number FROM session_keys WHERE session_key = ?1)
        AND NOT EXISTS
            (SELECT 1 FROM conversations WHERE session_key = ?1 AND conversation = ?2)";
    connection.prepare_cached(sql)?.execute([key, &id])?;
    // The same conversation again keeps its date of creation.
    let sql = "INSERT INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
        ON CONFLICT (session_key) DO UPDATE SET
        created = iif(conversation = excluded.conversation, created, excluded.created),
        conversation = excluded.conversation, unix_user = excluded.unix_user,
        workspace = excluded.workspace, last_used = excluded.last_used";
    connection.prepare_cached(sql)?.execute(params![
        key,
        conversation.key.principal(),
        id,
        conversation.user.as_str(),
        conversation.workspace.as_str(),
        signed(now / 1000),
    ])?;
    Ok(())
}

/// Appends to what the session with this number has seen.
pub(super) fn add_seen(
    connection: &Connection,
    session: i64,
    hashes: &[u64],
) -> rusqlite::Result<()> {
    let sql = "SELECT max(place) FROM seen WHERE session = ?1";
    let last: Option<i64> =
        connection.prepare_cached(sql)?.query_row([session], |row| row.get(0))?;
    let mut place = last.unwrap_or(0);
    let sql = "INSERT INTO seen VALUES (?1, ?2, ?3)";
    let mut insert = connection.prepare_cached(sql)?;
    for hash in hashes {
        place += 1;
        insert.execute([session, place, hash.cast_signed()])?;
    }
    let surplus = place - i64::try_from(SEEN).unwrap_or(i64::MAX);
    let sql = "DELETE FROM seen WHERE session = ?1 AND place <= ?2";
    connection.prepare_cached(sql)?.execute([session, surplus])?;
    Ok(())
}

pub(super) fn get(
    connection: &Connection,
    key: &SessionKey,
) -> rusqlite::Result<Option<(Conversation, Vec<u64>)>> {
    let sql = "SELECT conversation, unix_user, workspace FROM conversations WHERE session_key = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([key.as_str()], |row| {
            Ok(Conversation {
                key: key.clone(),
                id: rows::conversation_id(row, 0)?,
                user: rows::user(row, 1)?,
                workspace: rows::path(row, 2)?,
            })
        })
        .optional()?;
    let Some(conversation) = found else { return Ok(None) };
    let sql = "SELECT hash FROM seen
        WHERE session = (SELECT number FROM session_keys WHERE session_key = ?1) ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let seen = statement.query_map([key.as_str()], |row| row.get(0).map(i64::cast_unsigned))?;
    Ok(Some((conversation, seen.collect::<rusqlite::Result<_>>()?)))
}

/// Up to WHERE. A turn does not touch the conversation's row: its use is that of its latest run.
const SESSION: &str = "SELECT session_key, conversation, workspace, unix_user, created,
        max(last_used, coalesce((SELECT created / 1000 FROM runs WHERE session =
            (SELECT number FROM session_keys k WHERE k.session_key = c.session_key)
            ORDER BY number DESC LIMIT 1), 0))
    FROM conversations c";

/// The sessions of `principal`, or of everybody, whose key comes after `after`, in the order of their
/// keys.
pub(super) fn sessions(
    connection: &Connection,
    principal: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    // A principal's keys stand together: all begin with its name, as long as it says.
    let own = principal.map(SessionKey::prefix).unwrap_or_default();
    // The greatest text that begins so: keys are ASCII.
    let end = format!("{own}\u{10ffff}");
    let sql = format!(
        "{SESSION} WHERE session_key > max(?1, ?2) AND session_key < ?3
        ORDER BY session_key LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = statement.query_map(params![own, after.unwrap_or(""), end, limit], of_row)?;
    found.collect()
}

/// All of them, and the principals that have some.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT count(*), count(DISTINCT principal) FROM conversations";
    connection.prepare_cached(sql)?.query_row([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
}

/// The session with this key.
pub(super) fn session(
    connection: &Connection,
    key: &SessionKey,
) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!("{SESSION} WHERE session_key = ?1");
    connection.prepare_cached(&sql)?.query_row([key.as_str()], of_row).optional()
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        key: rows::session_key(row, 0)?,
        conversation: rows::conversation_id(row, 1)?,
        workspace: rows::path(row, 2)?,
        user: rows::user(row, 3)?,
        created: unsigned(row, 4)?,
        last_used: unsigned(row, 5)?,
    })
}

// ---- processes ------------------------------------------------------------------------------

pub(super) fn process_up(connection: &Connection, process: &ProcessRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO processes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![
        process.id.as_str(),
        process.key.as_str(),
        process.conversation.to_string(),
        process.uid,
        process.secret_hash,
        signed(process.last_seq.0),
        signed(process.started),
    ])?;
    Ok(())
}

/// Never back: of two changes the greater holds.
pub(super) fn process_seq(
    connection: &Connection,
    process: &SessionId,
    seq: Seq,
) -> rusqlite::Result<()> {
    let sql = "UPDATE processes SET last_seq = ?2 WHERE id = ?1 AND last_seq < ?2";
    connection.prepare_cached(sql)?.execute(params![process.as_str(), signed(seq.0)])?;
    Ok(())
}

pub(super) fn process_gone(connection: &Connection, process: &SessionId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM processes WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([process.as_str()])?;
    Ok(())
}

pub(super) fn processes(connection: &Connection) -> rusqlite::Result<Vec<ProcessRow>> {
    let sql = "SELECT id, session_key, conversation, uid, secret_hash, last_seq, started
        FROM processes ORDER BY started, id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        Ok(ProcessRow {
            id: rows::session_id(row, 0)?,
            key: rows::session_key(row, 1)?,
            conversation: rows::conversation_id(row, 2)?,
            uid: row.get(3)?,
            secret_hash: row.get(4)?,
            last_seq: Seq(unsigned(row, 5)?),
            started: unsigned(row, 6)?,
        })
    })?;
    found.collect()
}
