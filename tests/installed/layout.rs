//! What is where, whose it is, and that an uninstallation takes all of it away again.

use std::collections::BTreeSet;

use tests::harness::container::{Container, Groups};
use tests::harness::installed::{ALICE, Installed, SPAWND, STRANGER, put_claude, sources, stage};

/// Path, owner, group, mode and kind, as stat(1) has them.
const PLACES: [&str; 10] = [
    "/run/synthesis root:root 755 directory",
    "/run/synthesis/spawnd.sock root:synthesis 660 socket",
    "/run/synthesis/http.sock root:synthesis-users 660 socket",
    "/run/synthesis/bridge root:root 755 directory",
    "/run/synthesis/bridge/bridge.sock root:root 666 socket",
    "/var/lib/synthesis root:root 755 directory",
    "/var/lib/synthesis/frontd synthesis:synthesis 700 directory",
    "/etc/synthesis root:root 755 directory",
    "/etc/synthesis/spawnd.toml root:root 644 regular file",
    "/usr/libexec/synthesis/spawnd root:root 755 regular file",
];

/// Who may connect to what: kind of socket, path, and the accounts that get through.
const DOORS: [(&str, &str, &[&str]); 3] = [
    ("SOCK_SEQPACKET", "/run/synthesis/spawnd.sock", &["synthesis"]),
    ("SOCK_STREAM", "/run/synthesis/http.sock", &[ALICE]),
    ("SOCK_STREAM", "/run/synthesis/bridge/bridge.sock", &[ALICE, STRANGER, "synthesis"]),
];

#[test]
fn sockets_and_folders_have_their_owners_and_modes() {
    for groups in [Groups::Usual, Groups::Unified] {
        let Some(machine) = Installed::boot_with(groups, |_| {}) else { return };
        for place in PLACES {
            let path = place.split(' ').next().unwrap();
            let found = machine.container.say(&["stat", "-c", "%n %U:%G %a %F", path]);
            assert_eq!(found, place, "{groups:?}");
        }
        // Enabling the two sockets that an administrator names enabled the third.
        let enabled = machine.systemctl(&["is-enabled", "synthesis-bridge.socket"]);
        assert_eq!(enabled, "enabled");
    }
}

#[test]
fn only_those_whom_a_socket_is_for_get_through() {
    let Some(machine) = Installed::boot() else { return };
    let connect = "use Socket; socket(my $s, PF_UNIX, eval $ARGV[0], 0) or die; \
        connect($s, sockaddr_un($ARGV[1])) or die \"$!\"";
    for (kind, path, welcome) in DOORS {
        for user in [ALICE, STRANGER, "synthesis"] {
            let tried = machine.container.run_as(user, &["perl", "-e", connect, kind, path]);
            let said = String::from_utf8_lossy(&tried.stderr);
            if welcome.contains(&user) {
                assert!(tried.status.success(), "{user} to {path}: {said}");
            } else {
                assert!(said.starts_with("Permission denied"), "{user} to {path}: {said}");
            }
        }
    }
}

/// Every file of the machine that is no business of the kernel's or of systemd's own.
fn files(container: &Container) -> BTreeSet<String> {
    let all = ["find", "/etc", "/usr", "/var/lib", "-xdev"];
    let found = container.run(&all);
    assert!(found.status.success());
    // What systemd and the tools of accounts keep about themselves.
    let own = ["/var/lib/systemd", "/var/lib/private", "/etc/.", "/etc/sub"];
    let kept = |line: &&str| !own.iter().any(|prefix| line.starts_with(prefix));
    let backup = |line: &&str| line.starts_with("/etc/") && line.ends_with('-');
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().filter(kept).filter(|line| !backup(line)).map(str::to_owned).collect()
}

#[test]
fn what_an_installation_brought_its_uninstallation_takes_away() {
    if !Container::is_possible() {
        return;
    }
    let stage = stage();
    sources(stage.path(), "opt/synthesis");
    put_claude(stage.path(), "fake-claude");
    let machine = Installed { container: Container::boot(stage.path()) };
    let before = files(&machine.container);
    let make = |target: &str| {
        let folder = ["make", "--silent", "-C", "/opt/synthesis", "BIN=bin", target];
        machine.container.say(&folder)
    };
    make("install");
    let sockets = ["synthesis-spawnd.socket", "synthesis-frontd.socket"];
    machine.systemctl(&["enable", "--quiet", "--now", sockets[0], sockets[1]]);
    machine.systemctl(&["start", SPAWND]);
    let exec = machine.shows(SPAWND, "ExecStart");
    assert!(exec.contains("path=/usr/local/libexec/synthesis/spawnd"), "{exec}");
    assert_eq!(
        machine.container.say(&["stat", "-c", "%U", "/var/lib/synthesis/frontd"]),
        "synthesis"
    );

    // Once more is an upgrade: the administrator's configuration stays, the daemon is the new one.
    let pid = machine.shows(SPAWND, "MainPID");
    machine.container.say(&["sh", "-c", "echo '# mine' >>/etc/synthesis/spawnd.toml"]);
    assert!(make("install").contains("/etc/synthesis/spawnd.toml is kept as it is"));
    let policy = machine.container.say(&["tail", "-1", "/etc/synthesis/spawnd.toml"]);
    assert_eq!(policy, "# mine");
    assert_ne!(machine.shows(SPAWND, "MainPID"), pid);

    let said = make("uninstall");
    assert!(said.contains("Kept: /etc/synthesis, /var/lib/synthesis"), "{said}");
    for unit in [SPAWND, sockets[0], sockets[1]] {
        assert_eq!(machine.shows(unit, "LoadState"), "not-found", "{unit}");
    }
    let after = files(&machine.container);
    let left: Vec<&String> = after.difference(&before).collect();
    let kept = |path: &&String| {
        path.starts_with("/etc/synthesis") || path.starts_with("/var/lib/synthesis")
    };
    assert!(left.iter().all(kept), "{left:#?}");
    assert!(left.contains(&&"/etc/synthesis/spawnd.toml".to_owned()), "{left:#?}");
    let lost: Vec<&String> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn an_ordinary_user_lays_out_a_stage_and_cannot_install_into_the_machine() {
    if !Container::is_possible() {
        return;
    }
    let stage = stage();
    sources(stage.path(), "opt/synthesis");
    let container = Container::boot(stage.path());
    let make = |more: &[&str]| {
        let make = ["make", "--silent", "-C", "/opt/synthesis", "BIN=bin", "install"];
        container.run_as("nobody", &[&["env", "HOME=/tmp"], &make[..], more].concat())
    };
    let made = make(&["DESTDIR=/tmp/stage", "PREFIX=/usr"]);
    assert!(made.status.success(), "{made:?}");
    let unit = "/tmp/stage/usr/lib/systemd/system/synthesis-spawnd.service";
    assert!(container.path(unit).is_file());
    let refused = make(&[]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("only root can install into /"), "{said}");
    for prefix in ["PREFIX=relative", "PREFIX=/usr,evil", "PREFIX=/usr/../etc", "PREFIX=/"] {
        assert!(!make(&["DESTDIR=/tmp/other", prefix]).status.success(), "{prefix}");
    }
}
