//! A hostile claude in a session of the installed units: what it may not do there either.

use std::path::Path;

use tests::harness::container::Groups;
use tests::harness::installed::{ALICE, BOB, Installed, put_claude};
use tests::harness::spawnd::until;
use tests::hostile_claude::{ATTACKS, Attempt, DONE, Line, Outcome, REPORT};

const WORKSPACE: &str = "/var/lib/synthesis/users/alice/workspace";

/// Has alice's claude try these, and reads what came of each.
fn tried(machine: &Installed, attempts: &[Attempt]) -> Vec<Line> {
    machine.container.say(&["spawnd", "home", ALICE]);
    let text = serde_json::to_string(attempts).unwrap();
    let write = format!("cat > {WORKSPACE}/{ATTACKS} <<< \"$0\"");
    assert!(machine.container.run_as(ALICE, &["bash", "-c", &write, &text]).status.success());
    // It never answers, for it is none.
    let mut asking = machine.chatting(ALICE, "attack", "hello");
    let folder = machine.container.path(WORKSPACE);
    until("the attacker's report", || folder.join(DONE).exists().then_some(()));
    let report = std::fs::read_to_string(folder.join(REPORT)).unwrap();
    let _ = asking.kill();
    let _ = asking.wait();
    report.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_hostile_claude_of_the_installed_units_gets_out_nowhere() {
    let machine = Installed::boot_with(Groups::Usual, |stage: &Path| {
        put_claude(stage, "hostile-claude");
    });
    let Some(machine) = machine else { return };
    // Somebody else's things, and the daemons' own, are there to be attacked.
    machine.container.say(&["spawnd", "home", BOB]);
    machine.container.say(&["spawnd", "token", "add", "--user", BOB]);
    assert_eq!(machine.curl(BOB, "/v1/models", &[]).status, 200, "{}", machine.log());
    let read = [
        "/etc/shadow",
        "/var/lib/synthesis/tokens",
        "/var/lib/synthesis/frontd/synthesis.db",
        "/run/synthesis/grants.key",
        "/proc/1/environ",
    ];
    let connect = [
        "/run/synthesis/spawnd.sock",
        "/run/synthesis/http.sock",
        "/run/systemd/private",
        "/run/systemd/journal/socket",
        "/run/systemd/notify",
    ];
    for path in read.iter().chain(&connect) {
        let there = std::fs::symlink_metadata(machine.container.path(path));
        assert!(there.is_ok(), "{path} is not there to be attacked");
    }
    let mut attempts: Vec<Attempt> = read.map(|path| Attempt::Read(path.into())).into();
    attempts.extend(connect.map(|path| Attempt::Connect(path.into())));
    for path in [
        "/etc/synthesis/spawnd.toml",
        "/usr/libexec/synthesis/planted",
        "/var/lib/synthesis/users/bob/workspace/planted",
        "/var/lib/synthesis/users/alice/planted",
        "/run/planted",
        "/sys/fs/cgroup/planted",
        "/dev/planted",
    ] {
        attempts.push(Attempt::Write(path.into()));
    }
    attempts.push(Attempt::List("/var/lib/synthesis/users/bob/home".into()));
    attempts.push(Attempt::List("/home/alice".into()));
    attempts.extend([Attempt::RegainRoot, Attempt::Int80, Attempt::Calls]);
    for request in [0x5412, 0x5412 | 1 << 32] {
        attempts.push(Attempt::Ioctl(request));
    }
    let report = tried(&machine, &attempts);
    assert!(report.len() > attempts.len() + 50, "every call of the table was tried");
    // Where the kernel knows no such call its filter is not asked.
    let open: Vec<&Line> = report.iter().filter(|line| line.outcome != Outcome::Denied).collect();
    assert!(open.is_empty(), "not denied: {open:#?}");
}

#[test]
fn what_every_program_needs_works_under_the_installed_units() {
    let machine = Installed::boot_with(Groups::Usual, |stage: &Path| {
        put_claude(stage, "hostile-claude");
    });
    let Some(machine) = machine else { return };
    let home = "/var/lib/synthesis/users/alice";
    let attempts = [
        Attempt::UsualCalls,
        Attempt::Write(format!("{WORKSPACE}/kept").into()),
        Attempt::Write(format!("{home}/home/kept").into()),
        Attempt::Write(format!("{home}/claude/kept").into()),
        Attempt::Write("/tmp/kept".into()),
        Attempt::OwnFiles,
    ];
    let report = tried(&machine, &attempts);
    let failed: Vec<&Line> =
        report.iter().filter(|line| line.outcome != Outcome::Succeeded).collect();
    assert!(report.len() >= attempts.len() && failed.is_empty(), "{failed:#?}");
}
