//! A hostile frontd and others who would be somebody else: tokens and their table, clients' sockets,
//! grants that are forged, foreign, too old or of a token that was revoked.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hmac_sha256::HMAC;
use proto::ids::{Grant, TokenText};
use proto::spawn::{Answer, Call, Credential, FromFrontd, Proof, RefusalCode, Scope, Who, encode};
use tests::harness::have_root;
use tests::harness::seqpacket::Incoming;
use tests::harness::spawnd::{
    Daemon, NOBODY, OTHER, PATIENCE, Place, Settings, User, file, install, listener, until,
};

use super::stage::Stage;

/// A spawnd whose users need a proof of this kind.
fn stage(proof: &str) -> Option<Stage> {
    have_root().then(|| {
        let demand = format!("proof = \"{proof}\"");
        let users = vec![User::nobody().with(&demand), User::other().with(&demand)];
        Stage::new(Settings { users, ..Settings::default() })
    })
}

/// `spawnd token` for the state folder of this place, as this uid.
fn token_as(uid: u32, place: &Place, arguments: &[&str]) -> Output {
    let config = place.path.join("tokens.toml");
    let program = place.path.join("bin/spawnd");
    if !program.exists() {
        install("spawnd", &program);
    }
    let text = format!(
        "frontd = 0\nstate = {:?}\n[claude]\npath = \"/bin/sh\"\n[[users.allow]]\nname = \"nobody\"\n",
        place.state()
    );
    file(&config, &text, 0, 0o644);
    let mut command = Command::new(program);
    command.arg("token").args(arguments).arg("--config").arg(config).uid(uid).gid(uid);
    command.stdin(Stdio::null()).output().unwrap()
}

fn token(place: &Place, arguments: &[&str]) -> Output {
    token_as(0, place, arguments)
}

/// A new token of this user: its id and its text.
fn add(place: &Place, user: &str, more: &[&str]) -> (String, TokenText) {
    let output = token(place, &[&["add", "--user", user], more].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let text = shown.strip_suffix('\n').unwrap();
    let id = said.lines().last().unwrap().split(' ').next().unwrap().to_owned();
    (id, TokenText::new(text.to_owned()).unwrap())
}

fn revoke(place: &Place, id: &str) {
    assert!(token(place, &["revoke", id]).status.success());
}

fn verify(stage: &mut Stage, token: &TokenText) -> Answer {
    let credential = Credential::Token { token: token.clone() };
    stage.client.call(Call::Verify { credential }).0
}

fn granted(answer: Answer) -> (Who, Grant) {
    let Answer::Verified { who, grant } = answer else { panic!("{answer:?}") };
    (who, grant)
}

#[track_caller]
fn assert_unproved(answer: &Answer, word: &str) {
    let Answer::Refused { code: RefusalCode::NotProved, message } = answer else {
        panic!("{answer:?}")
    };
    assert!(message.contains(word), "{message:?} has no {word:?}");
}

/// What becomes of a spawn of this user with this grant.
fn spawn(stage: &mut Stage, user: &str, grant: &Grant) -> Result<(), (RefusalCode, String)> {
    let user = stage.daemon.user(user).clone();
    let (_, mut request) = stage.prepare(&user, &[]);
    request.proof = Proof::Grant { grant: grant.clone() };
    stage.client.spawn(&request).map(drop)
}

#[track_caller]
fn assert_no_spawn(stage: &mut Stage, user: &str, grant: &Grant, word: &str) {
    let (code, message) = spawn(stage, user, grant).unwrap_err();
    assert_eq!(code, RefusalCode::NotProved, "{message}");
    assert!(message.contains(word), "{message:?} has no {word:?}");
}

/// Asks with a peer's credential and these descriptors; `None` when the daemon hangs up.
fn verify_peer(stage: &mut Stage, fds: &[i32]) -> Option<Answer> {
    let packet = encode(&FromFrontd::Request {
        id: 77,
        call: Call::Verify { credential: Credential::Peer {} },
    });
    stage.client.try_send_with(&packet, fds).unwrap();
    match stage.client.wait(PATIENCE) {
        Incoming::Packet(proto::spawn::FromSpawnd::Answer { id: 77, answer }, _) => Some(answer),
        Incoming::End => None,
        other @ (Incoming::Packet(..) | Incoming::Silence) => panic!("{other:?}"),
    }
}

/// A listener where an installed server's is.
fn door(stage: &Stage) -> (UnixListener, PathBuf) {
    let path = stage.daemon.place.run.join("http.sock");
    let _ = fs::remove_file(&path);
    (listener(&path), path)
}

/// A client of frontd's that is this process: what was accepted, and its own end.
fn own_peer(stage: &Stage) -> (UnixStream, UnixStream) {
    let (listener, path) = door(stage);
    let client = UnixStream::connect(path).unwrap();
    (listener.accept().unwrap().0, client)
}

/// A client of frontd's, with the uid that the kernel will tell.
fn peer_of(uid: u32, stage: &Stage) -> (UnixStream, std::process::Child) {
    let (listener, path) = door(stage);
    let program = stage.daemon.place.path.join(format!("bin/peer-{uid}"));
    install("hostile-claude", &program);
    let mut command = Command::new(program);
    command.arg("--attend").arg(&path).uid(uid).gid(uid);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    (listener.accept().unwrap().0, child)
}

#[test]
fn a_token_is_shown_once_and_opens_its_own_user_alone() {
    let Some(mut stage) = stage("token-or-peer") else { return };
    let (id, text) = add(&stage.daemon.place, "nobody", &["--scope", "chat,metrics"]);
    assert!(text.expose().starts_with("syn-") && text.expose().len() == 36);
    let (who, grant) = granted(verify(&mut stage, &text));
    let Who::Token { id: found, principal, user, scopes } = who else { panic!("{who:?}") };
    assert_eq!((found.as_str(), principal.as_str(), user.as_str()), (&*id, "nobody", "nobody"));
    assert_eq!(scopes, [Scope::Chat, Scope::Metrics]);
    assert_eq!(spawn(&mut stage, "nobody", &grant), Ok(()));
    assert_no_spawn(&mut stage, "other", &grant, "another user's");
    let listed = token(&stage.daemon.place, &["list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&id) && listed.contains("never") && !listed.contains(text.expose()));
    let table = fs::read_to_string(stage.daemon.place.state().join("tokens")).unwrap();
    assert!(!table.contains(text.expose()) && !table.contains("syn-"));
    // Neither of the right one nor of a wrong one.
    let wrong = TokenText::new(text.expose().replace("syn-", "syn.")).unwrap();
    assert_unproved(&verify(&mut stage, &wrong), "unknown token");
    let log = stage.daemon.place.log();
    assert!(!log.contains(text.expose()) && !log.contains(wrong.expose()), "{log}");
    assert!(!log.contains(grant.expose()), "{log}");
    let entry = |word: &str| log.lines().find(|line| line.contains(word)).unwrap().to_owned();
    let refused = entry("unknown token");
    for field in [r#""SYNTHESIS_PROOF":"token""#, r#""SYNTHESIS_KIND":"denied""#] {
        assert!(refused.contains(field), "{refused}");
    }
    let allowed = entry(r#""SYNTHESIS_KIND":"spawn""#);
    for field in [
        r#""SYNTHESIS_PROOF":"token""#,
        r#""SYNTHESIS_PRINCIPAL":"nobody""#,
        r#""SYNTHESIS_WITNESS":"spawnd""#,
        &format!(r#""SYNTHESIS_TOKEN":"{id}""#),
    ] {
        assert!(allowed.contains(field), "{allowed}");
    }
    assert!(entry(r#""SYNTHESIS_KIND":"started""#).contains(r#""SYNTHESIS_WITNESS":"kernel""#));
}

#[test]
fn what_a_token_lacks_no_grant_has() {
    let Some(mut stage) = stage("token") else { return };
    let (_, metrics) = add(&stage.daemon.place, "nobody", &["--scope", "metrics,admin"]);
    let (_, grant) = granted(verify(&mut stage, &metrics));
    assert_no_spawn(&mut stage, "nobody", &grant, "does not open chat");
    let (_, team) = add(&stage.daemon.place, "nobody", &["--principal", "team"]);
    assert_unproved(&verify(&mut stage, &team), "does not share");
    let (_, nobodys) = add(&stage.daemon.place, "stranger", &[]);
    assert_unproved(&verify(&mut stage, &nobodys), "does not name");
    // A peer is none where policy wants a token.
    let (own, _client) = own_peer(&stage);
    let (_, grant) = granted(verify_peer(&mut stage, &[own.as_raw_fd()]).unwrap());
    assert_no_spawn(&mut stage, "nobody", &grant, "another user");
    let (theirs, mut child) = peer_of(NOBODY, &stage);
    let (_, grant) = granted(verify_peer(&mut stage, &[theirs.as_raw_fd()]).unwrap());
    assert_no_spawn(&mut stage, "nobody", &grant, "wants a token");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_token_that_was_revoked_or_has_expired_takes_its_grants_with_it() {
    let Some(mut stage) = stage("token-or-peer") else { return };
    let (id, text) = add(&stage.daemon.place, "nobody", &[]);
    let (_, grant) = granted(verify(&mut stage, &text));
    let table = stage.daemon.place.state().join("tokens");
    let good = fs::read_to_string(&table).unwrap();
    fs::write(&table, good.replace("\"expires\":null", "\"expires\":1000")).unwrap();
    assert_unproved(&verify(&mut stage, &text), &format!("token {id} has expired"));
    assert_no_spawn(&mut stage, "nobody", &grant, "has expired");
    fs::write(&table, good).unwrap();
    granted(verify(&mut stage, &text));
    revoke(&stage.daemon.place, &id);
    assert_unproved(&verify(&mut stage, &text), "unknown token");
    assert_no_spawn(&mut stage, "nobody", &grant, "revoked");
    assert!(!token(&stage.daemon.place, &["revoke", &id]).status.success());
}

/// Seconds since the boot, as /proc/uptime has them.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

/// As one who has the key would make it.
fn forged(key: &str, boot: &str, said: &str) -> Grant {
    let seal = HMAC::mac(format!("synthesis grant 1\n{boot}\n{said}"), key);
    let seal: String = seal.iter().map(|byte| format!("{byte:02x}")).collect();
    Grant::new(format!("{said}.{seal}")).unwrap()
}

#[test]
fn a_grant_is_spawnds_own_of_this_boot_and_in_time_or_nothing() {
    let Some(mut stage) = stage("token-or-peer") else { return };
    let key = fs::read_to_string(stage.daemon.place.run.join("grants.key")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (boot, now) = (boot.trim(), uptime());
    let said = |until: u64| format!("peer.{NOBODY}.{until}");
    // The forger's hand is right: with the key it could.
    let good = forged(&key, boot, &said(now + 800));
    assert_eq!(spawn(&mut stage, "nobody", &good), Ok(()));
    assert_no_spawn(&mut stage, "other", &good, "another user");
    let none = "none of spawnd's";
    for (grant, word) in [
        (forged(&key, boot, &said(now - 1)), "has expired"),
        (forged(&"0".repeat(64), boot, &said(now + 800)), none),
        (forged("", boot, &said(now + 800)), none),
        (forged(&key, "another boot", &said(now + 800)), none),
        (forged(&key, boot, &format!("root.{NOBODY}.{}", now + 800)), none),
        (forged(&key, boot, "token.abcdefgh.99999999999"), "revoked"),
        (Grant::new(said(now + 800)).unwrap(), none),
        (Grant::new(good.expose().replace(&NOBODY.to_string(), &OTHER.to_string())).unwrap(), none),
        (Grant::new(good.expose().replace(&(now + 800).to_string(), "99999999999")).unwrap(), none),
        (Grant::new(good.expose().to_uppercase()).unwrap(), none),
        (Grant::new("x".repeat(512)).unwrap(), none),
        (Grant::new(".".repeat(512)).unwrap(), none),
    ] {
        for user in ["nobody", "other"] {
            assert_no_spawn(&mut stage, user, &grant, word);
        }
    }
    assert_eq!(stage.client.list().len(), 1);
}

#[test]
fn grants_outlive_a_restart_of_spawnd() {
    let Some(mut stage) = stage("token-or-peer") else { return };
    let (_, text) = add(&stage.daemon.place, "nobody", &[]);
    let (_, of_token) = granted(verify(&mut stage, &text));
    let (theirs, mut child) = peer_of(OTHER, &stage);
    let (who, of_peer) = granted(verify_peer(&mut stage, &[theirs.as_raw_fd()]).unwrap());
    assert_eq!(who, Who::Peer { uid: OTHER });
    drop((theirs, child.stdin.take()));
    child.wait().unwrap();
    stage.daemon.restart();
    stage.client = stage.daemon.client();
    assert_eq!(spawn(&mut stage, "nobody", &of_token), Ok(()));
    assert_eq!(spawn(&mut stage, "other", &of_peer), Ok(()));
}

#[test]
fn a_key_that_others_could_know_keeps_spawnd_from_starting() {
    if !have_root() {
        return;
    }
    let key = "ab".repeat(32);
    type Spoil = fn(&PathBuf);
    let spoils: [Spoil; 5] = [
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap(),
        |path| chown(path, Some(OTHER), None).unwrap(),
        |path| fs::write(path, "ab").unwrap(),
        |path| fs::write(path, "ab".repeat(33)).unwrap(),
        |path| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            symlink(path.with_extension("moved"), path).unwrap();
        },
    ];
    for spoil in spoils {
        let place = Place::new();
        let path = place.run.join("grants.key");
        file(&path, &key, 0, 0o600);
        spoil(&path);
        let mut daemon = Daemon::start_in(place, Settings::default());
        until("the daemon gives up", || daemon.has_ended().then_some(()));
        assert!(daemon.place.log().contains("grants.key"), "{}", daemon.place.log());
    }
}

#[test]
fn a_peer_is_whom_the_kernel_names_and_nobody_else() {
    let Some(mut stage) = stage("peer") else { return };
    let (theirs, mut child) = peer_of(OTHER, &stage);
    let (who, grant) = granted(verify_peer(&mut stage, &[theirs.as_raw_fd()]).unwrap());
    assert_eq!(who, Who::Peer { uid: OTHER });
    assert_no_spawn(&mut stage, "nobody", &grant, "another user");
    assert_eq!(spawn(&mut stage, "other", &grant), Ok(()));

    // Another's socket in place of the one that was shown before is that other's.
    let (roots, _end) = own_peer(&stage);
    let (who, _) = granted(verify_peer(&mut stage, &[roots.as_raw_fd()]).unwrap());
    assert_eq!(who, Who::Peer { uid: 0 });
    let nothing = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let path = stage.daemon.place.path.join("l");
    let agent = UnixListener::bind(&path).unwrap();
    let connected = UnixStream::connect(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let spawnds = stage.daemon.connect();
    // Clients that came to a listener of frontd's own: below its folder, and without a file.
    let to_agent = agent.accept().unwrap().0;
    let name = stage.daemon.place.run.join("http.sock");
    let name = SocketAddr::from_abstract_name(name.as_os_str().as_encoded_bytes()).unwrap();
    let abstract_listener = UnixListener::bind_addr(&name).unwrap();
    let _client = UnixStream::connect_addr(&name).unwrap();
    let to_name = abstract_listener.accept().unwrap().0;
    let (pair, _other) = UnixStream::pair().unwrap();
    for (fd, word) in [
        (nothing.as_raw_fd(), "not connected"),
        (agent.as_raw_fd(), "not connected"),
        (connected.as_raw_fd(), "no client"),
        (to_agent.as_raw_fd(), "the HTTP socket"),
        (to_name.as_raw_fd(), "the HTTP socket"),
        (pair.as_raw_fd(), "the HTTP socket"),
        (stream.as_raw_fd(), "not connected"),
        (spawnds.socket.as_raw_fd(), "no Unix stream"),
    ] {
        assert_unproved(&verify_peer(&mut stage, &[fd]).unwrap(), word);
    }
    // A socket that was kept after its client closed it.
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_unproved(&verify_peer(&mut stage, &[theirs.as_raw_fd()]).unwrap(), "has closed it");
}

#[test]
fn where_policy_wants_a_peer_no_token_counts() {
    let Some(mut stage) = stage("peer") else { return };
    let (_, text) = add(&stage.daemon.place, "nobody", &[]);
    assert_unproved(&verify(&mut stage, &text), "own client");
}

#[test]
fn descriptors_come_with_a_peer_and_then_exactly_one() {
    let Some(mut stage) = stage("peer") else { return };
    let nobody = stage.daemon.users[0].clone();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let (workspace, request) = stage.prepare(&nobody, &[]);
    let token = TokenText::new("syn-x".to_owned()).unwrap();
    // Whatever is made for the first connection that ends.
    stage.client.send(b"{");
    assert!(stage.client.ends());
    stage.client = stage.daemon.client();
    let before = stage.daemon.descriptors();
    for (call, count) in [
        (Call::Verify { credential: Credential::Peer {} }, 0),
        (Call::Verify { credential: Credential::Peer {} }, 2),
        (Call::Verify { credential: Credential::Peer {} }, 253),
        (Call::Verify { credential: Credential::Token { token } }, 1),
        (Call::Spawn(Box::new(request)), 1),
    ] {
        let packet = encode(&FromFrontd::Request { id: 1, call });
        stage.client.try_send_with(&packet, &vec![socket.as_raw_fd(); count]).unwrap();
        assert!(matches!(stage.client.wait(PATIENCE), Incoming::End));
        stage.client = stage.daemon.client();
    }
    assert!(!workspace.join("done").exists());
    until("no descriptor stays", || (stage.daemon.descriptors() <= before).then_some(()));
}

#[test]
fn a_table_that_is_unfit_or_broken_lets_no_token_in_and_every_peer() {
    let Some(mut stage) = stage("token-or-peer") else { return };
    let (_, text) = add(&stage.daemon.place, "nobody", &[]);
    let (_, grant) = granted(verify(&mut stage, &text));
    let table = stage.daemon.place.state().join("tokens");
    let good = fs::read_to_string(&table).unwrap();
    let mode = |mode| fs::set_permissions(&table, fs::Permissions::from_mode(mode)).unwrap();
    type Spoil<'a> = &'a dyn Fn();
    let spoils: [(&str, Spoil<'_>); 8] = [
        ("mode", &|| mode(0o644)),
        ("owner", &|| chown(&table, Some(OTHER), None).unwrap()),
        ("huge", &|| fs::write(&table, good.repeat(20_000)).unwrap()),
        ("a line", &|| fs::write(&table, format!("{good}\n{{")).unwrap()),
        ("no text", &|| fs::write(&table, b"\xff\xfe").unwrap()),
        ("a field", &|| fs::write(&table, good.replace('{', "{\"\\u001b[2J\":1,")).unwrap()),
        ("a link", &|| {
            fs::rename(&table, table.with_extension("moved")).unwrap();
            symlink(table.with_extension("moved"), &table).unwrap();
        }),
        ("a pipe", &|| {
            fs::remove_file(&table).unwrap();
            nix::unistd::mkfifo(&table, nix::sys::stat::Mode::S_IRUSR).unwrap();
        }),
    ];
    for (name, spoil) in spoils {
        spoil();
        let before = stage.daemon.place.log().len();
        for _ in 0..3 {
            assert_unproved(&verify(&mut stage, &text), "cannot be judged");
        }
        assert_no_spawn(&mut stage, "nobody", &grant, "cannot be judged");
        let (own, _client) = own_peer(&stage);
        granted(verify_peer(&mut stage, &[own.as_raw_fd()]).unwrap());
        let log = stage.daemon.place.log();
        let said = log.get(before..).unwrap();
        assert_eq!(said.matches("no token is let in").count(), 1, "{name}: {said}");
        assert!(!said.contains('\u{1b}'), "{said}");
        assert!(!token(&stage.daemon.place, &["list"]).status.success(), "{name}");
        assert!(!token(&stage.daemon.place, &["add", "--user", "nobody"]).status.success());
        let _ = fs::remove_file(&table);
        file(&table, &good, 0, 0o600);
        granted(verify(&mut stage, &text));
    }
}

#[test]
fn only_root_keeps_tokens_and_only_in_a_folder_of_roots() {
    let Some(stage) = stage("token") else { return };
    let place = &stage.daemon.place;
    let refused = |output: Output, word: &str| {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(word), "{said}");
        assert!(output.stdout.is_empty());
    };
    for arguments in [&["add", "--user", "nobody"][..], &["list"], &["revoke", "a"]] {
        refused(token_as(OTHER, place, arguments), "only root");
    }
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o777)).unwrap();
    refused(token(place, &["list"]), "state");
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&place.path, Some(OTHER), None).unwrap();
    refused(token(place, &["list"]), &place.path.display().to_string());
    chown(&place.path, Some(0), None).unwrap();
    refused(token(place, &["add", "--user", "nobody", "--expires", "2001-01-01"]), "future");
    assert!(token(place, &["list"]).status.success());
}

#[test]
fn a_flood_of_wrong_tokens_is_counted_and_keeps_nobody_out() {
    let Some(mut stage) = stage("token") else { return };
    let (_, right) = add(&stage.daemon.place, "nobody", &[]);
    let wrong = TokenText::new("syn-wrong".to_owned()).unwrap();
    let before = stage.daemon.resident();
    for _ in 0..3000 {
        assert_unproved(&verify(&mut stage, &wrong), "unknown token");
    }
    granted(verify(&mut stage, &right));
    assert!(stage.daemon.resident() < before + 4096);
    // A start that is refused now is on record all the same.
    let grant = Grant::new("none".to_owned()).unwrap();
    assert_no_spawn(&mut stage, "other", &grant, "none of spawnd's");
    let log = stage.daemon.place.log();
    let refused = log.lines().filter(|line| line.contains(r#""SYNTHESIS_KIND":"refused""#));
    assert_eq!(refused.filter(|line| line.contains(r#""SYNTHESIS_USER":"other""#)).count(), 1);
    let counted = until("they are counted", || {
        let log = stage.daemon.place.log();
        log.contains(r#""SYNTHESIS_KIND":"counted""#).then_some(log)
    });
    assert!(counted.matches("unknown token").count() < 400, "{}", counted.len());
}
