//! frontd: parse the command line, run the command, report one error.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use frontd::cli::{Cli, Command};
use frontd::remote::{self, Question};
use frontd::{check_config, dev, logging, two_daemons};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Dev => served(dev::run),
        Command::Serve { spawnd, user } => served(|| two_daemons::run(spawnd, user)),
        Command::CheckConfig { file } => checked(check_config::run(&file)),
        Command::Status { options } => answered(remote::run(&options, Question::Status)),
        Command::Sessions { all, options } => {
            answered(remote::run(&options, Question::Sessions { all }))
        }
        Command::Stop { key, options } => answered(remote::run(&options, Question::Stop { key })),
    }
}

/// A server's fault goes where its log goes.
fn served(server: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    let logging = logging::init();
    let code = match server() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    logging.end();
    code
}

/// A person's question is answered where it was asked, an error on one line of plain text.
fn answered(result: anyhow::Result<()>) -> ExitCode {
    finished(result, remote::plain)
}

/// A fault of a file comes with the lines that it is about.
fn checked(result: anyhow::Result<()>) -> ExitCode {
    finished(result, |text| {
        let lines: Vec<String> = text.trim_end().lines().map(remote::plain).collect();
        lines.join("\n")
    })
}

fn finished(result: anyhow::Result<()>, shown: impl FnOnce(&str) -> String) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("frontd: {}", shown(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
