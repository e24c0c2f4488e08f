//! The store: one SQLite file, write-ahead logged, `synchronous=NORMAL`. A committed row survives
//! any end of the process; a power cut may take the last ones, never the file.
//!
//! A file that SQLite calls corrupt is renamed, never overwritten: conversations then begin anew
//! while somebody may still mend the old file.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::ids::{AbsolutePath, ConversationId, Invalid, UnixUser};
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::{Conversation, StoreError};
use crate::identity::SessionKey;

/// Each step brings the database from the version of its index to the next. Never edited once
/// released, only added to.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// How long to wait for another process that looks into the file.
const BUSY: Duration = Duration::from_secs(2);

pub struct Store {
    connection: Connection,
}

/// A store that is ready.
pub struct Opened {
    pub store: Store,
    /// Where a corrupt predecessor was moved to.
    pub set_aside: Option<PathBuf>,
}

impl Store {
    /// Opens or makes the database at `path`, readable by this user alone, in a folder that is
    /// made if it is missing.
    ///
    /// # Errors
    /// [`StoreError`]; also for a database of a later version, which is left as it is.
    pub fn open(path: &Path) -> Result<Opened, StoreError> {
        prepare(path).map_err(|source| StoreError::Prepare { path: path.to_owned(), source })?;
        match Self::connect(path) {
            Ok(store) => Ok(Opened { store, set_aside: None }),
            Err(StoreError::Open { source, .. }) if is_corrupt(&source) => {
                let aside = set_aside(path)
                    .and_then(|aside| prepare(path).map(|()| aside))
                    .map_err(|source| StoreError::SetAside { path: path.to_owned(), source })?;
                Ok(Opened { store: Self::connect(path)?, set_aside: Some(aside) })
            }
            Err(error) => Err(error),
        }
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(open)?;
        let version = configure(&connection).map_err(open)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let Some(missing) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..))
        else {
            return Err(StoreError::Newer { path: path.to_owned(), found: version, known });
        };
        migrate(&mut connection, missing, known).map_err(open)?;
        Ok(Self { connection })
    }

    /// # Errors
    /// When the database cannot be read, or the row is not one of ours.
    pub fn get(&self, key: &SessionKey) -> Result<Option<Conversation>, StoreError> {
        let step = "look a conversation up";
        let read = || {
            let sql = "SELECT conversation, unix_user, workspace FROM conversations WHERE session_key = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([key.as_str()], |row| conversation(key, row)).optional()
        };
        read().map_err(|source| StoreError::Query { step, source })
    }

    /// Inserts, or replaces what the key had. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When the database cannot be written, or another key has this conversation.
    pub fn put(&self, conversation: &Conversation, now: i64) -> Result<(), StoreError> {
        let step = "keep a conversation";
        let write = || {
            // The same conversation again keeps its date of creation.
            let sql = "INSERT INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                ON CONFLICT (session_key) DO UPDATE SET
                created = iif(conversation = excluded.conversation, created, excluded.created),
                conversation = excluded.conversation, unix_user = excluded.unix_user,
                workspace = excluded.workspace, last_used = excluded.last_used";
            self.connection.prepare_cached(sql)?.execute(params![
                conversation.key.as_str(),
                conversation.key.principal(),
                conversation.id.to_string(),
                conversation.user.as_str(),
                conversation.workspace.as_str(),
                now,
            ])
        };
        write().map(drop).map_err(|source| StoreError::Query { step, source })
    }

    /// Notes a use. An unknown key is no error.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn touch(&self, key: &SessionKey, now: i64) -> Result<(), StoreError> {
        let step = "note the use of a conversation";
        let write = || {
            let sql = "UPDATE conversations SET last_used = ?2 WHERE session_key = ?1";
            self.connection.prepare_cached(sql)?.execute(params![key.as_str(), now])
        };
        write().map(drop).map_err(|source| StoreError::Query { step, source })
    }
}

/// SQLite would make the file readable for everyone; its companions take their mode from it.
fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Returns the version of the schema.
fn configure(connection: &Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)));
    }
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// All steps or none.
fn migrate(connection: &mut Connection, missing: &[&str], version: i64) -> rusqlite::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Renames the file and its companions to the first free `.corrupt-N`. The companions keep their
/// names relative to it, so that the old file can still be opened with them.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut number = 1;
    while named(&format!(".corrupt-{number}")).symlink_metadata().is_ok() {
        number += 1;
    }
    let aside = named(&format!(".corrupt-{number}"));
    for companion in ["-wal", "-shm"] {
        let moved = fs::rename(named(companion), named(&format!(".corrupt-{number}{companion}")));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn conversation(key: &SessionKey, row: &Row<'_>) -> rusqlite::Result<Conversation> {
    let id: String = row.get(0)?;
    let id = id.parse().map_err(|error| not_ours(0, error))?;
    let invalid = |column| move |error: Invalid| not_ours(column, error);
    Ok(Conversation {
        key: key.clone(),
        id: ConversationId(id),
        user: UnixUser::new(row.get::<_, String>(1)?).map_err(invalid(1))?,
        workspace: AbsolutePath::new(row.get::<_, String>(2)?).map_err(invalid(2))?,
    })
}

fn not_ours(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::{BodyHints, identify};

    fn key(user: &str) -> SessionKey {
        let body = BodyHints { user: Some(user), ..BodyHints::default() };
        identify("local", &http::HeaderMap::new(), &body).unwrap().key
    }

    fn conversation_of(user: &str) -> Conversation {
        let workspace = AbsolutePath::new("/srv/demo").unwrap();
        Conversation::new(key(user), UnixUser::new("alice").unwrap(), workspace)
    }

    fn dates(store: &Store) -> Vec<(String, i64, i64)> {
        let sql = "SELECT principal, created, last_used FROM conversations ORDER BY session_key";
        let mut statement = store.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_conversation_is_kept_replaced_and_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        let store = Store::open(&path).unwrap().store;
        let first = conversation_of("a");
        store.put(&first, 10).unwrap();
        store.put(&first, 11).unwrap();
        store.touch(&first.key, 12).unwrap();
        store.touch(&key("nobody"), 12).unwrap();
        assert_eq!(dates(&store), [("local".to_owned(), 10, 12)]);
        assert_eq!(store.get(&first.key).unwrap(), Some(first));
        let second = conversation_of("a");
        store.put(&second, 20).unwrap();
        assert_eq!(dates(&store), [("local".to_owned(), 20, 20)]);
        drop(store);
        let again = Store::open(&path).unwrap();
        assert_eq!(again.set_aside, None);
        assert_eq!(again.store.get(&second.key).unwrap(), Some(second));
    }

    #[test]
    fn one_conversation_cannot_belong_to_two_keys() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("synthesis.db")).unwrap().store;
        let first = conversation_of("a");
        store.put(&first, 1).unwrap();
        let stolen = Conversation { key: key("b"), ..first };
        assert!(matches!(store.put(&stolen, 2), Err(StoreError::Query { .. })));
        assert_eq!(store.get(&stolen.key).unwrap(), None);
    }

    #[test]
    fn nobody_else_can_read_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frontd/synthesis.db");
        let store = Store::open(&path).unwrap().store;
        store.put(&conversation_of("a"), 1).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
            let file = entry.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_corrupt_store_is_set_aside_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        for (number, junk) in [
            (1, "this is no database, and longer than a header of one is it"),
            (2, "nor this, this is just a text that is as long as it is"),
        ] {
            let junk = junk.repeat(20);
            fs::write(&path, &junk).unwrap();
            let opened = Store::open(&path).unwrap();
            let aside = folder.path().join(format!("synthesis.db.corrupt-{number}"));
            assert_eq!(opened.set_aside.as_ref(), Some(&aside));
            assert_eq!(fs::read_to_string(&aside).unwrap(), junk);
            opened.store.put(&conversation_of("a"), 1).unwrap();
        }
    }

    #[test]
    fn a_store_with_damaged_pages_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        let store = Store::open(&path).unwrap().store;
        for user in 0..500 {
            store.put(&conversation_of(&user.to_string()), 1).unwrap();
        }
        store.connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.len() > 5 * 4096);
        bytes[2 * 4096..4 * 4096].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        let opened = Store::open(&path).unwrap();
        let aside = opened.set_aside.unwrap();
        assert_eq!(fs::read(aside).unwrap().len(), bytes.len());
        assert_eq!(opened.store.get(&key("1")).unwrap(), None);
    }

    #[test]
    fn a_store_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        let store = Store::open(&path).unwrap().store;
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let refused = Store::open(&path).err();
        assert!(matches!(refused, Some(StoreError::Newer { found: 99, known: 1, .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_row_that_is_not_ours_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("synthesis.db")).unwrap().store;
        for (column, value) in [("conversation", "x"), ("unix_user", "-root"), ("workspace", "a")] {
            store.put(&conversation_of("a"), 1).unwrap();
            let sql = format!("UPDATE conversations SET {column} = ?1");
            store.connection.execute(&sql, [value]).unwrap();
            assert!(matches!(store.get(&key("a")), Err(StoreError::Query { .. })), "{column}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = Store::open(&file.join("synthesis.db")).err().unwrap();
        assert!(refused.to_string().contains("file/synthesis.db"), "{refused}");
    }
}
