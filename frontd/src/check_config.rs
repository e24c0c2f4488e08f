//! `frontd check-config FILE`: reads the file as the server would and says what is wrong.

use std::path::Path;

use crate::config::Config;

/// # Errors
/// Names line and key of the first fault.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub fn run(file: &Path) -> anyhow::Result<()> {
    Config::load(file)?;
    println!("{}: ok", file.display());
    Ok(())
}
