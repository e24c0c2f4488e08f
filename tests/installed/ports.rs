//! No local user can make a port or a socket of ours fall free.

use tests::harness::container::Groups;
use tests::harness::installed::{FRONTD, Installed, SPAWND, STRANGER};
use tests::harness::spawnd::until;

/// More than the limits that systemd has by default: 200 triggers in 2 s, 5 starts in 10 s.
const FLOOD: &str = r#"
use Socket;
for (1..300) {
    socket(my $s, PF_UNIX, SOCK_SEQPACKET, 0) or die;
    connect($s, sockaddr_un("/run/synthesis/spawnd.sock")) or die "connect: $!";
    select(undef, undef, undef, 0.01);
}
"#;

#[test]
fn a_flood_upon_a_spawnd_that_cannot_start_leaves_its_socket_held() {
    let broken = |stage: &std::path::Path| {
        let policy = stage.join("etc/synthesis/spawnd.toml");
        let text = std::fs::read_to_string(&policy).unwrap();
        std::fs::write(&policy, format!("nonsense = true\n{text}")).unwrap();
    };
    let Some(machine) = Installed::boot_with(Groups::Usual, broken) else { return };
    machine.container.say(&["perl", "-e", FLOOD]);
    until("a few starts", || {
        let starts: u32 = machine.shows(SPAWND, "NRestarts").parse().unwrap();
        (starts > 6).then_some(())
    });
    assert_eq!(machine.shows("synthesis-spawnd.socket", "Result"), "success");
    let state = machine.shows("synthesis-spawnd.socket", "ActiveState");
    assert_eq!(state, "active");
    fails_at_once(&machine, SPAWND, "synthesis-spawnd.socket", FLOOD);
    // Mended, it serves whoever waits, without a hand on it.
    machine.container.say(&["sed", "-i", "1d", "/etc/synthesis/spawnd.toml"]);
    until("a spawnd that runs", || {
        (machine.shows(SPAWND, "ActiveState") == "active").then_some(())
    });
}

/// Knocks at HTTP all the while and tries to take the port over.
const THIEF: &str = r#"
use Socket;
for (1..300) {
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
    connect($s, sockaddr_in(18900, inet_aton("127.0.0.1"))) or print "refused: $!\n";
    socket(my $own, PF_INET, SOCK_STREAM, 0) or die;
    setsockopt($own, SOL_SOCKET, SO_REUSEADDR, 1);
    setsockopt($own, SOL_SOCKET, SO_REUSEPORT, 1);
    bind($own, sockaddr_in(18900, inet_aton("127.0.0.1"))) and print "bound\n";
    select(undef, undef, undef, 0.01);
}
print "done\n";
"#;

#[test]
fn a_flood_upon_a_frontd_that_fails_again_and_again_leaves_its_port_held() {
    let broken = |stage: &std::path::Path| {
        let config = stage.join("etc/synthesis/frontd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("nonsense = true\n{text}")).unwrap();
    };
    let Some(machine) = Installed::boot_with(Groups::Usual, broken) else { return };
    let thief = machine.container.run_as(STRANGER, &["perl", "-e", THIEF]);
    assert_eq!(String::from_utf8_lossy(&thief.stdout), "done\n", "{thief:?}");
    until("a few starts", || {
        let starts: u32 = machine.shows(FRONTD, "NRestarts").parse().unwrap();
        (starts > 6).then_some(())
    });
    for unit in ["synthesis-frontd.socket", "synthesis-bridge.socket"] {
        assert_eq!(machine.shows(unit, "ActiveState"), "active");
    }
    fails_at_once(&machine, FRONTD, "synthesis-frontd.socket", THIEF);
    machine.container.say(&["sed", "-i", "1d", "/etc/synthesis/frontd.toml"]);
    let health = ["curl", "-sS", "-m", "30", "http://127.0.0.1:18900/health"];
    let said = machine.container.say(&health);
    assert!(!said.is_empty(), "{}", machine.log());
}

/// The socket by itself, before a service that fails at once and is started again as long as
/// somebody waits.
fn fails_at_once(machine: &Installed, service: &str, socket: &str, flood: &str) {
    let unit = machine.container.path(&format!("/run/systemd/system/{service}"));
    machine.systemctl(&["stop", service]);
    let fails = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\n";
    std::fs::write(&unit, fails).unwrap();
    machine.systemctl(&["daemon-reload"]);
    machine.container.say(&["perl", "-e", flood]);
    assert_eq!(machine.shows(socket, "ActiveState"), "active", "{}", machine.log());
    std::fs::remove_file(&unit).unwrap();
    machine.systemctl(&["daemon-reload"]);
}
