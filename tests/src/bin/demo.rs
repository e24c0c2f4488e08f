//! `make demo`: the real CLI behind the real daemons, in front of the mock model. Needs no
//! account and no network. Everything it makes lies in one temporary folder.
#![forbid(unsafe_code)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::binary;
use tests::mock_model::MockModel;
use tests::offline_claude::Offline;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let claude = std::env::args_os().nth(1).context("usage: demo CLAUDE")?;
    let folder = tempfile::Builder::new().prefix("synthesis-demo").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let claude = within_reach(Path::new(&claude), folder.path())?;
    let mock = MockModel::start().await?;
    let offline = Offline::new(claude, mock.url());
    let wrapper = offline.install(&binary("offline-claude"), folder.path())?;

    let state = folder.path().join("state");
    let home = state.join("home");
    std::fs::create_dir_all(&home)?;
    let address = std::env::var("SYNTHESIS_HTTP").unwrap_or_else(|_| "127.0.0.1:18900".to_owned());
    let mut server = Command::new(binary("frontd"))
        .arg("dev")
        .env("HOME", &home)
        .env("SYNTHESIS_HTTP", address)
        .env("SYNTHESIS_STATE_DIR", &state)
        .env("SYNTHESIS_CLAUDE", wrapper)
        .env("SYNTHESIS_VISIBLE", offline.visible(folder.path()))
        .stdout(Stdio::piped())
        .spawn()
        .context("start frontd")?;
    let stdout = server.stdout.take().context("stdout is piped")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let line = line.context("frontd did not start")?;
    let url = line.strip_prefix("ready ").context("frontd's ready line")?;
    explain(&line, url);
    let status = tokio::select! {
        status = server.wait() => status?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            // A terminal's Ctrl-C has reached frontd already; a signal to us alone has not.
            if let Some(pid) = server.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            server.wait().await?
        }
    };
    ensure!(status.success(), "frontd: {status}");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what the person at the terminal is to try")]
fn explain(ready: &str, url: &str) {
    println!("{ready}");
    println!(
        "\nThe real CLI answers with the words of a mock model. Try:\n\n  \
         curl -N {url}/v1/chat/completions -H 'content-type: application/json' \\\n    \
         -d '{{\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Say hello\"}}]}}'\n\n\
         Ctrl-C ends everything."
    );
}

/// Started as root, claude runs as another user: below a closed home it could not be executed.
fn within_reach(claude: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let real = claude.canonicalize().with_context(|| format!("no CLI at {}", claude.display()))?;
    let open = |path: &Path| path.metadata().is_ok_and(|found| found.mode() & 0o001 != 0);
    if !nix::unistd::Uid::effective().is_root() || real.ancestors().all(open) {
        return Ok(real);
    }
    let copy = folder.join("claude");
    std::fs::copy(&real, &copy).context("copy the CLI to where its user can reach it")?;
    Ok(copy)
}
