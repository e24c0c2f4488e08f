//! Many people at once, each of them as itself.

use std::collections::BTreeSet;

use tests::harness::container::Groups;
use tests::harness::installed::{ALICE, Answer, BOB, FRONTD, Installed, SPAWND, STRANGER};

/// Says who it is and where, and leaves a file there.
const WHO: &str = r#"USE_TOOL Bash {"command":"id -un; id -Gn; pwd; id -un > mine; ls; echo x > $HOME/kept","description":"x"}"#;

#[test]
fn the_first_request_wakes_both_daemons_and_each_works_as_its_own_user() {
    for groups in [Groups::Usual, Groups::Unified] {
        let Some(machine) = Installed::boot_with(groups, |_| {}) else { return };
        each_works_as_its_own_user(&machine);
    }
}

fn each_works_as_its_own_user(machine: &Installed) {
    for unit in [SPAWND, FRONTD] {
        assert_eq!(machine.shows(unit, "ActiveState"), "inactive");
    }
    // At once, in conversations of one name.
    let asked = [ALICE, BOB].map(|user| (user, machine.chatting(user, "same", WHO)));
    for (user, asked) in asked {
        let answer = Answer::of(&asked.wait_with_output().unwrap());
        assert_eq!(answer.status, 200, "{answer:?} {}", machine.log());
        let workspace = format!("/var/lib/synthesis/users/{user}/workspace");
        let said = answer.content();
        let expected = [user, user, &workspace, "mine"];
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), expected, "{said}");
        for file in ["workspace/mine", "home/kept"] {
            let file = format!("/var/lib/synthesis/users/{user}/{file}");
            assert_eq!(machine.container.say(&["stat", "-c", "%U", &file]), user);
        }
    }
    for unit in [SPAWND, FRONTD] {
        assert_eq!(machine.shows(unit, "ActiveState"), "active");
    }
    let users: Vec<String> = machine.claudes().into_iter().map(|(_, user)| user).collect();
    assert_eq!(users.len(), 2, "{users:?}");
    assert!(users.contains(&ALICE.to_owned()) && users.contains(&BOB.to_owned()), "{users:?}");

    // Nobody sees what is another's, by HTTP or in the file system.
    let sessions = machine.curl(BOB, "/v1/sessions", &[]).json();
    assert_eq!(sessions["data"].as_array().unwrap().len(), 1, "{sessions}");
    let peek = r#"USE_TOOL Bash {"command":"ls /var/lib/synthesis/users/alice; ls -d /run/synthesis/*","description":"x"}"#;
    let said = machine.chat(BOB, "same", peek).content();
    assert!(said.contains("/var/lib/synthesis/users/alice"), "{said}");
    assert!(!said.contains("mine") && !said.contains("http.sock"), "{said}");
}

#[test]
fn a_stop_of_spawnd_ends_every_session_and_leaves_nothing() {
    for groups in [Groups::Usual, Groups::Unified] {
        let Some(machine) = Installed::boot_with(groups, |_| {}) else { return };
        a_stop_leaves_nothing(&machine);
    }
}

fn a_stop_leaves_nothing(machine: &Installed) {
    for user in [ALICE, BOB] {
        assert_eq!(machine.chat(user, "s", "hello").content(), "echo: hello");
    }
    let before = machine.claudes();
    assert_eq!(before.len(), 2);
    machine.systemctl(&["stop", SPAWND, "synthesis-spawnd.socket"]);
    assert_eq!(machine.claudes(), BTreeSet::new());
    let scopes = ["list-units", "--all", "--plain", "--no-legend", "synthesis-*.scope"];
    assert_eq!(machine.systemctl(&scopes), "");
    // frontd is there all the while, and goes on when spawnd may be woken again.
    machine.systemctl(&["start", "synthesis-spawnd.socket"]);
    assert_eq!(machine.chat(ALICE, "s", "again").content(), "echo: again", "{}", machine.log());
}

#[test]
fn over_tcp_a_token_says_who_comes() {
    let Some(machine) = Installed::boot() else { return };
    let tcp = |token: &str| {
        let bearer = format!("authorization: Bearer {token}");
        let url = "http://127.0.0.1:18900/v1/models";
        let asked = ["curl", "-sS", "-m", "30", "-w", "\n%{http_code}", "-H", &bearer, url];
        Answer::of(&machine.container.run_as(STRANGER, &asked))
    };
    assert_eq!(tcp("syn-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").status, 401);
    let added = machine.container.say(&["spawnd", "token", "add", "--user", ALICE]);
    let token = added.split_whitespace().find(|word| word.starts_with("syn-")).unwrap();
    assert_eq!(tcp(token).status, 200, "{}", machine.log());
    // Nobody else reads them.
    let table = machine.container.run_as(STRANGER, &["cat", "/var/lib/synthesis/tokens"]);
    assert!(!table.status.success());
}

#[test]
fn a_client_inside_the_slice_of_sessions_is_none() {
    let Some(machine) = Installed::boot() else { return };
    let asks = |more: &[&str]| {
        let curl = ["curl", "-sS", "-m", "30", "-w", "\n%{http_code}"];
        let socket = ["--unix-socket", "/run/synthesis/http.sock", "http://localhost/v1/models"];
        let run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=alice"];
        let group = ["--property=SupplementaryGroups=synthesis-users"];
        let asked = [&run[..], &group, more, &curl, &socket].concat();
        Answer::of(&machine.container.run(&asked))
    };
    assert_eq!(asks(&[]).status, 200, "{}", machine.log());
    // As if a session could see the socket at all.
    let inside = asks(&["--slice=synthesis-sessions.slice"]);
    assert_eq!(inside.status, 403, "{inside:?}");
    assert!(machine.log().contains("its peer is a session"), "{}", machine.log());
}
