//! spawnd: starts, watches and ends the sessions' processes, and does nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use spawnd::{log, startup};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let access = startup::parse(std::env::args_os().skip(1))?;
    let daemon = startup::start(&access, &|name| std::env::var(name).ok())?;
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    Ok(daemon.run()?)
}
