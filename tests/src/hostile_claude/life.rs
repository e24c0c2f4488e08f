//! Attempts to outlive, to multiply, to flood and to crash.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};
use serde_json::json;

use super::{Tried, errno, sys};

/// Until a signal ends it, as an idle claude.
pub(super) fn live_on() -> ExitCode {
    loop {
        nix::unistd::pause();
    }
}

pub(super) fn flood(mebibytes: u32) -> Tried {
    // Titles without an end, absurd positions, repeats, alternate screens, queries.
    let bomb = b"\x1b]0;\x1b[999999;999999H\x1b[2147483647b\x1b[?1049h\x1b[6n\x1b[c\x1bP\xff\x00";
    let block: Vec<u8> = bomb.iter().copied().cycle().take(1 << 20).collect();
    let mut terminal = std::io::stdout().lock();
    for _ in 0..mebibytes {
        terminal.write_all(&block).map_err(|e| errno(&e))?;
    }
    Ok(json!(mebibytes))
}

/// How many children could be had at once; they are ended and waited for.
pub(super) fn fork_bomb(processes: u32) -> Tried {
    let mut children = Vec::new();
    let end = loop {
        if children.len() >= processes as usize {
            break None;
        }
        match sys::child(live_on) {
            Ok(pid) => children.push(pid),
            Err(errno) => break Some(format!("{errno:?}")),
        }
    };
    for child in &children {
        let _ = kill(*child, Signal::SIGKILL);
        let _ = waitpid(*child, None);
    }
    Ok(json!({ "processes": children.len(), "end": end }))
}

pub(super) fn hog(mebibytes: usize) -> Tried {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mebibytes {
        // Written to, so that it is there.
        held.push(vec![0x5A; 1 << 20]);
    }
    Ok(json!(held.len()))
}

pub(super) fn ignore_signals() -> Tried {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        sys::handle(signal, SigHandler::SigIgn)?;
    }
    Ok(json!(null))
}

pub(super) fn daemonise(marker: &Path) -> Tried {
    let child = sys::child(|| {
        let _ = setsid();
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            let _ = sys::handle(signal, SigHandler::SigIgn);
        }
        let _ = sys::child(|| {
            loop {
                let mark = std::process::id().to_string();
                let _ = File::create(marker).and_then(|mut file| file.write_all(mark.as_bytes()));
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        sys::end(0)
    })?;
    waitpid(child, None)?;
    Ok(json!(marker))
}

pub(super) fn keep_terminal() -> Tried {
    let child = sys::child(|| {
        let _ = setsid();
        let _ = sys::handle(Signal::SIGHUP, SigHandler::SigIgn);
        live_on()
    })?;
    Ok(json!(child.as_raw()))
}

pub(super) fn crash(number: i32) -> Tried {
    let limit = getrlimit(Resource::RLIMIT_CORE)?;
    let _ = nix::sys::resource::setrlimit(Resource::RLIMIT_CORE, limit.1, limit.1);
    let _ = File::create("crashing").and_then(|mut file| write!(file, "{limit:?}"));
    let signal = Signal::try_from(number)?;
    sys::handle(signal, SigHandler::SigDfl)?;
    kill(Pid::this(), signal)?;
    Ok(json!(null))
}
