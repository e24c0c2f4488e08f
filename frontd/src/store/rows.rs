//! Columns to values and back. What is none of ours is an error, never a panic.

use proto::bridge::TokenUsage;
use proto::ids::{AbsolutePath, ConversationId, SessionId, UnixUser};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::identity::SessionKey;
use crate::run::{Outcome, RunId};

/// SQLite's integers are signed; no count or time of ours comes near the bound.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    value.try_into().map_err(|error| not_ours(column, Type::Integer, error))
}

pub(super) fn session_key(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionKey> {
    let text: String = row.get(column)?;
    SessionKey::of_stored(&text).ok_or_else(|| not_ours(column, Type::Text, NoKey))
}

pub(super) fn run_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RunId> {
    row.get(column).map(RunId::of_bytes)
}

pub(super) fn conversation_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ConversationId> {
    let text: String = row.get(column)?;
    let id = text.parse().map_err(|error| not_ours(column, Type::Text, error))?;
    Ok(ConversationId(id))
}

pub(super) fn session_id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    SessionId::new(row.get::<_, String>(column)?)
        .map_err(|error| not_ours(column, Type::Text, error))
}

pub(super) fn user(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixUser> {
    UnixUser::new(row.get::<_, String>(column)?)
        .map_err(|error| not_ours(column, Type::Text, error))
}

pub(super) fn path(row: &Row<'_>, column: usize) -> rusqlite::Result<AbsolutePath> {
    AbsolutePath::new(row.get::<_, String>(column)?)
        .map_err(|error| not_ours(column, Type::Text, error))
}

pub(super) fn outcome(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Outcome>> {
    let json: Option<String> = row.get(column)?;
    json.map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|error| not_ours(column, Type::Text, error))
}

/// Four columns from `first` on, all of them or none.
pub(super) fn usage(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<TokenUsage>> {
    if row.get::<_, Option<i64>>(first)?.is_none() {
        return Ok(None);
    }
    Ok(Some(TokenUsage {
        input_tokens: unsigned(row, first)?,
        output_tokens: unsigned(row, first + 1)?,
        cache_read_input_tokens: unsigned(row, first + 2)?,
        cache_creation_input_tokens: unsigned(row, first + 3)?,
    }))
}

#[derive(Debug, thiserror::Error)]
#[error("not a session key")]
struct NoKey;

pub(super) fn not_ours(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}
