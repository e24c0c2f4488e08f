//! The official OpenAI clients, as the programs of others use them: `make test` installs them,
//! the scripts in `clients/` run them.

use std::path::{Path, PathBuf};

use tests::harness::client::PATIENCE;
use tests::harness::{Options, Server, skip};
use tokio::process::Command;

/// What both scripts check against a server with default options.
const CHECKS: [&str; 8] = [
    "whole",
    "streamed",
    "helper",
    "models",
    "unknown_model",
    "refused",
    "broken",
    "broken_stream",
];

#[tokio::test]
async fn the_python_client_gets_answers_and_errors() {
    let Some(python) = python() else { return };
    run(python, Options::default(), &CHECKS).await;
}

#[tokio::test]
async fn the_python_client_and_its_stream_helper_take_keep_alive_deltas() {
    let Some(python) = python() else { return };
    run(python, with_keep_alive(), &["keep_alive"]).await;
}

#[tokio::test]
async fn the_javascript_client_gets_answers_and_errors() {
    let Some(node) = node() else { return };
    run(node, Options::default(), &CHECKS).await;
}

#[tokio::test]
async fn the_javascript_client_and_its_stream_helper_take_keep_alive_deltas() {
    let Some(node) = node() else { return };
    run(node, with_keep_alive(), &["keep_alive"]).await;
}

fn with_keep_alive() -> Options {
    let config = "[stream]\nkeep_alive_seconds = 1\n".to_owned();
    Options { config, ..Options::default() }
}

/// Runs checks of a script against a server of its own.
async fn run(mut script: Command, options: Options, checks: &[&str]) {
    let server = Server::start(options).await;
    script.arg(format!("http://{}/v1", server.client.address)).args(checks).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, script.output()).await;
    let output = output.expect("the script ends in time").expect("the script runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said == "OK\n",
        "{}\n{said}{complained}\nthe server:\n{}",
        output.status,
        server.log()
    );
}

fn python() -> Option<Command> {
    python_script("openai_client.py")
}

fn node() -> Option<Command> {
    node_script("openai_client.js")
}

/// A script of `clients/` with the official Python client; `None` skips.
pub(crate) fn python_script(script: &str) -> Option<Command> {
    Some(interpreter(&installed("SYNTHESIS_TEST_PYTHON")?, script))
}

/// A script of `clients/` with the official packages of npm; `None` skips.
pub(crate) fn node_script(script: &str) -> Option<Command> {
    let modules = installed("SYNTHESIS_TEST_NODE_PATH")?;
    let mut node = interpreter(Path::new("node"), script);
    node.env("NODE_PATH", modules);
    Some(node)
}

fn installed(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        skip(&format!("no official client: {variable} is not set (make test installs it)"));
    }
    path
}

/// Nothing of the caller's environment reaches the client: a proxy or `OPENAI_*` would change
/// what it does.
fn interpreter(program: &Path, script: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/clients").join(script));
    command
}
