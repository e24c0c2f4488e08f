//! frontd: parse the command line, run the command, report one error.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use frontd::cli::{Cli, Command};
use frontd::{check_config, dev, logging, two_daemons};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init();
    let result = match cli.command {
        Command::Dev => dev::run(),
        Command::Serve { spawnd, user } => two_daemons::run(spawnd, user),
        Command::CheckConfig { file } => check_config::run(&file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
