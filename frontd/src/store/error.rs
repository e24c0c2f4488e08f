//! What can go wrong with the store, and what that means for those who use it.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::run::RunId;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("prepare the store at {}", path.display())]
    Prepare { path: PathBuf, source: std::io::Error },
    #[error("open the store at {}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("the store at {} has version {found}, this program knows up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("set the corrupt store at {} aside", path.display())]
    SetAside { path: PathBuf, source: std::io::Error },
    #[error("{step}")]
    Query { step: &'static str, source: rusqlite::Error },
    /// The caller's fault; the log would have a hole.
    #[error("event {found} of {run} where {expected} is next")]
    OutOfOrder { run: RunId, expected: u64, found: u64 },
    #[error("the store is corrupt; it is set aside at the next start")]
    Corrupt,
    #[error("the store's thread has ended")]
    Stopped,
}

/// Whose fault a failed commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What was to be written cannot be: other batches can.
    Batch,
    /// The disk: it may take something smaller, or the same later.
    Disk,
    /// Another process has the file locked; the wait is over already.
    Locked,
    /// The file's contents.
    Corrupt,
}

impl Cause {
    /// Can another batch succeed where this one failed?
    pub(super) fn may_spare_others(self) -> bool {
        match self {
            Self::Batch | Self::Disk => true,
            Self::Locked | Self::Corrupt => false,
        }
    }
}

impl StoreError {
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Prepare { .. } | Self::SetAside { .. } | Self::Newer { .. } | Self::Stopped => {
                Cause::Disk
            }
            Self::OutOfOrder { .. } => Cause::Batch,
            Self::Corrupt => Cause::Corrupt,
            Self::Open { source, .. } | Self::Query { source, .. } => cause(source),
        }
    }
}

fn cause(error: &rusqlite::Error) -> Cause {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Cause::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Cause::Locked,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::NoLargeFileSupport,
        ) => Cause::Disk,
        Some(_) | None => Cause::Batch,
    }
}
