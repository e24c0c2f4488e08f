//! A claude that tries to get out. spawnd starts it as it starts the real one; it reads what to
//! try from `attacks.json` in its workspace and writes one JSON line per attempt to
//! `report.jsonl` there, then the file `done`. Afterwards it lives on as a claude would.
//!
//! | file | attempts |
//! |---|---|
//! | [`files`] | other people's files and folders, setuid programs, devices, filling up |
//! | [`kernel`] | system calls that a session has no business with, by number and by argument |
//! | [`peers`] | other processes and sockets |
//! | [`life`] | staying alive, multiplying, flooding, crashing |
//! | [`sys`] | the unsafe of it all |
//!
//! The same program plays other parts for the tests, by its first argument ([`parts`]).

mod files;
mod kernel;
mod life;
mod parts;
mod peers;
mod sys;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One thing to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    Read(PathBuf),
    List(PathBuf),
    /// Makes a file of this path.
    Write(PathBuf),
    Remove(PathBuf),
    /// Opens a file for writing without making it.
    Open(PathBuf),
    /// Runs a program that is root's and setuid: what euid does it have?
    RunSetuid(PathBuf),
    MakeDevice(PathBuf),
    /// Runs a command that succeeds only for whom it serves.
    Run(Vec<String>),
    /// Goes on when this file is there.
    Await(PathBuf),
    /// Files of the session's own that it was started with.
    OwnFiles,
    /// Writes until no more is taken, at most so many MiB.
    FillBytes {
        path: PathBuf,
        mebibytes: u64,
    },
    /// Makes files until no more are taken.
    FillInodes {
        path: PathBuf,
        files: u64,
    },
    /// A folder with so many entries, to be cleaned up by others.
    Tree {
        path: PathBuf,
        entries: u64,
    },
    /// Renames, links and swaps the session's folder and what is in it.
    Swap {
        rounds: u32,
    },

    /// setuid, setgid, setgroups and capset, every way.
    RegainRoot,
    /// One of [`kernel`]'s table.
    Call(String),
    /// Every name of [`kernel`]'s table.
    Calls,
    /// What must go on working.
    UsualCalls,
    /// A system call by the door of 32-bit programs.
    Int80,
    /// ioctl(2) on the terminal, with the whole 64 bits of the request.
    Ioctl(u64),

    Trace(i32),
    Kill {
        pid: i32,
        signal: i32,
    },
    /// Every way to have it end for want of processor time.
    Starve(i32),
    /// A file of /proc/PID.
    Proc {
        pid: i32,
        file: String,
    },
    Connect(PathBuf),
    ConnectAbstract(String),
    /// Datagrams to a notify socket; the session's own without a path.
    Notify {
        path: Option<PathBuf>,
        text: String,
        fds: usize,
        times: u32,
    },

    Facts,
    /// Megabytes of escape sequences to the terminal.
    Flood {
        mebibytes: u32,
    },
    ForkBomb {
        processes: u32,
    },
    /// Takes memory, at most so much.
    Hog {
        mebibytes: usize,
    },
    IgnoreSignals,
    /// A grandchild of its own session touches this file every 50 ms.
    Daemonise(PathBuf),
    /// A child in a session of its own that keeps the terminal open.
    KeepTerminal,
    /// Ends this process by this signal, with a core dump if it may.
    Crash(i32),
    Exit(i32),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Denied,
    Succeeded,
    /// It could not even be tried.
    Error,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub attempt: Attempt,
    pub outcome: Outcome,
    pub detail: Value,
}

/// What an attempt came to: what it got, or why not.
type Tried = Result<Value, Errno>;

pub const ATTACKS: &str = "attacks.json";
pub const REPORT: &str = "report.jsonl";
pub const DONE: &str = "done";

pub fn main() -> ExitCode {
    if let Some(code) = parts::play() {
        return code;
    }
    match attack() {
        Ok(()) => {
            let _ = File::create(DONE);
            life::live_on()
        }
        Err(error) => {
            let folder = std::env::current_dir();
            let _ = writeln!(std::io::stderr(), "{folder:?}: {error:#}");
            ExitCode::from(99)
        }
    }
}

fn attack() -> anyhow::Result<()> {
    let attempts: Vec<Attempt> = serde_json::from_reader(File::open(ATTACKS)?)?;
    let mut report = OpenOptions::new().create(true).append(true).open(REPORT)?;
    for attempt in attempts {
        let lines = if let Attempt::Calls = &attempt {
            // One line for each, so that a test can name them.
            let one = |name: &&str| line(Attempt::Call((*name).to_owned()), kernel::call(name));
            kernel::names().iter().map(one).collect()
        } else {
            vec![line(attempt.clone(), perform(&attempt))]
        };
        for line in lines {
            writeln!(report, "{}", serde_json::to_string(&line)?)?;
        }
    }
    Ok(())
}

fn line(attempt: Attempt, tried: Tried) -> Line {
    match tried {
        Ok(detail) => Line { attempt, outcome: Outcome::Succeeded, detail },
        Err(Errno::UnknownErrno) => Line { attempt, outcome: Outcome::Error, detail: Value::Null },
        Err(errno) => {
            Line { attempt, outcome: Outcome::Denied, detail: json!(format!("{errno:?}")) }
        }
    }
}

fn perform(attempt: &Attempt) -> Tried {
    match attempt {
        Attempt::Read(path) => files::read(path),
        Attempt::List(path) => files::list(path),
        Attempt::Write(path) => files::write(path),
        Attempt::Remove(path) => files::remove(path),
        Attempt::Open(path) => files::open(path),
        Attempt::RunSetuid(path) => files::run_setuid(path),
        Attempt::MakeDevice(path) => files::make_device(path),
        Attempt::Run(command) => files::run(command),
        Attempt::Await(path) => files::wait_for(path),
        Attempt::OwnFiles => files::own(),
        Attempt::FillBytes { path, mebibytes } => files::fill_bytes(path, *mebibytes),
        Attempt::FillInodes { path, files } => files::fill_inodes(path, *files),
        Attempt::Tree { path, entries } => files::tree(path, *entries),
        Attempt::Swap { rounds } => files::swap(*rounds),
        Attempt::RegainRoot => kernel::regain_root(),
        Attempt::Call(name) => kernel::call(name),
        Attempt::Calls => Err(Errno::UnknownErrno),
        Attempt::UsualCalls => kernel::usual_calls(),
        Attempt::Int80 => kernel::int80(),
        Attempt::Ioctl(request) => kernel::ioctl(*request),
        Attempt::Trace(pid) => peers::trace(*pid),
        Attempt::Kill { pid, signal } => peers::kill(*pid, *signal),
        Attempt::Starve(pid) => peers::starve(*pid),
        Attempt::Proc { pid, file } => peers::proc(*pid, file),
        Attempt::Connect(path) => peers::connect(path),
        Attempt::ConnectAbstract(name) => peers::connect_abstract(name),
        Attempt::Notify { path, text, fds, times } => {
            peers::notify(path.as_deref(), text, *fds, *times)
        }
        Attempt::Facts => parts::facts(),
        Attempt::Flood { mebibytes } => life::flood(*mebibytes),
        Attempt::ForkBomb { processes } => life::fork_bomb(*processes),
        Attempt::Hog { mebibytes } => life::hog(*mebibytes),
        Attempt::IgnoreSignals => life::ignore_signals(),
        Attempt::Daemonise(path) => life::daemonise(path),
        Attempt::KeepTerminal => life::keep_terminal(),
        Attempt::Crash(signal) => life::crash(*signal),
        Attempt::Exit(code) => std::process::exit(*code),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
