//! spawnd.toml, read again while sessions run: what counts from then on, what does not, and a file
//! that is bad, or that others could change.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use proto::spawn::{ExitCause, PermissionMode, RefusalCode, Signal};
use tests::harness::machine::{ECHO, Machine, SERVICE, adopt, talk};
use tests::harness::seqpacket::Client;

const FILE: &str = "/etc/synthesis/spawnd.toml";
const CLAUDE: &str = "/usr/lib/synthesis/claude";

fn file(machine: &Machine) -> PathBuf {
    machine.container.path(FILE)
}

/// Another file in its place, read again.
fn reload(machine: &Machine, text: &str, says: &str) {
    fs::write(file(machine), text).unwrap();
    hang_up(machine, says);
}

fn hang_up(machine: &Machine, says: &str) {
    let said = || machine.log().matches(says).count();
    let before = said();
    machine.systemctl(&["kill", "--kill-whom=main", "--signal=HUP", SERVICE]);
    tests::harness::spawnd::until(says, || (said() > before).then_some(()));
}

fn code(machine: &Machine, client: &mut Client, mode: PermissionMode) -> Option<RefusalCode> {
    let mut request = machine.request(ECHO);
    request.permission_mode = mode;
    client.spawn(&request).err().map(|(code, _)| code)
}

#[test]
fn a_file_that_is_read_again_counts_for_what_comes_and_sessions_stay() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let started = machine.spawn(&mut client, ECHO);
    let (before, pid) = (fs::read_to_string(file(&machine)).unwrap(), machine.main_pid());
    let plan = PermissionMode::Plan;
    assert_eq!(code(&machine, &mut client, plan), Some(RefusalCode::NotAllowed));

    let changed =
        before.replace("sessions = 1000", "sessions = 1000\npermission_modes = [\"plan\"]");
    reload(&machine, &changed, "reloaded");
    assert_eq!(code(&machine, &mut client, plan), None);
    let edits = PermissionMode::AcceptEdits;
    assert_eq!(code(&machine, &mut client, edits), Some(RefusalCode::NotAllowed));

    // What cannot change is named, and the rest counts.
    let moved = before
        .replace("run = \"/run/synthesis\"", "run = \"/run/elsewhere\"")
        .replace("channel = \"/usr/bin/true\"", "channel = \"/usr/bin/false\"");
    reload(&machine, &moved, "run, programs cannot change before a restart");
    assert_eq!(code(&machine, &mut client, edits), None);

    // Whoever is out of policy now keeps what runs, and starts nothing more.
    let nobody = before.replace("name = \"synthesis-claude\"", "name = \"daemon\"");
    reload(&machine, &nobody, "reloaded");
    assert_eq!(code(&machine, &mut client, edits), Some(RefusalCode::UserNotAllowed));
    talk(&started.leader, "still");
    talk(&adopt(&mut client, &started.session), "again");
    assert_eq!(machine.main_pid(), pid);
    client.signal(&started.session, Signal::Kill);
    assert_eq!(client.exit_of(&started.session), ExitCause::Signal { signal: 9 });
}

#[test]
fn a_bad_or_foreign_file_changes_nothing_and_says_where() {
    let Some(machine) = Machine::boot() else { return };
    let mut client = machine.client();
    let good = fs::read_to_string(file(&machine)).unwrap();
    let open = |machine: &Machine, mode| {
        fs::set_permissions(file(machine), fs::Permissions::from_mode(mode)).unwrap();
    };
    let plan = good.replace("tasks = 64", "tasks = 64\npermission_modes = [\"plan\"]");
    let line = good.lines().position(|line| line == "tasks = 64").unwrap() + 1;
    let zero = plan.replace("tasks = 64", "tasks = 0");
    reload(
        &machine,
        &zero,
        &format!("nothing has changed: {FILE}:{line}: users.allow.tasks: must"),
    );
    let twice = format!("{plan}\n[[users.allow]]\nname = \"synthesis-claude\"\n");
    reload(&machine, &twice, "users.allow.name: has an entry above");
    reload(&machine, "", "nothing has changed");
    let no_claude = plan.replace("path = \"/usr/lib", "path = \"/usr/bin/../lib");
    reload(&machine, &no_claude, "claude.path");
    fs::write(file(&machine), &plan).unwrap();
    open(&machine, 0o666);
    hang_up(&machine, "nothing has changed: spawnd.toml: not to be trusted");
    open(&machine, 0o644);
    chown(file(&machine), Some(4242), None).unwrap();
    hang_up(&machine, "nothing has changed: spawnd.toml: not to be trusted");
    chown(file(&machine), Some(0), None).unwrap();
    fs::set_permissions(machine.container.path(CLAUDE), fs::Permissions::from_mode(0o777)).unwrap();
    hang_up(&machine, "nothing has changed: claude.path: not to be trusted");
    let edits = PermissionMode::AcceptEdits;
    assert_eq!(code(&machine, &mut client, edits), None);
    fs::set_permissions(machine.container.path(CLAUDE), fs::Permissions::from_mode(0o755)).unwrap();
    hang_up(&machine, "reloaded");
    assert_eq!(code(&machine, &mut client, edits), Some(RefusalCode::NotAllowed));
}

#[test]
fn a_claude_that_is_installed_later_is_found_by_a_reload() {
    let away = |name: &str| format!("{name}.away");
    let machine = Machine::boot_with(|stage| {
        let claude = stage.join(CLAUDE.trim_start_matches('/'));
        fs::rename(&claude, away(claude.to_str().unwrap())).unwrap();
    });
    let Some(machine) = machine else { return };
    let mut client = machine.client();
    machine.waits_for_log("claude.path: there is no /usr/lib/synthesis/claude");
    let refused = client.spawn(&machine.request(ECHO)).unwrap_err();
    assert_eq!(refused.0, RefusalCode::ClaudeMissing);
    assert!(refused.1.contains("install it, then reload"), "{}", refused.1);
    machine.container.say(&["mv", &away(CLAUDE), CLAUDE]);
    // Not before somebody has looked whose it is.
    assert_eq!(client.spawn(&machine.request(ECHO)).unwrap_err().0, RefusalCode::ClaudeMissing);
    hang_up(&machine, "reloaded");
    let started = machine.spawn(&mut client, ECHO);
    talk(&started.leader, "here");
    // The same the other way round, while it runs.
    machine.container.say(&["mv", CLAUDE, &away(CLAUDE)]);
    hang_up(&machine, "reloaded");
    assert_eq!(client.spawn(&machine.request(ECHO)).unwrap_err().0, RefusalCode::ClaudeMissing);
    talk(&started.leader, "still");
}
