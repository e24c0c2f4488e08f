//! A hostile claude and whoever starts things for others: systemd, its user instances, logind,
//! the system bus, a container daemon. And that systemd holds the session as policy says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tests::harness::binary;
use tests::harness::spawnd::{listener, until};
use tests::hostile_claude::{ATTACKS, Attempt, DONE, Line, Outcome, REPORT};

use tests::harness::machine::{Machine, UID, USER, put};

/// The container's policy with the whole sandbox, and the hostile claude for a claude.
fn hostile(stage: &Path) {
    let path = stage.join("etc/synthesis/spawnd.toml");
    let toml = fs::read_to_string(&path).unwrap();
    let toml = toml.replace("sandbox = \"best-effort\"", "sandbox = \"required\"");
    let toml = toml.replace("/usr/bin/true", "/usr/libexec/synthesis/channel");
    fs::write(&path, toml + "cpu_weight = 33\nip_deny = [\"link-local\", \"10.0.0.0/8\"]\n")
        .unwrap();
    put(stage, &binary("hostile-claude"), "usr/lib/synthesis/claude", 0o755);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/spawnd.toml");
    put(stage, Path::new(shipped), "etc/synthesis/shipped.toml", 0o644);
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// What ways there are from a user's process to something that starts processes elsewhere.
const SOCKETS: [&str; 12] = [
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/systemd/private",
    "/run/systemd/notify",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/journal/dev-log",
    "/run/user/4242/bus",
    "/run/user/4242/systemd/private",
    "/run/user/4242/systemd/notify",
    "/run/synthesis/spawnd.sock",
    "/run/synthesis/http.sock",
];

const COMMANDS: [&str; 10] = [
    "systemd-run --user --wait /bin/true",
    "systemd-run --user --scope /bin/true",
    "systemd-run --wait /bin/true",
    "systemctl --user list-units",
    "systemctl list-units",
    "loginctl enable-linger",
    "loginctl list-sessions",
    "busctl --system list",
    "busctl --user list",
    "busctl --address=unix:path=/run/dbus/system_bus_socket list",
];

/// Every manager there is, running, with one of its user's own, and a decoy of docker's.
fn open_all(machine: &Machine) -> std::os::unix::net::UnixListener {
    machine.systemctl(&["start", "dbus.socket", "dbus.service"]);
    machine.systemctl(&["start", &format!("user@{UID}.service")]);
    let docker = listener(&machine.container.path("/run/docker.sock"));
    // As if an administrator had been careless.
    for own in ["spawnd.sock", "http.sock"] {
        let own = machine.container.path(&format!("/run/synthesis/{own}"));
        fs::set_permissions(own, fs::Permissions::from_mode(0o666)).unwrap();
    }
    docker
}

#[test]
fn nothing_that_starts_processes_elsewhere_is_within_reach() {
    let Some(machine) = Machine::boot_with(hostile) else { return };
    let mut client = machine.client();
    let _docker = open_all(&machine);
    for socket in SOCKETS {
        let there = fs::symlink_metadata(machine.container.path(socket));
        assert!(there.is_ok(), "{socket} is not there to be attacked");
    }
    // Outside a session the same user gets through, by the same ways.
    let run_time = format!("XDG_RUNTIME_DIR=/run/user/{UID}");
    for command in ["busctl --system list", COMMANDS[0], COMMANDS[3]] {
        let environment = ["env", &run_time];
        let command: Vec<&str> = environment.into_iter().chain(command.split(' ')).collect();
        let output = machine.run_as(UID, &command);
        assert!(output.status.success(), "{command:?}: {output:?}");
    }

    let mut attempts: Vec<Attempt> =
        SOCKETS.iter().map(|path| Attempt::Connect(path.into())).collect();
    for command in COMMANDS {
        attempts.push(Attempt::Run(words(&format!("env {run_time} {command}"))));
    }
    for path in ["/run/systemd/system/own.service", "/var/lib/systemd/linger/synthesis-claude"] {
        attempts.push(Attempt::Write(path.into()));
    }
    attempts.push(Attempt::List("/run/user".into()));
    attempts.push(Attempt::List("/run/systemd".into()));
    let text = serde_json::to_string(&attempts).unwrap();
    let session = client.spawn(&machine.request_of(USER, UID, &[(ATTACKS, &text)]));
    let session = session.unwrap_or_else(|r| panic!("{r:?}\n{}", machine.log())).session;
    let folder = machine.container.path(&format!("/srv/work/{session}"));
    until("the attacker's report", || folder.join(DONE).exists().then_some(()));
    let report = fs::read_to_string(folder.join(REPORT)).unwrap();
    let report: Vec<Line> =
        report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(report.len(), attempts.len());
    let open: Vec<&Line> = report.iter().filter(|l| l.outcome != Outcome::Denied).collect();
    assert!(open.is_empty(), "not denied: {open:#?}");
    // A command that is not there would be denied as well.
    let missing: Vec<&Line> = report.iter().filter(|l| l.detail == json!("ENOEXEC")).collect();
    assert!(missing.is_empty(), "could not run: {missing:#?}");
    assert!(!machine.container.path("/var/lib/systemd/linger/synthesis-claude").exists());
}

#[test]
fn the_scope_of_a_session_has_the_limits_of_its_policy() {
    let Some(machine) = Machine::boot_with(hostile) else { return };
    let mut client = machine.client();
    let request = machine.request_of(USER, UID, &[(ATTACKS, "[]")]);
    let session = client.spawn(&request).unwrap().session;
    let scope = format!("synthesis-{session}.scope");
    let shown = machine.systemctl(&["show", &scope]);
    for property in [
        "Slice=synthesis-sessions.slice",
        "MemoryMax=268435456",
        "TasksMax=64",
        "CPUWeight=33",
        "SendSIGHUP=yes",
        "TimeoutStopUSec=3s",
        "Description=synthesis session",
    ] {
        assert!(shown.lines().any(|line| line == property), "{property} is not in {shown}");
    }
    let denied = shown.lines().find(|line| line.starts_with("IPAddressDeny=")).unwrap();
    for net in ["169.254.0.0/16", "fe80::/64", "10.0.0.0/8"] {
        assert!(denied.contains(net), "{denied}");
    }
    // The secret that came with the request is in no unit's property.
    assert!(!shown.contains(request.secret.expose()));
    assert!(!shown.contains(request.workspace.as_str()), "{shown}");
}

#[test]
fn a_credential_of_the_unit_is_disclosed_to_the_user_whom_policy_names() {
    const DROP_IN: &str = "etc/systemd/system/synthesis-spawnd.service.d/credential.conf";
    let machine = Machine::boot_with(|stage| {
        hostile(stage);
        let path = stage.join("etc/synthesis/spawnd.toml");
        let toml = fs::read_to_string(&path).unwrap();
        fs::write(&path, toml + "credentials = { ANTHROPIC_API_KEY = \"al\" }\n").unwrap();
        let drop_in = stage.join(DROP_IN);
        fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
        fs::write(drop_in, "[Service]\nSetCredential=al:in-confidence\n").unwrap();
    });
    let Some(machine) = machine else { return };
    let mut client = machine.client();
    let request = machine.request_of(USER, UID, &[(ATTACKS, "[]")]);
    let claude = client.spawn(&request).unwrap().pid;
    let environment = fs::read(machine.container.path(&format!("/proc/{claude}/environ"))).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    assert!(environment.split('\0').any(|v| v == "ANTHROPIC_API_KEY=in-confidence"));
    // spawnd has it in memory alone.
    let spawnd = machine.container.path(&format!("/proc/{}/environ", machine.main_pid()));
    assert!(!String::from_utf8(fs::read(spawnd).unwrap()).unwrap().contains("in-confidence"));
}

#[test]
fn the_shipped_policy_is_valid_where_it_is_installed() {
    let Some(machine) = Machine::boot_with(hostile) else { return };
    let spawnd = "/usr/libexec/synthesis/spawnd";
    let check = |file| machine.container.run(&[spawnd, "--check-config", file]);
    let said = check("/etc/synthesis/shipped.toml");
    assert!(said.status.success(), "{said:?}");
    // Where the accounts are that it names it starts, too.
    let shipped = "cp /etc/synthesis/shipped.toml /etc/synthesis/spawnd.toml";
    machine.container.say(&["sh", "-c", shipped]);
    drop(machine.client());
    let wrong = machine.container.path("/etc/synthesis/shipped.toml");
    let text = fs::read_to_string(&wrong).unwrap();
    let key = "#audit = \"required\"";
    let line = text.lines().position(|line| line == key).unwrap() + 1;
    fs::write(&wrong, text.replace(key, "audit = \"sometimes\"")).unwrap();
    let said = check("/etc/synthesis/shipped.toml");
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stdout).unwrap();
    let place = format!("/etc/synthesis/shipped.toml:{line}: audit");
    assert!(said.starts_with(&place), "{said}");
}
