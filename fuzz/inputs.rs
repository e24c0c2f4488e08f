//! What is done with one input: shared by the fuzz targets and by spawnd's bounded property test
//! (spawnd/tests/fuzz.rs). Whatever the bytes are, nothing here may panic.

use proto::ids::{AbsolutePath, Grant, Secret, TokenId, UnixUser};
use proto::spawn::{Call, FromFrontd, Spawn, decode};
use spawnd::config::{Source, parse};
use spawnd::grant::{Seal, Subject};
use spawnd::lookup::{Entry, Found};
use spawnd::policy::{Facts, Policy, judge};
use spawnd::proof::Evidence;
use spawnd::token::Table;

const FILE: &str = r#"
frontd = 999
[claude]
path = "/usr/lib/synthesis/claude"
[users.defaults]
roots = ["{home}", "/srv/{user}", "/"]
permission_modes = ["acceptEdits", "bypassPermissions", "dontAsk", "manual", "plan"]
[[users.allow]]
name = "alice"
proof = "none"
[[users.allow]]
group = "staff"
groups = ["staff"]
home = "real"
instructions = true
"#;

pub(crate) fn policy() -> Policy {
    let config = parse(FILE, Source::File).expect("the file above is valid");
    spawnd::settle::policy(config, 999, None).expect("it names nothing of this machine")
}

/// Decodes a packet of frontd's and, if it asks for a session, judges it. Did it?
pub(crate) fn spawn_packet(policy: &Policy, bytes: &[u8]) -> bool {
    let Ok(FromFrontd::Request { call: Call::Spawn(request), .. }) = decode(bytes) else {
        return false;
    };
    for (found, evidence) in [
        (None, Evidence::None),
        (Some(account(&request.user)), Evidence::Peer(1000)),
        (Some(account(&request.user)), Evidence::Peer(0)),
    ] {
        one(policy, &request, found, evidence);
    }
    true
}

fn one(policy: &Policy, request: &Spawn, found: Option<Found>, evidence: Evidence) {
    let facts = Facts {
        found,
        evidence,
        home_owner: None,
        live_sessions: 0,
        live_of_user: 0,
        folder: path("/run/synthesis/sessions/x"),
        drop_root: true,
        today: 20_000,
    };
    match judge(policy, request, facts) {
        Ok(judgement) => {
            let plan = judgement.plan;
            assert_ne!(plan.identity.uid, 0);
            assert!(plan.workspace.is_within(&plan.workspace_root));
            let bytes = serde_json::to_vec(&plan).expect("a plan can be written");
            assert!(bytes.len() < 1024 * 1024);
            let read: proto::launch::Plan = serde_json::from_slice(&bytes).expect("and read");
            assert!(read == plan);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

/// Reads a spawnd.toml both ways and, if it is one, makes its policy.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for source in [Source::File, Source::Descriptor] {
        match parse(text, source) {
            Ok(config) => assert!(!config.users.allow.is_empty()),
            Err(fault) => {
                assert!(fault.line >= 1 && fault.line <= text.lines().count() + 1, "{fault}");
                assert!(!fault.to_string().contains('\n'), "{fault}");
            }
        }
    }
}

/// Grants that are good at [`NOW`], of which a forger may have seen any number.
pub(crate) fn grants() -> Vec<Vec<u8>> {
    let token = TokenId::new("k3x7q2mz").expect("an id");
    let subjects = [Subject::Peer(1000), Subject::Peer(0), Subject::Token(token)];
    subjects.iter().map(|who| seal().grant(who, NOW).expose().as_bytes().to_vec()).collect()
}

const NOW: u64 = 1_000;

fn seal() -> Seal {
    Seal::new(Secret::new("5e".repeat(32)).expect("a key"), "boot".to_owned())
}

/// Nothing is a grant but what was given. Was this one?
pub(crate) fn grant(bytes: &[u8]) -> bool {
    let Ok(text) = String::from_utf8(bytes.to_vec()) else { return false };
    let Ok(grant) = Grant::new(text) else { return false };
    let good = seal().check(&grant, NOW).is_ok();
    assert_eq!(good, grants().iter().any(|given| given == bytes), "{}", grant.expose());
    good
}

/// Reads a table of tokens; what is one is written as it was read. Was it?
pub(crate) fn tokens(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Table::parse(text) {
        Ok(table) => {
            assert_eq!(Table::parse(&table.text()), Ok(table));
            true
        }
        Err(fault) => {
            assert!(!fault.to_string().contains(char::is_control), "{fault}");
            false
        }
    }
}

fn account(user: &UnixUser) -> Found {
    Found {
        entry: Some(Entry {
            uid: 1000,
            gid: 1000,
            group: Some(user.to_string()),
            home: path("/home/x"),
            real_home: path("/home/x"),
            shell: "/bin/sh".to_owned(),
            expires: None,
        }),
        member_of: vec![50],
        gids: [("staff".to_owned(), 50)].into(),
        uid_min: 1000,
        uid_max: 60_000,
    }
}

fn path(text: &str) -> AbsolutePath {
    AbsolutePath::new(text).expect("a plain path")
}
