//! The store's file: one SQLite database, write-ahead logged, `synchronous=NORMAL`. A committed
//! row survives any end of the process; a power cut may take the last ones, never the file.
//!
//! A file that SQLite calls corrupt is renamed, never overwritten: conversations then begin anew
//! while somebody may still mend the old file.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::error::Cause;

/// Each step brings the database from the version of its index to the next. Never edited once
/// released, only added to.
const MIGRATIONS: [&str; 2] =
    [include_str!("schema/1-conversations.sql"), include_str!("schema/2-runs.sql")];

/// How long a commit waits for another process that has the file locked: a backup's copy or
/// somebody's shell. No turn waits on the event loop meanwhile.
const BUSY: Duration = Duration::from_secs(10);

/// The statements of each connection that stay prepared: more than there are.
const STATEMENTS: usize = 64;

/// A database of at most this many pages is checked in full at the start, which takes some
/// milliseconds.
const CHECKED_PAGES: i64 = 1024;

/// A store that is ready.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    /// Where a corrupt predecessor was moved to.
    pub(super) set_aside: Option<PathBuf>,
}

/// Opens or makes the database at `path`, readable by this user alone, in a folder that is made
/// if it is missing. A database of a later version is left as it is.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let prepare =
        || prepare(path).map_err(|source| StoreError::Prepare { path: path.to_owned(), source });
    prepare()?;
    match connect(path) {
        Ok((writer, reader)) => Ok(Opened { writer, reader, set_aside: None }),
        Err(error) if error.cause() == Cause::Corrupt => {
            let aside = set_aside(path)
                .map_err(|source| StoreError::SetAside { path: path.to_owned(), source })?;
            prepare()?;
            let (writer, reader) = connect(path)?;
            Ok(Opened { writer, reader, set_aside: Some(aside) })
        }
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<(Connection, Connection), StoreError> {
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let mut writer = Connection::open(path).map_err(open)?;
    let version = configure(&writer).map_err(open)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let Some(missing) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..))
    else {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known });
    };
    migrate(&mut writer, missing, known).map_err(open)?;
    check(&writer).map_err(open)?;
    Ok((writer, open_reader(path).map_err(open)?))
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.busy_timeout(BUSY)?;
    reader.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(reader)
}

/// SQLite would make the file readable for everyone; its companions take their mode from it. A
/// file that is there is not opened: closing it would drop the locks that SQLite holds on it
/// (fcntl(2): POSIX locks belong to the process).
fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the version of the schema.
fn configure(writer: &Connection) -> rusqlite::Result<i64> {
    writer.busy_timeout(BUSY)?;
    writer.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before the first page is written; a database that has some takes it at its next VACUUM.
    writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    writer.pragma_update(None, "synchronous", "NORMAL")?;
    writer.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// All steps or none.
fn migrate(writer: &mut Connection, missing: &[&str], version: i64) -> rusqlite::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if writer.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))? == 0 {
        // Of the first version: it holds conversations alone and is small.
        writer.execute_batch("VACUUM")?;
    }
    let transaction = writer.transaction()?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

fn check(writer: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = writer.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages > CHECKED_PAGES {
        return Ok(());
    }
    let verdict: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)))
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
