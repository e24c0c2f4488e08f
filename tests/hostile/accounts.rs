//! Whose session it may be: accounts of the machine as they are looked up, by name and by group.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::ids::SessionId;
use proto::spawn::{Call, RefusalCode, Signal, Spawn};
use tests::harness::seqpacket::Client;
use tests::harness::spawnd::{conversation, until};

use tests::harness::machine::{Machine, SERVICE};

const CONFIG: &str = "etc/synthesis/spawnd.toml";

/// Name, uid, gid, shell, the day of expiry.
type Account = (&'static str, u32, u32, &'static str, &'static str);

/// Accounts of a test machine.
const ACCOUNTS: [Account; 13] = [
    ("named", 4301, 4301, "/bin/sh", ""),
    ("primary", 4302, 4300, "/bin/sh", ""),
    ("member", 4303, 4303, "/bin/sh", ""),
    ("outsider", 4304, 4304, "/bin/sh", ""),
    ("expired", 4305, 4305, "/bin/sh", "1"),
    ("future", 4306, 4306, "/bin/sh", "99999"),
    ("shut", 4307, 4307, "/usr/sbin/nologin", ""),
    ("let-in", 4308, 4308, "/usr/sbin/nologin", ""),
    ("system", 999, 4309, "/bin/sh", ""),
    ("transient", 61_184, 4310, "/bin/sh", ""),
    ("transients", 65_519, 4311, "/bin/sh", ""),
    ("toor", 0, 4312, "/bin/sh", ""),
    ("rootish", 4313, 0, "/bin/sh", ""),
];

/// The machine's directories: `staff` has everybody in it but those who shall be outside.
fn directories(stage: &Path) {
    let append = |file: &str, lines: String| {
        let path = stage.join("etc").join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + &lines).unwrap();
    };
    let each = |line: &dyn Fn(&Account) -> String| ACCOUNTS.iter().map(line).collect::<String>();
    append(
        "passwd",
        each(&|(n, uid, gid, shell, _)| format!("{n}:x:{uid}:{gid}::/srv/work:{shell}\n")),
    );
    append("shadow", each(&|(n, _, _, _, day)| format!("{n}:*:19000:0:99999:7::{day}:\n")));
    let out = ["named", "primary", "outsider", "let-in"];
    let members: Vec<&str> =
        ACCOUNTS.iter().map(|account| account.0).filter(|name| !out.contains(name)).collect();
    let staff = format!("synthesis-staff:x:4300:{},root,nobody\n", members.join(","));
    append("group", staff + &each(&|(n, _, gid, _, _)| format!("g-{n}:x:{gid}:\n")));
    // Wide enough that systemd's own range is within: it is refused all the same.
    fs::write(stage.join("etc/login.defs"), "UID_MIN 1000\nUID_MAX 70000\n").unwrap();
}

fn configure(stage: &Path, users: &str) {
    let path = stage.join(CONFIG);
    let toml = fs::read_to_string(&path).unwrap();
    let (head, _) = toml.split_once("[[users.allow]]").unwrap();
    let head = head.split("[users.defaults]").next().unwrap();
    let defaults =
        "[users.defaults]\nproof = \"none\"\nroots = [\"/srv/work\"]\nmemory = \"256M\"\n";
    fs::write(path, format!("{head}{defaults}{users}")).unwrap();
}

/// A machine with these accounts, on which policy names these users.
fn boot(users: &str) -> Option<Machine> {
    let machine = Machine::boot_with(|stage| {
        directories(stage);
        configure(stage, users);
    })?;
    // Many users' workspaces lie in it.
    machine.container.say(&["chown", "root:root", "/srv/work"]);
    Some(machine)
}

fn start(
    machine: &Machine,
    client: &mut Client,
    user: &str,
) -> Result<SessionId, (RefusalCode, String)> {
    let uid = ACCOUNTS.iter().find(|account| account.0 == user).map_or(0, |account| account.1);
    let facts = "grep ^Groups: /proc/self/status > groups; exec cat";
    let request = machine.request_of(user, &uid.to_string(), &[("act.sh", facts)]);
    client.spawn(&request).map(|started| started.session)
}

#[test]
fn an_account_that_is_a_persons_and_open_starts_by_name_or_group() {
    let users = "[[users.allow]]\ngroup = \"synthesis-staff\"\n[[users.allow]]\nname = \"named\"\n\
        [[users.allow]]\nname = \"let-in\"\nallow_nologin = true\n";
    let Some(machine) = boot(users) else { return };
    let mut client = machine.client();
    for user in ["named", "primary", "member", "future", "let-in"] {
        let session = start(&machine, &mut client, user);
        let session = session.unwrap_or_else(|refusal| panic!("{user}: {refusal:?}"));
        // staff, of which it may be a member, is none of the session's.
        assert_eq!(machine.written(&session, "groups").trim_end(), "Groups:", "{user}");
    }
    for (user, why) in [
        ("outsider", "policy names no user"),
        ("expired", "it has expired"),
        ("shut", "its shell lets nobody in"),
        ("system", "its uid is no person's"),
        ("transient", "its uid is no person's"),
        ("transients", "its uid is no person's"),
        ("nobody", "its uid is no person's"),
        ("root", "it is root"),
        ("toor", "it is root"),
        ("rootish", "its group is dangerous"),
        ("unheard-of", "policy names no user"),
    ] {
        let (code, message) = start(&machine, &mut client, user).expect_err(user);
        assert_eq!(code, RefusalCode::UserNotAllowed, "{user}");
        assert!(message.contains(why), "{user}: {message}");
    }
    assert_eq!(client.list().len(), 5);
}

#[test]
fn a_bad_account_is_refused_by_its_own_name_too() {
    const BAD: [&str; 10] = [
        "expired",
        "shut",
        "system",
        "transient",
        "transients",
        "nobody",
        "root",
        "toor",
        "rootish",
        "unheard-of",
    ];
    let allow = |name: &&str| format!("[[users.allow]]\nname = \"{name}\"\n");
    let Some(machine) = boot(&BAD.iter().map(allow).collect::<String>()) else { return };
    let mut client = machine.client();
    for user in BAD {
        let code = start(&machine, &mut client, user).expect_err(user).0;
        assert_eq!(code, RefusalCode::UserNotAllowed, "{user}");
    }
    assert_eq!(client.list(), []);
}

#[test]
fn a_name_whose_uid_changed_gets_nothing_of_what_was_made_for_it() {
    let Some(machine) = boot("[[users.allow]]\nname = \"named\"\n") else { return };
    let mut client = machine.client();
    let session = start(&machine, &mut client, "named").unwrap();
    client.end(&session);
    let renumber = |uid| machine.container.say(&["usermod", "-u", uid, "named"]);
    renumber("4390");
    let (code, message) = start(&machine, &mut client, "named").unwrap_err();
    assert_eq!(code, RefusalCode::UserNotAllowed);
    assert!(message.contains("its uid is not the one"), "{message}");
    renumber("4301");
    start(&machine, &mut client, "named").unwrap();
}

#[test]
fn a_member_of_disk_has_no_disk() {
    /// How each device answers to reading and writing.
    const TRY: &str = "grep ^Groups: /proc/self/status > groups
        for device in /dev/synthesis-disk /srv/disk/node; do
            (: < $device) 2>&1 || true; (: >> $device) 2>&1 || true
        done > opened
        echo end >> opened
        exec cat";
    let allow = "[[users.allow]]\nname = \"member\"\ngroups = [\"disk\"]\n";
    let named = format!("{allow}dangerous_groups = [\"disk\"]\n");
    let Some(machine) = boot(&named) else { return };
    machine.container.say(&["usermod", "-aG", "disk", "member"]);
    // A small disk's worth: a RAM disk's or loop device's number, by whoever may make it.
    let root = machine.container.path("/");
    fs::create_dir(root.join("srv/disk")).unwrap();
    for device in ["dev/synthesis-disk", "srv/disk/node"] {
        let device = root.join(device);
        let mut mknod = std::process::Command::new("mknod");
        let made = mknod.arg("-m660").arg(&device).args(["b", "7", "0"]).status();
        if !made.unwrap().success() {
            return tests::harness::skip("needs mknod");
        }
        std::os::unix::fs::chown(&device, Some(0), Some(6)).unwrap();
    }
    let mut client = machine.client();
    let request = machine.request_of("member", "4303", &[("act.sh", TRY)]);
    let session = client.spawn(&request).unwrap().session;
    assert_eq!(machine.written(&session, "groups").trim_end(), "Groups:\t6");
    let opened = until("all was tried", || {
        let opened = machine.written(&session, "opened");
        opened.ends_with("end").then_some(opened)
    });
    // The mount says no, before any driver is asked.
    let answers: Vec<&str> = opened.lines().filter_map(|line| line.rsplit(": ").next()).collect();
    let denied = "Permission denied";
    let expected = ["No such file", "Read-only file system", denied, denied, "end"];
    let same = answers.iter().zip(expected).all(|(answer, start)| answer.starts_with(start));
    assert!(same && answers.len() == expected.len(), "{opened}");
    // It is no rule of this machine: outside a session the group would be let through to the driver.
    let open = ["setpriv", "--reuid=4303", "--regid=4303", "--groups=6", "--", "sh", "-c"];
    let outside = machine.container.run(&[&open[..], &[": < /srv/disk/node"]].concat());
    let said = String::from_utf8(outside.stderr).unwrap();
    assert!(!said.contains("Permission denied") && !said.contains("No such file"), "{said}");

    // Without the second word the file is refused, by either reader of it.
    configure(&machine.container.path("/"), allow);
    let file = "/etc/synthesis/spawnd.toml";
    let check = ["/usr/libexec/synthesis/spawnd", "--check-config", file];
    let check = machine.container.run(&check);
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("disk is dangerous and not in dangerous_groups"), "{said}");
    drop(client);
    machine.container.run(&["systemctl", "restart", SERVICE]);
    machine.waits_for_log("disk is dangerous and not in dangerous_groups");
    machine.systemctl(&["stop", SERVICE, "synthesis-spawnd.socket"]);
}

#[test]
fn a_look_up_that_hangs_keeps_no_list_waiting_and_is_given_up() {
    let Some(machine) = boot("[[users.allow]]\nname = \"named\"\n") else { return };
    let mut client = machine.client();
    // A name service that answers to nobody: its file is a pipe without a writer.
    let passwd = machine.container.path("/etc/passwd");
    let aside = machine.container.path("/etc/passwd.aside");
    let request = machine.request_of("named", "4301", &[("act.sh", "exec cat")]);
    fs::rename(&passwd, &aside).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let asked = client.ask(Call::Spawn(Box::new(request.clone())));
    let begin = Instant::now();
    for _ in 0..100 {
        client.list();
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // The session does not exist yet.
    let signal = Call::Signal { session: request.session.clone(), signal: Signal::Kill };
    assert_eq!(client.refusal(signal), RefusalCode::NoSession);
    let answer = client.answer_to(asked).0;
    let proto::spawn::Answer::Refused { code, message } = answer else { panic!("{answer:?}") };
    assert_eq!(code, RefusalCode::StartFailed);
    assert!(message.contains("takes too long"), "{message}");
    fs::rename(&aside, &passwd).unwrap();
    let again = Spawn { session: SessionId::random(), conversation: conversation(), ..request };
    client.spawn(&again).unwrap();
}

#[test]
fn a_users_folders_can_be_made_before_the_first_session_which_works_in_them() {
    let users = "[[users.allow]]\ngroup = \"synthesis-staff\"\nroots = [\"{workspace}\"]\n\
        [[users.allow]]\nname = \"named\"\nhome = \"real\"\n";
    let Some(machine) = boot(users) else { return };
    let home = |user: &str| machine.container.run(&["/usr/libexec/synthesis/spawnd", "home", user]);
    for (user, folders) in [("member", "workspace claude home"), ("named", "workspace")] {
        for _ in 0..2 {
            let output = home(user);
            let own = |name| format!("/var/lib/synthesis/users/{user}/{name}\n");
            let paths: String = folders.split(' ').map(own).collect();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), paths, "{:?}", output.stderr);
        }
    }
    for (user, why) in [
        ("outsider", "names no user"),
        ("expired", "has expired"),
        ("root", "it is root"),
        ("-x", "not a valid user name"),
    ] {
        let output = home(user);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{user}: {said}");
        assert!(!machine.container.path(&format!("/var/lib/synthesis/users/{user}")).exists());
    }

    let own = "/var/lib/synthesis/users/member/workspace";
    let found = machine.container.say(&["stat", "-c", "%u %g %a", own]);
    assert_eq!(found, "4303 4303 700");
    let workspace = machine.container.path(own);
    fs::write(workspace.join("act.sh"), "id -u > said; pwd >> said; exec cat\n").unwrap();
    let mut client = machine.client();
    let mut request = machine.request_of("member", "4303", &[]);
    let elsewhere = client.spawn(&request).unwrap_err();
    assert_eq!(elsewhere.0, RefusalCode::WorkspaceNotAllowed);
    assert!(elsewhere.1.contains("{workspace}"), "{}", elsewhere.1);
    request.session = SessionId::random();
    request.workspace = tests::harness::spawnd::absolute(Path::new(own));
    client.spawn(&request).unwrap();
    let said = until("what claude wrote", || {
        let said = fs::read_to_string(workspace.join("said")).ok()?;
        (said.lines().count() == 2).then_some(said)
    });
    assert_eq!(said, format!("4303\n{own}\n"));
}
