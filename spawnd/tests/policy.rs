//! What a request meets before a session of it begins: the file, the look-up, the proof.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::io::IoSlice;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Output};

use common::{Client, Daemon, Place, account, is_root, user};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use proto::ids::{TokenText, UnixUser};
use proto::spawn::{Answer, Call, Credential, FromFrontd, FromSpawnd, RefusalCode, Spawn, encode};

fn check(text: &str) -> Output {
    let place = Place::new();
    std::fs::write(place.config(), text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_spawnd"))
        .arg("--check-config")
        .arg("spawnd.toml")
        .current_dir(&place.path)
        .output()
        .unwrap()
}

fn shipped() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/spawnd.toml")).unwrap()
}

#[test]
fn check_config_names_line_and_key_of_the_first_fault() {
    let ok = check(&shipped());
    assert_eq!(String::from_utf8_lossy(&ok.stdout), "spawnd.toml: ok\n");
    assert_eq!(ok.status.code(), Some(0));
    for (fault, said) in [
        ("x = 1", "1: x: unknown field"),
        ("audit = \"never\"", "1: audit: "),
        ("bridge = \"/run/synthesis/b.sock\"", "1: bridge: needs a folder"),
        ("audit = \"required\"\nbridge = \"/run/synthesis/b.sock\"", "2: bridge: needs a folder"),
        (
            "scopes = true\nrun = \"/run/0123456789-0123456789-0123456789-0123456789-0123456789-01\"",
            "2: run: is longer than 61 bytes",
        ),
        ("frontd = \"x\"", ": duplicate key"),
        ("scopes = true\nstate = \"var\"", "2: state: "),
    ] {
        let output = check(&format!("{fault}\n{}", shipped()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(text.starts_with("spawnd.toml:") && text.contains(said), "{fault}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn entries_are_refused_at_their_own_line() {
    const HEAD: &str = "frontd = 1\n[claude]\npath = \"/c\"\n[[users.allow]]\n";
    for (entry, said) in [
        ("sessions = 1", "4: users.allow: needs exactly one"),
        ("name = \"a\"\ngroup = \"b\"", "4: users.allow: needs exactly one"),
        ("name = \"a\"\ngroups = [\"docker\"]", "6: users.allow.groups: docker is dangerous"),
        ("name = \"a\"\nroots = []", "users.allow.roots: must not be empty"),
        ("name = \"a\"\nroots = [\"x\"]", "6: users.allow.roots: must be an absolute path"),
        ("name = \"a\"\nmemory = \"1K\"", "6: users.allow.memory: must be"),
        ("name = \"a\"\ntasks = 1", "6: users.allow.tasks: must be 16 to"),
        ("name = \"a\"\nenvironment = { LD_X = \"\" }", "6: users.allow.environment: must be"),
        ("name = \"a\"\ncredentials = { X = \"../x\" }", "6: users.allow.credentials: must be"),
        ("name = \"a\"\nip_deny = [\"all\"]", "6: users.allow.ip_deny: must be"),
        ("name = \"a\"\nproof = \"tokens\"", "6: users.allow.proof: unknown variant"),
        (
            "name = \"a\"\naccount = { uid = 5, gid = 5, home = \"/h\", shell = \"/s\" }",
            "users.allow.account: is taken only by --config-fd",
        ),
        ("name = \"a\"\n[[users.allow]]\nname = \"a\"", "6: users.allow.name: has an entry above"),
        ("group = \"a\"\n[[users.allow]]\ngroup = \"a\"", "6: users.allow.group: has an entry"),
        ("name = \"a\"\n[users.defaults]\nname = \"b\"", "name: belongs into users.allow"),
        ("name = \"a\"\n[limits]\nsessions = 0", "7: limits.sessions: must be 1 to"),
        ("name = \"a\"\n[programs]\nlaunch = \"/l\"", "7: programs.launch: unknown field"),
    ] {
        let output = check(&format!("{HEAD}{entry}\n"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(said), "{entry}: {text}");
    }
    let roots_account =
        "name = \"a\"\naccount = { uid = 0, gid = 5, home = \"/h\", shell = \"/s\" }";
    let text = check(&format!("{HEAD}{roots_account}\n")).stdout;
    assert!(String::from_utf8_lossy(&text).contains("nonzero"));
    for argument in ["--resume", "--model=x", "-r", "--settings=/x", "--mcp-config"] {
        let head = HEAD.replace("\"/c\"\n", &format!("\"/c\"\narguments = [\"{argument}\"]\n"));
        let text = check(&format!("{head}name = \"a\"\n")).stdout;
        assert!(String::from_utf8_lossy(&text).contains("4: claude.arguments"), "{argument}");
    }
}

#[test]
fn a_file_that_others_can_change_starts_nothing() {
    let place = Place::new();
    for mode in [0o602, 0o666] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.config(), mode).unwrap();
        let output = place.spawnd(&["--socket", "/nowhere/socket"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("can be changed by others"), "{said}");
    }
}

#[test]
fn what_root_reads_by_path_must_be_roots_all_the_way() {
    if !is_root("what_root_reads_by_path_must_be_roots_all_the_way") {
        return;
    }
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_spawnd"))
        .args(["--config", place.config().to_str().unwrap(), "--socket", "/nowhere/socket"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("spawnd.toml: not to be trusted: /tmp can be changed by others"),
        "{said}"
    );
}

/// A daemon with one entry of the machine's own accounts, by look-up.
fn looked_up(entry: &str) -> (Daemon, Client) {
    let place = Place::new();
    let workspace = place.workspace();
    place.configure(&format!("{entry}\nproof = \"none\"\nroots = [{workspace:?}]\n"), "");
    let (daemon, client) = Daemon::paired(place);
    daemon.act("echo up; exec cat");
    (daemon, client)
}

fn request_of(daemon: &Daemon, name: &str) -> Spawn {
    Spawn { user: UnixUser::new(name).unwrap(), ..daemon.request() }
}

#[test]
fn accounts_of_the_machine_that_are_no_persons_are_refused() {
    for (name, why) in [
        ("root", "it is root"),
        ("daemon", "its uid is no person's"),
        ("nobody", "its uid is no person's"),
        ("no-such-user", "there is none of this name"),
    ] {
        let (daemon, mut client) = looked_up(&format!("name = \"{name}\""));
        let (code, message) = client.spawn_refused(&request_of(&daemon, name));
        assert_eq!(code, RefusalCode::UserNotAllowed);
        assert!(message.contains(why), "{message}");
        assert_eq!(client.list(), []);
    }
}

#[test]
fn a_group_names_its_members_and_nobody_else() {
    let (daemon, mut client) = looked_up("group = \"daemon\"");
    // A member by its primary group: judged, and no person.
    let (_, message) = client.spawn_refused(&request_of(&daemon, "daemon"));
    assert!(message.contains("no person's"), "{message}");
    let (code, message) = client.spawn_refused(&request_of(&daemon, "nobody"));
    assert_eq!(code, RefusalCode::UserNotAllowed);
    assert!(message.contains("policy names no user"), "{message}");
}

#[test]
fn a_conversation_whose_account_is_looked_up_is_taken() {
    let (daemon, mut client) = looked_up("group = \"daemon\"");
    let first = request_of(&daemon, "nobody");
    let mut second = request_of(&daemon, "nobody");
    second.conversation = first.conversation;
    let mut third = request_of(&daemon, "nobody");
    third.session = first.session.clone();
    // All three are read in one turn of the loop, before any look-up can have answered.
    let ask =
        |client: &mut Client, request: &Spawn| client.ask(Call::Spawn(Box::new(request.clone())));
    daemon.stop_and_go(|| {
        let ids = [&first, &second, &third].map(|request| ask(&mut client, request));
        ids.to_vec()
    });
    let mut codes: Vec<RefusalCode> = (1..=3)
        .map(|_| {
            let packet = client.receive().unwrap().0;
            let FromSpawnd::Answer { answer: Answer::Refused { code, .. }, .. } = packet else {
                panic!("{packet:?}")
            };
            code
        })
        .collect();
    codes.sort_by_key(|code| *code != RefusalCode::StillRunning);
    let taken = RefusalCode::StillRunning;
    assert_eq!(codes, [taken, taken, RefusalCode::UserNotAllowed]);
}

#[test]
fn spawns_that_come_too_fast_and_sessions_beyond_the_limit_are_busy() {
    let place = Place::new();
    let entry = place.entry().replace("sessions = 128", "sessions = 1");
    place.configure(&entry, "limits = { spawns_per_second = 1, spawn_burst = 3 }");
    let (daemon, mut client) = Daemon::paired(place);
    daemon.act("exec cat");
    client.spawn(&daemon.request());
    let (code, message) = client.spawn_refused(&daemon.request());
    assert_eq!(code, RefusalCode::Busy);
    assert!(message.contains("1 sessions of user"), "{message}");
    let fast = (0..8).map(|_| client.spawn_refused(&daemon.request()));
    assert!(fast.into_iter().any(|(_, message)| message.contains("too fast")));
}

#[test]
fn a_private_home_is_made_and_given_and_a_foreign_one_refused() {
    if !is_root("a_private_home_is_made_and_given_and_a_foreign_one_refused") {
        return;
    }
    let place = Place::new();
    place.configure(&place.entry().replace("\"real\"", "\"private\""), "");
    let (daemon, mut client) = Daemon::paired(place);
    daemon.act("echo \"home $HOME $CLAUDE_CONFIG_DIR\"; exec cat");
    let own = daemon.place.state().join("users").join(user().as_str());
    let said = client.spawn(&daemon.request()).terminal.line("home ");
    assert_eq!(said, format!("{0}/home {0}/claude", own.display()));
    for folder in ["home", "claude"] {
        let found = std::fs::metadata(own.join(folder)).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (account().0, 0o700));
    }
    let outer = std::fs::metadata(&own).unwrap();
    assert_eq!((outer.uid(), outer.mode() & 0o7777), (0, 0o755));
    // As if the name had been given to somebody else.
    std::fs::rename(own.join(format!("uid-{}", account().0)), own.join("uid-4242")).unwrap();
    let (code, message) = client.spawn_refused(&daemon.request());
    assert_eq!(code, RefusalCode::UserNotAllowed);
    assert!(message.contains("its uid is not the one"), "{message}");
}

#[test]
fn a_spawn_without_the_proof_that_policy_wants_is_refused() {
    let place = Place::new();
    place.configure(&place.entry().replace("\"none\"", "\"peer\""), "");
    let (daemon, mut client) = Daemon::paired(place);
    daemon.act("exec cat");
    let (code, _) = client.spawn_refused(&daemon.request());
    assert_eq!(code, RefusalCode::NotProved);
    assert_eq!(client.list(), []);
}

#[test]
fn a_packet_with_another_number_of_descriptors_than_belongs_to_it_ends_the_connection() {
    let token = || TokenText::new("syn-x".to_owned()).unwrap();
    let daemon = Daemon::listening(Place::new());
    for (call, count) in [
        (Call::Spawn(Box::new(daemon.request())), 1),
        (Call::Verify { credential: Credential::Token { token: token() } }, 1),
        (Call::Verify { credential: Credential::Peer {} }, 0),
        (Call::Verify { credential: Credential::Peer {} }, 2),
    ] {
        let mut client = daemon.client();
        let packet = encode(&FromFrontd::Request { id: 1, call });
        let raw = vec![client.socket.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights[..] };
        let (socket, flags) = (client.socket.as_raw_fd(), MsgFlags::empty());
        sendmsg::<UnixAddr>(socket, &[IoSlice::new(&packet)], rights, flags, None).unwrap();
        assert!(client.ends());
    }
}
