//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::remote::Options;

/// OpenAI-compatible HTTP in front of long-lived Claude Code sessions.
#[derive(Debug, Parser)]
#[command(name = "frontd", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the calling user on loopback, with a spawnd of its own. Settings come from the
    /// SYNTHESIS_* variables; docs/configuration.md names them.
    Dev,
    /// Serve with a spawnd that runs already, which keeps sessions while the connection is lost.
    Serve {
        /// The socket of `spawnd --socket`.
        #[arg(long)]
        spawnd: PathBuf,
        /// The Unix user that sessions run as; the caller by default.
        #[arg(long)]
        user: Option<String>,
    },
    /// Check a configuration file and say what is wrong with it.
    CheckConfig {
        #[arg(default_value = "/etc/synthesis/frontd.toml")]
        file: PathBuf,
    },
    /// What a server that runs does now: for its administrator.
    Status {
        #[command(flatten)]
        options: Options,
    },
    /// The sessions: one's own, or for root everybody's.
    Sessions {
        /// Everybody's, where one may see both.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Abort a session's runs and end its process. The conversation stays.
    Stop {
        /// As `frontd sessions` shows it.
        key: String,
        #[command(flatten)]
        options: Options,
    },
}
