//! Starts the real daemons for a test and talks to them as a client does. Everything a server
//! leaves behind is in its folder, which goes with it.

pub mod caller;
pub mod client;
pub mod container;
pub mod installed;
pub mod machine;
pub mod place;
pub mod processes;
pub mod required;
pub mod seqpacket;
pub mod server;
pub mod spawnd;
pub mod two_daemons;

use std::path::PathBuf;

pub use caller::Caller;
pub use client::{Client, Reply, Stream};
pub use required::Required;
pub use server::{Options, Server};
pub use two_daemons::{TwoDaemons, Wanted};

/// A binary of the workspace's build that this test belongs to.
///
/// # Panics
/// When it was not built: `make test` builds the whole workspace first.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    // target/PROFILE/deps/test or target/PROFILE/binary
    let found =
        own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `make test`, or build the workspace"))
}

/// Says loudly that a test did not run; under CI it fails instead.
///
/// # Panics
/// Under `CI=true`.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be skipped under CI: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Is this process root? If not, says that the test needs it.
pub fn have_root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        skip("needs root");
    }
    root
}
