//! The real Claude Code CLI in the installation, with the words of the mock model.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use tests::harness::container::Groups;
use tests::harness::installed::{ALICE, Installed, put_claude};
use tests::harness::machine::put;
use tests::harness::{binary, skip};
use tests::offline_claude::Offline;

const PORT: &str = "18999";

#[test]
fn the_real_cli_runs_a_turn_in_the_sandbox_of_the_installed_units() {
    let Some(cli) = std::env::var_os("SYNTHESIS_TEST_CLAUDE").map(PathBuf::from) else {
        return skip("no real CLI: SYNTHESIS_TEST_CLAUDE names none (make test installs it)");
    };
    let offline = Offline::new(cli, format!("http://127.0.0.1:{PORT}"));
    let adapt = |stage: &std::path::Path| {
        put_claude(stage, "offline-claude");
        put(stage, &binary("mock-model"), "opt/mock-model", 0o755);
        offline.configure(&stage.join("usr/lib/synthesis/claude")).unwrap();
    };
    let Some(machine) = Installed::boot_with(Groups::Usual, adapt) else { return };
    let mut mock = machine.container.start_as("nobody", &["/opt/mock-model", "--port", PORT]);
    let mut line = String::new();
    BufReader::new(mock.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready"), "{line}");
    let answer = machine.chat(ALICE, "real", "one");
    assert_eq!(answer.status, 200, "{answer:?} {}", machine.log());
    assert_eq!(answer.content(), "You said: one");
    let tool = r#"USE_TOOL Bash {"command":"id -un; pwd","description":"x"}"#;
    let said = machine.chat(ALICE, "real", tool).content();
    assert!(said.contains("alice\n/var/lib/synthesis/users/alice/workspace"), "{said}");
    let _ = mock.kill();
    let _ = mock.wait();
}
