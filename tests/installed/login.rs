//! `synthesis-login`: a person's login for that person's sessions, and no way to misuse it.

use tests::harness::installed::{ALICE, Installed, STRANGER};

#[test]
fn a_login_is_copied_and_nothing_that_a_session_left_is_followed() {
    let Some(machine) = Installed::boot() else { return };
    let login = |user: &str| {
        let output = machine.container.run_as(user, &["synthesis-login"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let shell = |user: &str, script: &str| {
        let output = machine.container.run_as(user, &["sh", "-ec", script]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let theirs = "/var/lib/synthesis/users/alice/claude";
    let (done, said) = login(ALICE);
    assert!(!done && said.contains("run claude once"), "{said}");
    shell(ALICE, "mkdir -p ~/.claude; echo secret >~/.claude/.credentials.json");
    let (done, said) = login(ALICE);
    assert!(!done && said.contains("spawnd home alice"), "{said}");

    assert_eq!(machine.chat(ALICE, "s", "hello").content(), "echo: hello", "{}", machine.log());
    assert_eq!(login(ALICE), (true, String::new()));
    let mode =
        machine.container.say(&["stat", "-c", "%U %a", &format!("{theirs}/.credentials.json")]);
    assert_eq!(mode, "alice 600");

    // What a session can leave there: a link to a file of the person's, and a folder.
    shell(ALICE, &format!("echo mine >~/precious; ln -sf ~/precious {theirs}/.credentials.json"));
    assert_eq!(login(ALICE), (true, String::new()));
    let found = shell(ALICE, &format!("cat ~/precious; cat {theirs}/.credentials.json"));
    assert_eq!(found, "mine\nsecret\n");
    shell(ALICE, &format!("cd {theirs}; rm .credentials.json; ln -s ~ .credentials.json"));
    assert_eq!(login(ALICE), (true, String::new()));
    shell(ALICE, &format!("cd {theirs}; rm .credentials.json; mkdir .credentials.json"));
    assert!(!login(ALICE).0);
    shell(ALICE, "test ! -e ~/.credentials.json");
    shell(ALICE, &format!("test -z \"$(find {theirs} -name '.cred*' ! -name .credentials.json)\""));
    // Another's folder is none of mine.
    shell(STRANGER, "mkdir -p ~/.claude; echo x >~/.claude/.credentials.json");
    assert!(!login(STRANGER).0);
    let (done, said) = {
        let output = machine.container.run(&["synthesis-login"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(!done && said.contains("not as root"), "{said}");
}
