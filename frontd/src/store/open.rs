//! The store's file: one SQLite database, write-ahead logged, `synchronous=NORMAL`. A committed
//! row survives any end of the process; a power cut may take the last ones, never the file.
//!
//! A file that SQLite calls corrupt is renamed, never overwritten: conversations then begin anew
//! while somebody may still mend the old file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::Cause;
use super::{StoreError, durability};

/// Each step brings the database from the version of its index to the next. Never edited once
/// released, only added to.
const MIGRATIONS: [&str; 2] =
    [include_str!("schema/1-conversations.sql"), include_str!("schema/2-runs.sql")];

/// How long a commit waits for another process that has the file locked: a backup's copy or
/// somebody's shell. No turn waits on the event loop meanwhile.
const BUSY: Duration = Duration::from_secs(10);

/// The statements of each connection that stay prepared: more than there are.
const STATEMENTS: usize = 64;

/// Pages of the write-ahead log from which on the writer itself checkpoints (64 MiB), and what a
/// log that begins anew keeps of its length.
const LOG_PAGES: i64 = 16 * 1024;
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// A database of at most this many pages is checked in full at the start, which takes some
/// milliseconds.
const CHECKED_PAGES: i64 = 1024;

/// Marks a corrupt file; with a number, one that is set aside.
const CORRUPT: &str = ".corrupt";

/// A store that is ready.
pub(super) struct Opened {
    pub(super) files: Files,
    /// Where a corrupt predecessor was moved to.
    pub(super) set_aside: Option<PathBuf>,
}

/// The open files, each for a thread.
pub(super) struct Files {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) checkpointer: Connection,
    /// The write-ahead log.
    pub(super) log: File,
}

/// Opens or makes the database at `path`, readable by this user alone, in a folder that is made
/// if it is missing. A database of a later version is left as it is.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let of_path = |source| StoreError::SetAside { path: path.to_owned(), source };
    let prepare =
        || prepare(path).map_err(|source| StoreError::Prepare { path: path.to_owned(), source });
    let marked = take_marked_aside(path).map_err(of_path)?;
    prepare()?;
    match connect(path) {
        Ok(files) => Ok(Opened { files, set_aside: marked }),
        Err(error) if error.cause() == Cause::Corrupt => {
            let aside = set_aside(path).map_err(of_path)?;
            prepare()?;
            Ok(Opened { files: connect(path)?, set_aside: Some(aside) })
        }
        Err(error) => Err(error),
    }
}

fn connect(path: &Path) -> Result<Files, StoreError> {
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
    let reader = open_reader(path).map_err(open)?;
    let checkpointer = open_checkpointer(path).map_err(open)?;
    let log = File::open(named(path, "-wal"))
        .map_err(|source| StoreError::Prepare { path: path.to_owned(), source })?;
    Ok(Files { writer, reader, checkpointer, log })
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.busy_timeout(BUSY)?;
    reader.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(reader)
}

fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let checkpointer = Connection::open(path)?;
    checkpointer.busy_timeout(durability::PATIENCE)?;
    checkpointer.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(checkpointer)
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
    if writer.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
        // Before the first page is written.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    writer.pragma_update(None, "journal_mode", "WAL")?;
    writer.pragma_update(None, "synchronous", "NORMAL")?;
    // Checkpoints are another thread's duty; this is for when it fails at it.
    writer.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    writer.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    writer.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// All steps or none.
fn migrate(writer: &mut Connection, missing: &[&str], version: i64) -> rusqlite::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if writer.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))? == 0 {
        // Of the first version: it holds conversations alone and is small.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        writer.execute_batch("VACUUM")?;
    }
    let transaction = writer.transaction()?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Finds damage without reading all of a large database. What it misses, a statement meets later.
fn check(writer: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = writer.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages <= CHECKED_PAGES {
        let verdict: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)));
        }
        return Ok(());
    }
    // The way from the root to both ends of each tree.
    for (table, order) in EDGES {
        for end in ["ASC", "DESC"] {
            let sql = format!("SELECT {order} FROM {table} ORDER BY {order} {end} LIMIT 1");
            let mut statement = writer.prepare(&sql)?;
            let mut rows = statement.query([])?;
            rows.next()?;
        }
    }
    Ok(())
}

/// Each table and index, by what it is sorted by.
const EDGES: [(&str, &str); 15] = [
    ("conversations", "session_key"),
    ("conversations", "conversation"),
    ("session_keys", "number"),
    ("session_keys", "session_key"),
    ("runs", "number"),
    ("runs", "id"),
    ("runs", "session"),
    ("runs INDEXED BY runs_by_idempotency_key WHERE idempotency_key IS NOT NULL", "principal"),
    ("runs INDEXED BY runs_by_end WHERE finished IS NOT NULL", "reduced"),
    ("open_runs", "run"),
    ("files", "run"),
    ("events", "id"),
    ("forgotten_runs", "run"),
    ("seen", "session"),
    ("processes", "id"),
];

// ---- setting aside --------------------------------------------------------------------------

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Tells the next start that the file is to be set aside.
pub(super) fn mark_corrupt(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(named(path, CORRUPT))
        .map(drop)
}

/// Sets a marked file aside. The mark goes last, and alone if the file has gone already.
fn take_marked_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mark = named(path, CORRUPT);
    if mark.symlink_metadata().is_err() {
        return Ok(None);
    }
    let aside = match path.symlink_metadata() {
        Ok(_) => Some(set_aside(path)?),
        Err(_) => None,
    };
    fs::remove_file(mark)?;
    Ok(aside)
}

/// Renames the file and its companions to the first free `.corrupt-N`. The companions keep their
/// names relative to it, so that the old file can still be opened with them.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let free = |suffix: &String| named(path, suffix).symlink_metadata().is_err();
    let suffix = (1_u64..).map(|number| format!("{CORRUPT}-{number}")).find(free);
    let suffix = suffix.ok_or_else(|| io::Error::other("no name is free"))?;
    for companion in ["-wal", "-shm"] {
        let aside = named(path, &format!("{suffix}{companion}"));
        match fs::rename(named(path, companion), aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let aside = named(path, &suffix);
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
