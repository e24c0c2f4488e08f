//! What a session may use is held by its scope, and a client is told.

use tests::harness::container::Groups;
use tests::harness::installed::{ALICE, BOB, Installed};

fn small(stage: &std::path::Path) {
    let policy = stage.join("etc/synthesis/spawnd.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let text = text.replace("#memory = \"4G\"", "memory = \"96M\"");
    std::fs::write(&policy, text.replace("#tasks = 512", "tasks = 40")).unwrap();
}

#[test]
fn a_session_that_wants_too_much_ends_or_is_denied_and_others_go_on() {
    let Some(machine) = Installed::boot_with(Groups::Usual, small) else { return };
    let fork = r#"USE_TOOL Bash {"command":"for i in $(seq 100); do sleep 100 & done; echo all","description":"x"}"#;
    let answer = machine.chat(ALICE, "tasks", fork);
    let said = answer.content();
    assert!(said.contains("fork"), "{said}");
    // The fake keeps a reply of so many KiB in memory.
    let answer = machine.chat(ALICE, "memory", "BIG 65536");
    assert_eq!((answer.status, answer.code().as_str()), (502, "out_of_memory"), "{answer:?}");
    let exits = ["-o", "cat", "--output-fields=SYNTHESIS_EXIT", "SYNTHESIS_EXIT=out of memory"];
    let trusted = ["_UID=0", "_SYSTEMD_UNIT=synthesis-spawnd.service"];
    let said = machine.container.say(&[&["journalctl"], &exits[..], &trusted].concat());
    assert_eq!(said, "out of memory");
    assert_eq!(machine.chat(BOB, "s", "hello").content(), "echo: hello");
}
