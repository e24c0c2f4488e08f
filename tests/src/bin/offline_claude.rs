//! `offline-claude`: see [`tests::offline_claude`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let error = tests::offline_claude::run(std::env::args_os().skip(1));
    eprintln!("offline-claude: {error:#}");
    ExitCode::from(127)
}
