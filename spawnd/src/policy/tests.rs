//! Each rule, by a request that breaks only it.

use super::*;
use crate::config::{Source, parse};
use proto::ids::{ConversationId, Instructions, ModelName, Secret, SessionId};
use proto::spawn::{PermissionMode, Proof, RefusalCode, TerminalSize};

pub(crate) fn path(text: &str) -> AbsolutePath {
    AbsolutePath::new(text).unwrap()
}

fn user(name: &str) -> UnixUser {
    UnixUser::new(name).unwrap()
}

const FILE: &str = r#"
frontd = 999
state = "/var/lib/s"
[claude]
path = "/usr/bin/claude"
arguments = ["--verbose"]
[limits]
sessions = 3
[users.defaults]
roots = ["{home}", "/srv/{user}"]
models = ["opus"]
[[users.allow]]
group = "staff"
permission_modes = ["plan"]
groups = ["audio"]
[[users.allow]]
group = "users"
[[users.allow]]
name = "al"
sessions = 2
hidden = ["/srv/secret"]
"#;

fn policy() -> Policy {
    crate::settle::policy(parse(FILE, Source::File).unwrap(), 999, None).unwrap()
}

pub(crate) fn request() -> Spawn {
    Spawn {
        session: SessionId::random(),
        conversation: ConversationId("6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11".parse().unwrap()),
        user: user("al"),
        proof: Proof::None,
        workspace: path("/srv/al/x"),
        permission_mode: PermissionMode::AcceptEdits,
        model: None,
        terminal: TerminalSize::new(40, 100).unwrap(),
        hooks: true,
        instructions: None,
        secret: Secret::random(),
    }
}

fn facts() -> Facts {
    let groups = [("staff", 50), ("users", 100), ("audio", 29)];
    Facts {
        found: Some(Found {
            entry: Some(Entry {
                uid: 1001,
                gid: 1001,
                group: Some("al".to_owned()),
                home: path("/home/al"),
                real_home: path("/usr/home/al"),
                shell: "/bin/zsh".to_owned(),
                expires: None,
            }),
            member_of: vec![1001],
            gids: groups.map(|(name, gid)| (name.to_owned(), gid)).into(),
            uid_min: 1000,
            uid_max: 60_000,
        }),
        evidence: Evidence::Peer(1001),
        home_owner: None,
        live_sessions: 0,
        live_of_user: 0,
        folder: path("/run/s/x"),
        drop_root: true,
        today: 20_000,
    }
}

fn token(name: &str, principal: &str) -> crate::token::Token {
    crate::token::Token {
        id: proto::ids::TokenId::new("t1").unwrap(),
        user: user(name),
        principal: proto::ids::PrincipalName::new(principal).unwrap(),
        scopes: vec![proto::spawn::Scope::Chat],
        sha256: "0".repeat(64).try_into().unwrap(),
        created: 0,
        expires: None,
    }
}

struct Case {
    policy: Policy,
    request: Spawn,
    facts: Facts,
}

impl Case {
    fn rule(&mut self) -> &mut Rule {
        self.policy.config.users.allow.last_mut().unwrap()
    }

    fn found(&mut self) -> &mut Found {
        self.facts.found.as_mut().unwrap()
    }

    fn entry(&mut self) -> &mut Entry {
        self.found().entry.as_mut().unwrap()
    }
}

fn groups(names: &[&str]) -> Few<GroupName> {
    Few(names.iter().map(|name| GroupName((*name).to_owned())).collect())
}

fn verdict(change: impl FnOnce(&mut Case)) -> Result<Judgement, Refusal> {
    let mut case = Case { policy: policy(), request: request(), facts: facts() };
    change(&mut case);
    judge(&case.policy, &case.request, case.facts)
}

fn plan(change: impl FnOnce(&mut Case)) -> Plan {
    verdict(change).map_err(|refusal| refusal.to_string()).unwrap().plan
}

fn code(change: impl FnOnce(&mut Case)) -> RefusalCode {
    verdict(change).err().expect("a refusal").code()
}

#[test]
fn what_policy_allows_becomes_a_plan() {
    let Judgement { plan, scope, private_home, .. } = verdict(|_| {}).ok().unwrap();
    assert_eq!((plan.identity.uid, plan.identity.gid), (1001, 1001));
    assert!(plan.identity.drop_root && plan.identity.groups.is_empty() && private_home);
    assert_eq!(plan.identity.shell, "/bin/zsh");
    assert_eq!(plan.workspace, path("/srv/al/x"));
    assert_eq!(plan.workspace_root, path("/srv/al"));
    assert_eq!(plan.home, path("/var/lib/s/users/al/home"));
    assert_eq!(plan.config_dir, Some(path("/var/lib/s/users/al/claude")));
    assert_eq!(plan.claude_arguments, ["--verbose"]);
    assert_eq!(plan.lifetime, Lifetime::OutlivesSpawnd);
    assert_eq!(plan.sandbox.demand, launch::Demand::Required);
    let (first, rest) = plan.sandbox.hidden.split_first().unwrap();
    let last = ["/var/lib/s", "/usr/home/al"].map(path);
    assert!(*first == path("/srv/secret") && rest.ends_with(&last));
    assert!(HIDDEN.iter().all(|folder| rest.contains(&path(folder))));
    let scope = scope.unwrap();
    assert_eq!((scope.memory_bytes, scope.tasks, scope.cpu_weight), (4 << 30, 512, 100));
    assert_eq!(scope.ip_deny, ["link-local"]);
}

#[test]
fn without_scopes_a_session_ends_with_spawnd_and_without_root_nothing_is_hidden() {
    let Judgement { plan, scope, .. } = verdict(|c| {
        c.policy.config.scopes = false;
        c.facts.drop_root = false;
    })
    .ok()
    .unwrap();
    assert_eq!((plan.lifetime, scope), (Lifetime::EndsWithSpawnd, None));
    assert_eq!(plan.sandbox.hidden, [path("/srv/secret")]);
}

#[test]
fn each_rule_refuses_with_its_code() {
    let bypass = PermissionMode::BypassPermissions;
    assert_eq!(code(|c| c.request.permission_mode = bypass), RefusalCode::NotAllowed);
    let model = Some(ModelName::new("other").unwrap());
    assert_eq!(code(|c| c.request.model = model), RefusalCode::NotAllowed);
    let told = |c: &mut Case| c.request.instructions = Instructions::new("x".to_owned()).ok();
    assert_eq!(code(told), RefusalCode::NotAllowed);
    let plan = plan(|c| {
        told(c);
        c.rule().instructions = true;
    });
    assert_eq!(plan.instructions.unwrap().expose(), "x");
    assert_eq!(code(|c| c.policy.config.claude.path = None), RefusalCode::ClaudeMissing);
    assert_eq!(code(|c| c.facts.live_sessions = 3), RefusalCode::Busy);
    assert_eq!(code(|c| c.facts.live_of_user = 2), RefusalCode::Busy);
}

#[test]
fn an_account_that_is_no_persons_is_refused() {
    for uid in [0, 1, 999, 60_001, 61_184, 65_519, 65_534, u32::MAX] {
        let refused = code(|c| {
            c.entry().uid = uid;
            c.facts.evidence = Evidence::Peer(uid);
        });
        assert_eq!(refused, RefusalCode::UserNotAllowed, "{uid}");
    }
    // Nor does a login.defs that thinks otherwise make it one.
    for uid in [0, 61_184, 65_534] {
        let refused = code(|c| {
            (c.found().uid_min, c.found().uid_max) = (0, u32::MAX);
            c.entry().uid = uid;
            c.facts.evidence = Evidence::Peer(uid);
        });
        assert_eq!(refused, RefusalCode::UserNotAllowed, "{uid}");
    }
    assert_eq!(code(|c| c.found().entry = None), RefusalCode::UserNotAllowed);
    assert_eq!(code(|c| c.facts.found = None), RefusalCode::UserNotAllowed);
}

#[test]
fn an_expired_account_is_refused_from_that_day_on() {
    for day in [0, 19_999, 20_000] {
        assert_eq!(code(|c| c.entry().expires = Some(day)), RefusalCode::UserNotAllowed, "{day}");
    }
    plan(|c| c.entry().expires = Some(20_001));
}

#[test]
fn a_shell_that_lets_nobody_in_is_refused_unless_allowed() {
    for shell in ["/usr/sbin/nologin", "/bin/false", "/sbin/nologin"] {
        let shut = |c: &mut Case| c.entry().shell = shell.to_owned();
        assert_eq!(code(shut), RefusalCode::UserNotAllowed, "{shell}");
        let plan = plan(|c| {
            shut(c);
            c.rule().allow_nologin = true;
        });
        assert_eq!(plan.identity.shell, "/bin/sh");
    }
    assert_eq!(plan(|c| c.entry().shell = String::new()).identity.shell, "/bin/sh");
}

#[test]
fn a_name_that_belonged_to_another_uid_is_refused() {
    assert_eq!(code(|c| c.facts.home_owner = Some(1002)), RefusalCode::UserNotAllowed);
    plan(|c| c.facts.home_owner = Some(1001));
}

#[test]
fn a_dangerous_group_is_refused_unless_it_is_named_so() {
    for (gid, name) in [(0, Some("root")), (0, None), (27, Some("sudo")), (999, Some("docker"))] {
        let primary = |c: &mut Case| {
            (c.entry().gid, c.entry().group) = (gid, name.map(str::to_owned));
        };
        assert_eq!(code(primary), RefusalCode::UserNotAllowed, "{name:?}");
        let named = name.unwrap_or("root").to_owned();
        plan(|c| {
            primary(c);
            c.rule().dangerous_groups = groups(&[&named]);
        });
    }
    let zero = |c: &mut Case| {
        c.rule().groups = groups(&["toor"]);
        c.found().gids.insert("toor".to_owned(), 0);
    };
    assert_eq!(code(zero), RefusalCode::UserNotAllowed);
    assert_eq!(code(|c| c.rule().groups = groups(&["gone"])), RefusalCode::UserNotAllowed);
}

#[test]
fn the_first_entry_that_fits_counts_and_names_come_before_groups() {
    // The rule by name stands last and still wins over a group that stands first.
    plan(|c| c.found().member_of = vec![50, 100]);
    let as_member = |c: &mut Case, groups: &[u32]| {
        c.request.user = user("bo");
        c.request.workspace = path("/srv/bo");
        c.found().member_of = groups.to_vec();
    };
    assert_eq!(code(|c| as_member(c, &[1001])), RefusalCode::UserNotAllowed);
    // staff has only plan.
    assert_eq!(code(|c| as_member(c, &[100, 50])), RefusalCode::NotAllowed);
    let staff = plan(|c| {
        as_member(c, &[50]);
        c.request.permission_mode = PermissionMode::Plan;
    });
    assert_eq!(staff.identity.groups, [29]);
    assert!(plan(|c| as_member(c, &[100])).identity.groups.is_empty());
}

#[test]
fn only_what_needs_a_look_up_gets_one() {
    let mut policy = policy();
    assert_eq!(policy.needs_lookup(&user("al")), Ok(true));
    assert_eq!(policy.needs_lookup(&user("who")), Ok(true));
    policy.config.users.allow.retain(|rule| rule.name.is_some());
    assert_eq!(policy.needs_lookup(&user("who")), Err(Refusal::User(user("who"))));
}

#[test]
fn a_proof_is_of_the_kind_that_policy_wants_and_the_users_own() {
    use Demanded::{None as Nothing, Peer, Token, TokenOrPeer};
    let own = || Evidence::Token(Box::new(token("al", "al")));
    let foreign = || Evidence::Token(Box::new(token("bo", "al")));
    let peer = |proved: &Proved| matches!(proved, Proved::Peer(al) if al.as_str() == "al");
    let token = |proved: &Proved| {
        matches!(proved, Proved::Token { id, principal }
            if id.as_str() == "t1" && principal.as_str() == "al")
    };
    let unproved = |proved: &Proved| *proved == Proved::Not;
    type Wanted<'a> = Option<&'a dyn Fn(&Proved) -> bool>;
    let table: [(Demanded, Evidence, Wanted<'_>); 20] = [
        (TokenOrPeer, Evidence::Peer(1001), Some(&peer)),
        (TokenOrPeer, own(), Some(&token)),
        (TokenOrPeer, Evidence::Peer(1002), None),
        (TokenOrPeer, Evidence::Peer(0), None),
        (TokenOrPeer, foreign(), None),
        (TokenOrPeer, Evidence::Unfit("x"), None),
        (TokenOrPeer, Evidence::None, None),
        (Token, own(), Some(&token)),
        (Token, Evidence::Peer(1001), None),
        (Token, foreign(), None),
        (Token, Evidence::None, None),
        (Peer, Evidence::Peer(1001), Some(&peer)),
        (Peer, own(), None),
        (Peer, Evidence::Peer(0), None),
        (Peer, Evidence::None, None),
        (Nothing, Evidence::Peer(1001), Some(&peer)),
        (Nothing, own(), Some(&token)),
        // Recorded as what they are.
        (Nothing, Evidence::Peer(1002), Some(&unproved)),
        (Nothing, Evidence::Unfit("x"), Some(&unproved)),
        (Nothing, Evidence::None, Some(&unproved)),
    ];
    for (demanded, evidence, wanted) in table {
        let what = format!("{demanded:?} {evidence:?}");
        let judged = verdict(|c| {
            c.facts.evidence = evidence;
            c.rule().proof = demanded;
        });
        match (judged, wanted) {
            (Ok(judgement), Some(is_it)) => assert!(is_it(&judgement.proved), "{what}"),
            (Err(refusal), None) => assert_eq!(refusal.code(), RefusalCode::NotProved, "{what}"),
            (judged, _) => panic!("{what}: {:?}", judged.err()),
        }
    }
}

#[test]
fn a_user_is_no_other_principals_unless_policy_shares_them() {
    let team = || Evidence::Token(Box::new(token("al", "team")));
    assert_eq!(code(|c| c.facts.evidence = team()), RefusalCode::NotProved);
    let judged = verdict(|c| {
        c.facts.evidence = team();
        c.rule().shared = true;
    });
    let principal = proto::ids::PrincipalName::new("team").unwrap();
    let wanted = Proved::Token { id: proto::ids::TokenId::new("t1").unwrap(), principal };
    assert_eq!(judged.unwrap().proved, wanted);
}

#[test]
fn a_workspace_outside_every_root_is_refused() {
    for outside in ["/", "/srv", "/srv/alice", "/srv/bo/x", "/etc", "/home/albert", "/home"] {
        let refused = code(|c| c.request.workspace = path(outside));
        assert_eq!(refused, RefusalCode::WorkspaceNotAllowed, "{outside}");
    }
}

#[test]
fn the_accounts_own_home_is_a_workspace_only_where_it_is_the_sessions_home() {
    for home in ["/home/al", "/usr/home/al"] {
        let with = |kind| {
            move |c: &mut Case| {
                c.request.workspace = path(home);
                c.rule().home = kind;
            }
        };
        assert_eq!(code(with(Home::Private)), RefusalCode::WorkspaceNotAllowed, "{home}");
        assert!(verdict(with(Home::Real)).is_ok(), "{home}");
    }
}

#[test]
fn a_root_behind_a_symlink_is_replaced_by_where_it_leads() {
    for (asked, real) in [
        ("/home/al", "/usr/home/al"),
        ("/home/al/a/b", "/usr/home/al/a/b"),
        ("/usr/home/al/a", "/usr/home/al/a"),
    ] {
        let plan = plan(|c| {
            c.request.workspace = path(asked);
            c.rule().home = Home::Real;
        });
        assert_eq!(plan.workspace, path(real));
        assert_eq!(plan.workspace_root, path("/usr/home/al"));
    }
}

#[test]
fn a_token_is_refused_where_no_look_up_could_let_it_start_anything() {
    type Change<'a> = &'a dyn Fn(&mut Policy);
    let no_groups = |policy: &mut Policy| {
        policy.config.users.allow.retain(|rule| rule.name.is_some());
    };
    let of_al = |change: fn(&mut Rule)| {
        move |policy: &mut Policy| {
            let named = |rule: &&mut Rule| rule.name == Some(user("al"));
            policy.config.users.allow.iter_mut().filter(named).for_each(change);
        }
    };
    let peer = of_al(|rule| rule.proof = Demanded::Peer);
    let shared = of_al(|rule| rule.shared = true);
    for (name, principal, change, good) in [
        ("al", "al", &no_groups as Change<'_>, true),
        ("al", "al", &peer, false),
        ("al", "team", &no_groups, false),
        ("al", "team", &shared, true),
        // Perhaps a member of a group of policy's.
        ("who", "who", &|_: &mut Policy| (), true),
        ("who", "who", &no_groups, false),
    ] {
        let mut policy = policy();
        change(&mut policy);
        let judged = policy.admits(&token(name, principal));
        assert_eq!(judged.is_ok(), good, "{name} {principal}: {judged:?}");
    }
}
