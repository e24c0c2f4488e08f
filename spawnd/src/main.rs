//! spawnd: starts, watches and ends the sessions' processes, and does nothing else.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use proto::ids::UnixUser;
use spawnd::command_line::{self, Access, Place, Task};
use spawnd::token::command as token;
use spawnd::{prepare, reading, startup};

fn main() -> ExitCode {
    let result = match command_line::parse(std::env::args_os().skip(1)) {
        Ok(Task::CheckConfig(file)) => return check_config(&file),
        Ok(Task::Token { command, config }) => keep_token(command, config),
        Ok(Task::Home { user, config }) => make_home(&user, config),
        Ok(Task::Serve { config, access }) => serve(&config, &access),
        Err(usage) => Err(usage.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            spawnd::log::error(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "the answer to the one who asked")]
fn check_config(file: &Path) -> ExitCode {
    match reading::check(file) {
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

fn keep_token(command: token::Command, config: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    Ok(token::run(command, &reading::configuration(&Place::Path(config), None)?.0)?)
}

#[allow(clippy::print_stdout, reason = "the answer to the one who asked")]
fn make_home(user: &UnixUser, config: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    for folder in prepare::make_home(user, config)? {
        println!("{folder}");
    }
    Ok(())
}

fn serve(config: &Place, access: &Access) -> Result<(), Box<dyn std::error::Error>> {
    let daemon = startup::start(config, access)?;
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    Ok(daemon.run()?)
}
