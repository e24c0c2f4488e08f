//! The few tools that the fake really has. What a tool prints goes through a file in TMPDIR, so
//! that a broken TMPDIR shows.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sha2::Digest as _;

/// Bytes of a tool's output that are kept.
const OUTPUT: usize = 256 * 1024;

/// A shell command that runs.
pub(super) struct Bash {
    child: Child,
    output: PathBuf,
}

impl Bash {
    /// # Errors
    /// When TMPDIR cannot be written or the shell cannot be started.
    pub(super) fn start(input: &Value) -> std::io::Result<Self> {
        let name = format!("fake-claude-{}.out", std::process::id());
        let output = std::env::temp_dir().join(name);
        let file = File::create(&output)?;
        let child = Command::new("/bin/sh")
            .args(["-c", input["command"].as_str().unwrap_or("true")])
            .env("CLAUDECODE", "1")
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file)
            .spawn()?;
        Ok(Self { child, output })
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it printed, without the last line feed.
    pub(super) fn output(&mut self) -> String {
        let mut bytes = std::fs::read(&self.output).unwrap_or_default();
        bytes.truncate(OUTPUT);
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}

/// Tools that the fake has, or at least asks about.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "Bash" | "Read" | "Write" | "WebFetch" | "AskUserQuestion" | "ExitPlanMode")
}

/// One line for each attached file: its name, length, and the SHA-256 of what is in it.
pub(super) fn told_files(files: &[(String, String)]) -> String {
    let told = |(path, name): &(String, String)| match std::fs::read(path) {
        Ok(bytes) => {
            let digest = sha2::Sha256::digest(&bytes);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name}: {} bytes, sha256 {hex}\n", bytes.len())
        }
        Err(error) => format!("{name}: {error}\n"),
    };
    if files.is_empty() { "no files".to_owned() } else { files.iter().map(told).collect() }
}

/// Tools that end at once.
pub(super) fn quick(name: &str, input: &Value) -> Result<String, String> {
    match name {
        "Read" => {
            let path = input["file_path"].as_str().unwrap_or_default();
            std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
        }
        "Write" => {
            let path = input["file_path"].as_str().unwrap_or_default();
            let content = input["content"].as_str().unwrap_or_default();
            std::fs::write(path, content)
                .map(|()| format!("wrote {path}"))
                .map_err(|error| format!("{path}: {error}"))
        }
        _ => Err(format!("No such tool available: {name}")),
    }
}
