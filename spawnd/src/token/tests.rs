//! The table by itself, its file, and what root may say to it.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use proto::ids::AbsolutePath;

use super::command::{Command, parse};
use super::shelf::{Error, Shelf};
use super::*;

fn text(text: &str) -> TokenText {
    TokenText::new(text.to_owned()).unwrap()
}

fn token(id: &str) -> Token {
    let user = UnixUser::new("al").unwrap();
    Token {
        id: TokenId::new(id).unwrap(),
        principal: user.clone().into(),
        user,
        scopes: vec![Scope::Chat],
        sha256: Digest::of(&text(&format!("syn-{id}"))),
        created: 5,
        expires: None,
    }
}

fn table(ids: &[&str]) -> Table {
    let mut table = Table::default();
    ids.iter().for_each(|id| table.add(token(id)).unwrap());
    table
}

#[test]
fn a_token_is_known_by_all_of_its_text() {
    let table = table(&["a", "b", "c"]);
    assert_eq!(table.of_text(&text("syn-b")).unwrap().id.as_str(), "b");
    for other in ["syn-", "syn-bb", "syn-d", "b", "SYN-b"] {
        assert_eq!(table.of_text(&text(other)), None, "{other}");
    }
    let shown = serde_json::to_string(&token("b")).unwrap();
    assert!(!shown.contains("syn-"), "{shown}");
}

#[test]
fn the_hash_is_sha_256() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(String::from(Digest::of(&text("abc"))), abc);
    assert_eq!(Digest::try_from(abc.to_owned()), Ok(Digest::of(&text("abc"))));
    for bad in ["", &abc[1..], &format!("{abc}00"), &abc.to_uppercase(), &abc.replace('b', "g")] {
        assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn a_token_expires_at_its_time() {
    let token = Token { expires: Some(10), ..token("a") };
    assert!(!token.has_expired(9) && token.has_expired(10));
}

#[test]
fn what_is_written_is_read_and_nothing_else_is() {
    let written = table(&["a", "b"]).text();
    assert_eq!(Table::parse(&written), Ok(table(&["a", "b"])));
    let line = written.lines().next().unwrap().to_owned();
    let changed = |from: &str, to: &str| {
        assert!(line.contains(from), "{line}");
        line.replace(from, to)
    };
    for bad in [
        changed("{", "{\"more\":1,"),
        changed("\"id\":\"a\",", ""),
        changed("\"id\":\"a\"", "\"id\":\"A\""),
        changed("\"al\"", "\"-al\""),
        changed("[\"chat\"]", "[]"),
        changed("[\"chat\"]", "[\"chat\",\"chat\",\"chat\",\"chat\"]"),
        changed("[\"chat\"]", "[\"root\"]"),
        changed("\"created\":5", "\"created\":-5"),
        changed("null", "\"never\""),
        line.clone() + "x",
        String::new(),
        line.clone(),
        "[".repeat(100_000),
    ] {
        let fault = Table::parse(&format!("{written}{bad}\n")).unwrap_err();
        assert!(matches!(fault, Fault::Line { line: 3, .. }), "{fault}");
    }
    let escape = changed("{", "{\"\\u001b[2J\":1,");
    let fault = Table::parse(&escape).unwrap_err().to_string();
    assert!(!fault.contains('\u{1b}'), "{fault}");
}

#[test]
fn a_table_has_no_more_tokens_than_are_compared_in_time() {
    let mut table = Table::default();
    for number in 0..MOST {
        table.add(token(&number.to_string())).unwrap();
    }
    assert_eq!(table.add(token("x")), Err(Fault::TooMany));
    assert_eq!(Table::parse(&table.text()), Ok(table.clone()));
    assert!(table.text().len() as u64 <= FILE);
    let more = table.text() + &serde_json::to_string(&token("x")).unwrap();
    assert!(matches!(Table::parse(&more), Err(Fault::Line { .. })));
    assert!(table.remove(&token("7").id) && !table.remove(&token("7").id));
}

/// A state folder of the caller's own.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokens-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn shelf(&self) -> Shelf {
        Shelf::open(&AbsolutePath::new(self.0.to_str().unwrap()).unwrap()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join("tokens")
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(self.file(), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_daemon_sees_each_change_and_lets_nobody_in_by_a_file_that_is_unfit() {
    let state = State::new("shelf");
    let (mut daemon, root) = (state.shelf(), state.shelf());
    assert_eq!(daemon.table(), Some(&Table::default()));
    for id in ["a", "b"] {
        root.change(|table| table.add(token(id))).unwrap();
        assert!(daemon.table().unwrap().of_id(&token(id).id).is_some());
    }
    let found = std::fs::metadata(state.file()).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    state.mode(0o640);
    assert_eq!(daemon.table(), None);
    assert!(matches!(root.change(|_| Ok(())), Err(Error::Unfit { .. })));
    state.mode(0o600);
    assert!(daemon.table().is_some());
    let good = std::fs::read(state.file()).unwrap();
    for bad in [b"{}\n".to_vec(), b"\xff\n".to_vec(), good.repeat(2), vec![b'\n'; 3 << 20]] {
        std::fs::write(state.file(), &bad).unwrap();
        assert_eq!(daemon.table(), None);
        assert_eq!(daemon.table(), None);
        assert!(matches!(root.change(|_| Ok(())), Err(Error::Broken { .. })));
        assert_eq!(std::fs::read(state.file()).unwrap(), bad, "it is left as it is");
    }
    std::fs::remove_file(state.file()).unwrap();
    std::os::unix::fs::symlink("elsewhere", state.file()).unwrap();
    assert_eq!(daemon.table(), None);
    std::fs::remove_file(state.file()).unwrap();
    std::fs::write(state.file(), &good).unwrap();
    state.mode(0o600);
    root.change(|table| Ok(table.remove(&token("a").id))).unwrap();
    assert_eq!(daemon.table(), Some(&table(&["b"])));
}

#[test]
fn of_two_who_change_it_at_once_none_is_lost() {
    let state = State::new("race");
    std::thread::scope(|scope| {
        for first in ["a", "b", "c", "d"] {
            let shelf = state.shelf();
            scope.spawn(move || {
                for number in 0..25 {
                    shelf.change(|table| table.add(token(&format!("{first}{number}")))).unwrap();
                }
            });
        }
    });
    assert_eq!(state.shelf().look().unwrap().tokens().len(), 100);
}

fn said(arguments: &[&str]) -> Result<(Command, Option<PathBuf>), super::command::Error> {
    parse(arguments.iter().map(OsString::from))
}

#[test]
fn the_command_line_says_one_thing_and_says_it_once() {
    let add = |user: &str, principal: &str, expires: Option<&str>, scopes: &[Scope]| Command::Add {
        user: UnixUser::new(user).unwrap(),
        principal: PrincipalName::new(principal).unwrap(),
        expires: expires.map(str::to_owned),
        scopes: scopes.to_vec(),
    };
    let a = said(&["add", "--user", "al"]).unwrap();
    assert_eq!(a, (add("al", "al", None, &[Scope::Chat]), None));
    let all = ["add", "--scope", "metrics,chat,chat", "--config", "/c", "--expires", "90d"];
    let all = [&all[..], &["--principal", "team", "--user", "al"]].concat();
    let wanted = add("al", "team", Some("90d"), &[Scope::Chat, Scope::Metrics]);
    assert_eq!(said(&all).unwrap(), (wanted, Some("/c".into())));
    assert_eq!(said(&["list"]).unwrap(), (Command::List, None));
    let revoke = Command::Revoke(TokenId::new("k3").unwrap());
    assert_eq!(said(&["revoke", "k3"]).unwrap(), (revoke, None));
    for bad in [
        &[][..],
        &["add"],
        &["add", "al"],
        &["add", "--user"],
        &["add", "--user", "-al"],
        &["add", "--user", "al", "--user", "bo"],
        &["add", "--user", "al", "--scope", "root"],
        &["add", "--user", "al", "--scope", ""],
        &["add", "--user", "al", "--principal", "Al"],
        &["add", "--user", "al", "x"],
        &["add", "--user", "al", "--more", "x"],
        &["list", "x"],
        &["list", "--user", "al"],
        &["list", "--scope", "chat"],
        &["revoke"],
        &["revoke", "K3"],
        &["revoke", "k3", "k4"],
        &["rm", "k3"],
    ] {
        assert!(said(bad).is_err(), "{bad:?}");
    }
}
