//! The table's file, `tokens` of the state folder: root's alone, replaced whole. The daemon looks at
//! it again whenever it is asked and the file is another than before; who changes it holds a lock.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::geteuid;
use proto::ids::AbsolutePath;

use super::{FILE, Fault, Table};
use crate::{folder, log, trust};

const NAME: &str = "tokens";
const OURS: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Folder(#[from] folder::Error),
    #[error("folder of the tokens is not to be trusted: {0}")]
    Trust(#[from] trust::Error),
    #[error("{path} must be a file of uid {uid} that nobody else can read (mode 0600)")]
    Unfit { path: String, uid: u32 },
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{path}: {fault}")]
    Broken { path: String, fault: Fault },
}

pub struct Shelf {
    folder: OwnedFd,
    path: String,
    seen: Option<Seen>,
    /// The last error that was logged.
    told: String,
}

/// What was read, and of which file. `None` is a file that is not there.
struct Seen {
    stamp: Option<Stamp>,
    table: Option<Table>,
    /// Held open, so that no other file gets its number.
    _file: Option<File>,
}

#[derive(PartialEq, Eq)]
struct Stamp([i64; 5], u64);

impl Shelf {
    /// Start only: blocks.
    ///
    /// # Errors
    /// When the state folder is not ours alone.
    pub fn open(state: &AbsolutePath) -> Result<Self, Error> {
        let as_root = geteuid().is_root();
        let folder = folder::own_tree(state, if as_root { 0o755 } else { 0o700 })?.into();
        if as_root {
            trust::prove_roots_folder(state.as_path())?;
        }
        Ok(Self { folder, path: format!("{state}/{NAME}"), seen: None, told: String::new() })
    }

    /// The table as it is now; `None`, and said so in the log, when it cannot be trusted or read: then
    /// no token counts.
    pub fn table(&mut self) -> Option<&Table> {
        let stamp = match fstatat(&self.folder, NAME, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(stamp(&found))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed(errno)),
        };
        let same = |stamp: &Option<Stamp>| self.seen.as_ref().is_some_and(|s| s.stamp == *stamp);
        match stamp {
            Ok(stamp) if same(&stamp) => {}
            Ok(_) => match self.read() {
                Ok(seen) => {
                    self.told.clear();
                    self.seen = Some(seen);
                }
                // What is wrong with the file stays so until it is another; the rest may pass.
                Err((error, stamp)) => {
                    self.seen =
                        stamp.map(|stamp| Seen { stamp: Some(stamp), table: None, _file: None });
                    self.tell(&error);
                }
            },
            Err(error) => {
                self.seen = None;
                self.tell(&error);
            }
        }
        self.seen.as_ref()?.table.as_ref()
    }

    fn tell(&mut self, error: &Error) {
        let said = error.to_string();
        if said != self.told {
            log::error(format_args!("no token is let in: {said}"));
            self.told = said;
        }
    }

    /// The file, and, with a fault of its own, which it was.
    fn read(&self) -> Result<Seen, (Error, Option<Stamp>)> {
        let passing = |errno: Errno| (self.failed(errno), None);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file = match openat(&self.folder, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => {
                return Ok(Seen { stamp: None, table: Some(Table::default()), _file: None });
            }
            Err(errno) => return Err(passing(errno)),
        };
        let found = fstat(&file).map_err(passing)?;
        let (kind, uid) = (SFlag::from_bits_truncate(found.st_mode), geteuid().as_raw());
        let is_file = kind & SFlag::S_IFMT == SFlag::S_IFREG;
        if !is_file || found.st_uid != uid || found.st_mode & 0o077 != 0 {
            return Err((Error::Unfit { path: self.path.clone(), uid }, Some(stamp(&found))));
        }
        let mut text = String::new();
        let read = (&mut file).take(FILE + 1).read_to_string(&mut text);
        let faulty =
            |fault| (Error::Broken { path: self.path.clone(), fault }, Some(stamp(&found)));
        match read {
            Ok(length) if length as u64 > FILE => return Err(faulty(Fault::TooMany)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(faulty(Fault::Line { line: 1, what: "is no text".to_owned() }));
            }
            Err(source) => return Err((Error::File { path: self.path.clone(), source }, None)),
        }
        let table = Table::parse(&text).map_err(faulty)?;
        Ok(Seen { stamp: Some(stamp(&found)), table: Some(table), _file: Some(file) })
    }

    /// The table for one who may wait and wants to know what is wrong.
    ///
    /// # Errors
    /// When there is none to be trusted.
    pub fn look(&self) -> Result<Table, Error> {
        let seen = self.read().map_err(|(error, _)| error)?;
        Ok(seen.table.unwrap_or_default())
    }

    /// Changes the table. Of two at once one waits for the other.
    ///
    /// # Errors
    /// When there is none to be trusted, or the new one could not be written; the old one stays.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Table) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let failed = |errno| self.failed(errno);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let lock = openat(&self.folder, "tokens.lock", flags, OURS).map_err(failed)?;
        let _lock = Flock::lock(File::from(lock), FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed(errno))?;
        let mut table = self.look()?;
        let changed =
            change(&mut table).map_err(|fault| Error::Broken { path: self.path.clone(), fault })?;
        let new = openat(&self.folder, "tokens.new", flags | OFlag::O_TRUNC, OURS);
        let mut new = File::from(new.map_err(failed)?);
        // Whatever the caller's umask, or an earlier one's that was cut short, made of it.
        fchmod(&new, OURS).map_err(failed)?;
        let io = |source| Error::File { path: self.path.clone(), source };
        new.write_all(table.text().as_bytes()).and_then(|()| new.sync_all()).map_err(io)?;
        renameat(&self.folder, "tokens.new", &self.folder, NAME).map_err(failed)?;
        nix::unistd::fsync(self.folder.as_fd()).map_err(failed)?;
        Ok(changed)
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::File { path: self.path.clone(), source: errno.into() }
    }
}

fn stamp(found: &FileStat) -> Stamp {
    let (modified, changed) =
        ((found.st_mtime, found.st_mtime_nsec), (found.st_ctime, found.st_ctime_nsec));
    let times = [found.st_size, modified.0, modified.1, changed.0, changed.1];
    Stamp(times, found.st_ino)
}
