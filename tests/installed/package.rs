//! The Debian package in a machine without a network: installed, upgraded, removed, purged.

use tests::harness::container::Container;
use tests::harness::installed::{Installed, SPAWND, put_claude, put_packages, stage};

#[test]
fn a_package_is_installed_upgraded_removed_and_purged() {
    if !Container::is_possible() {
        return;
    }
    let stage = stage();
    if !put_packages(stage.path()) {
        return;
    }
    put_claude(stage.path(), "fake-claude");
    let machine = Installed { container: Container::boot(stage.path()) };
    let say = |command: &[&str]| machine.container.say(command);
    let dpkg = |arguments: &[&str]| say(&[&["dpkg"], arguments].concat());
    let traces = "find /etc /usr /run -xdev -name '*synthesis*' \
        ! -path /usr/lib/synthesis ! -path '/run/systemd/*'; \
        find /var/lib/synthesis /var/lib/dpkg/info/synthesis* /var/cache/synthesis* 2>/dev/null; \
        grep -E '^synthesis(-users)?:' /etc/passwd /etc/group /etc/shadow /etc/gshadow";
    // dpkg's own list of what was ever installed has no entry either.
    let traces = || {
        let found = machine.container.run(&["sh", "-c", traces]);
        String::from_utf8(found.stdout).unwrap()
    };
    assert_eq!(traces(), "");

    let said = dpkg(&["-i", "/opt/old.deb"]);
    assert!(said.contains("systemctl enable --now"), "{said}");
    assert_eq!(say(&["stat", "-c", "%U %a", "/var/lib/synthesis/frontd"]), "synthesis 700");
    let sockets = ["synthesis-spawnd.socket", "synthesis-frontd.socket"];
    machine.systemctl(&["enable", "--quiet", "--now", sockets[0], sockets[1]]);
    machine.systemctl(&["start", SPAWND]);
    let pid = machine.shows(SPAWND, "MainPID");
    let inode = ["stat", "-c", "%i", "/run/synthesis/http.sock"];
    let socket = say(&inode);
    say(&["sh", "-c", "echo '# mine' >>/etc/synthesis/spawnd.toml"]);

    let said = dpkg(&["-i", "/opt/new.deb"]);
    assert!(!said.contains("systemctl enable"), "{said}");
    assert!(dpkg(&["-s", "synthesis"]).contains("Version: 0.2.0-1"));
    assert_ne!(machine.shows(SPAWND, "MainPID"), pid, "the new one runs");
    assert_eq!(machine.shows(SPAWND, "ActiveState"), "active");
    // systemd kept the sockets, and dpkg what the administrator wrote.
    assert_eq!(say(&inode), socket);
    assert_eq!(say(&["tail", "-1", "/etc/synthesis/spawnd.toml"]), "# mine");

    say(&[
        "sh",
        "-c",
        "mkdir -p /var/lib/synthesis/users/al/home && ln -s /etc /var/lib/synthesis/users/al/home/link",
    ]);
    dpkg(&["-r", "synthesis"]);
    for unit in [SPAWND, sockets[0], sockets[1]] {
        assert_eq!(machine.shows(unit, "ActiveState"), "inactive", "{unit}");
    }
    assert_eq!(say(&["tail", "-1", "/etc/synthesis/spawnd.toml"]), "# mine");
    assert_eq!(say(&["ls", "/var/lib/synthesis/users"]), "al");
    dpkg(&["-P", "synthesis"]);
    assert_eq!(traces(), "");
    assert!(machine.container.path("/etc/passwd").exists());
}
