//! spawnd: starts, watches and ends the sessions' processes, and does nothing else.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use spawnd::log;
use spawnd::startup::{self, Access, Place, Task};

fn main() -> ExitCode {
    let result = match startup::parse(std::env::args_os().skip(1)) {
        Ok(Task::CheckConfig(file)) => return check_config(&file),
        Ok(Task::Serve { config, access }) => serve(&config, &access),
        Err(usage) => Err(usage.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "the answer to the one who asked")]
fn check_config(file: &Path) -> ExitCode {
    match startup::check_config(file) {
        Ok(()) => {
            println!("{}: ok", file.display());
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Place, access: &Access) -> Result<(), Box<dyn std::error::Error>> {
    let daemon = startup::start(config, access)?;
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    Ok(daemon.run()?)
}
