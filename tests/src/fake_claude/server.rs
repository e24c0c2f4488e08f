//! The MCP server `synthesis` as a child process over pipes: started from the MCP file, lines
//! in and out without ever blocking. Its death is seen as an end of its output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

/// A line longer than this ends the connection: no message of ours comes near.
const LONGEST_LINE: usize = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct McpFile {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, ServerEntry>,
}

/// How to start the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ServerEntry {
    #[serde(default = "stdio", rename = "type")]
    kind: String,
    command: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

fn stdio() -> String {
    "stdio".to_owned()
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("MCP config {path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("MCP config {path} is invalid: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("MCP server {0} is not configured as a stdio server")]
    Missing(String),
    #[error("MCP server cannot be started")]
    Start(#[from] io::Error),
}

/// Finds the server's entry in the file of `--mcp-config`.
pub(super) fn find(path: &Path, name: &str) -> Result<ServerEntry, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut file: McpFile = serde_json::from_slice(&bytes)
        .map_err(|source| Error::Parse { path: path.into(), source })?;
    file.servers
        .remove(name)
        .filter(|entry| entry.kind == "stdio")
        .ok_or_else(|| Error::Missing(name.to_owned()))
}

/// The running server.
pub(super) struct Server {
    child: Child,
    /// `None` once it is gone.
    pipes: Option<Pipes>,
}

struct Pipes {
    input: OwnedFd,
    output: OwnedFd,
    /// Not yet taken by its standard input.
    unsent: Vec<u8>,
    /// Read, but not yet a whole line.
    partial: Vec<u8>,
}

impl Server {
    /// Starts it with claude's environment, the CLI's own additions and the entry's `env`.
    pub(super) fn start(
        entry: &ServerEntry,
        own: &[(&str, OsString)],
        errors: Option<File>,
    ) -> Result<Self, Error> {
        let mut child = Command::new(&entry.command)
            .args(&entry.args)
            .envs(own.iter().map(|(name, value)| (name, value)))
            .envs(&entry.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.map_or_else(Stdio::null, Stdio::from))
            .spawn()?;
        let missing = || io::Error::other("a pipe that was asked for is missing");
        let input = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
        let output = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
        for fd in [&input, &output] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
        }
        let pipes = Pipes { input, output, unsent: Vec::new(), partial: Vec::new() };
        Ok(Self { child, pipes: Some(pipes) })
    }

    pub(super) fn is_gone(&self) -> bool {
        self.pipes.is_none()
    }

    /// What to poll: its output, and its input when something waits to be sent.
    pub(super) fn poll_fds(&self) -> Option<(BorrowedFd<'_>, Option<BorrowedFd<'_>>)> {
        let pipes = self.pipes.as_ref()?;
        let input = (!pipes.unsent.is_empty()).then(|| pipes.input.as_fd());
        Some((pipes.output.as_fd(), input))
    }

    /// Sends a line, or as much of it as the pipe takes; the rest goes with [`Self::flush`].
    pub(super) fn send(&mut self, line: &str) {
        let Some(pipes) = &mut self.pipes else { return };
        if pipes.unsent.is_empty() {
            let written = match nix::unistd::write(&pipes.input, line.as_bytes()) {
                Ok(written) => written,
                Err(Errno::EAGAIN | Errno::EINTR) => 0,
                Err(_) => return,
            };
            pipes.unsent.extend_from_slice(&line.as_bytes()[written..]);
        } else {
            pipes.unsent.extend_from_slice(line.as_bytes());
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(pipes) = &mut self.pipes else { return };
        match nix::unistd::write(&pipes.input, &pipes.unsent) {
            Ok(written) => drop(pipes.unsent.drain(..written)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Its input is closed: it is dying, and its output will say so.
            Err(_) => pipes.unsent.clear(),
        }
    }

    /// Reads once and hands over each complete line. At the end the pipes are closed.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&[u8])) {
        let Some(pipes) = &mut self.pipes else { return };
        let mut buffer = [0; 64 * 1024];
        let count = match nix::unistd::read(&pipes.output, &mut buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Ok(count) if count > 0 && pipes.partial.len() < LONGEST_LINE => count,
            Ok(_) | Err(_) => {
                self.pipes = None;
                self.reap();
                return;
            }
        };
        let mut rest = &buffer[..count];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            if pipes.partial.is_empty() {
                take(&rest[..end]);
            } else {
                pipes.partial.extend_from_slice(&rest[..end]);
                take(&pipes.partial);
                pipes.partial.clear();
            }
            rest = &rest[end + 1..];
        }
        pipes.partial.extend_from_slice(rest);
    }

    /// Its output ends a moment before it does; the real CLI leaves no zombie.
    fn reap(&mut self) {
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Sends a signal, and forgets a child that is gone.
    pub(super) fn signal(&mut self, signal: Signal) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// SIGKILL, and waits for its end.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.pipes = None;
    }
}
