//! The judgement: (policy, request, facts) → plan or refusal. Pure: no system call, no clock.
//! What the workspace's path leads to is launch's to see, as the user.

use std::num::NonZeroU32;

use proto::ids::{AbsolutePath, ModelName, UnixUser};
use proto::launch::{self, Bridge, Demand, Identity, Lifetime, Limits, Plan, Sandbox};
use proto::spawn::{PermissionMode, Spawn};

use crate::refusal::Refusal;

/// Who may run what. Made once at start.
pub struct Policy {
    pub users: Vec<UserRule>,
    /// `None`: it was not found at start.
    pub claude: Option<AbsolutePath>,
    pub channel: AbsolutePath,
    pub bridge_socket: AbsolutePath,
    pub frontd_uid: u32,
    pub max_sessions: usize,
    /// Of every session's scope; `None`: sessions have none and end with spawnd.
    pub scope: Option<ScopeLimits>,
}

pub struct UserRule {
    pub account: Account,
    pub roots: Vec<Root>,
    pub permission_modes: Vec<PermissionMode>,
    pub models: Models,
    pub config_dir: Option<AbsolutePath>,
    pub allowed_tools: Vec<String>,
    pub trust_project_settings: bool,
    pub environment: Vec<(String, String)>,
}

/// The passwd entry, looked up at start: a look-up may block on a directory server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user: UnixUser,
    /// claude never runs as root, by type.
    pub uid: NonZeroU32,
    pub gid: u32,
    pub home: AbsolutePath,
    pub shell: String,
}

/// A folder below which workspaces may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// As people write it.
    pub named: AbsolutePath,
    /// Where that led at start; launch follows no symlink.
    pub real: AbsolutePath,
}

pub enum Models {
    Any,
    Only(Vec<ModelName>),
}

/// What the judgement needs to know of the present.
pub struct Facts {
    pub live_sessions: usize,
    /// The new session's own folder.
    pub folder: AbsolutePath,
    /// This process has root's rights.
    pub drop_root: bool,
}

/// What is to be done for a request that policy allows.
pub struct Judgement {
    pub plan: Plan,
    /// Limits of the session's scope; `None` where there are no scopes.
    pub scope: Option<ScopeLimits>,
}

/// What all processes of a session together may use (systemd.resource-control(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeLimits {
    pub memory_bytes: u64,
    pub tasks: u64,
    /// 1 to 10,000; systemd's own default is 100.
    pub cpu_weight: u64,
    /// Prefixes or the words of IPAddressAllow=; checked when policy was read.
    pub ip_allow: Vec<String>,
    pub ip_deny: Vec<String>,
}

/// What shall be done for `request`, if policy allows it.
///
/// # Errors
/// The first rule that forbids it.
pub fn judge(policy: &Policy, request: &Spawn, facts: Facts) -> Result<Judgement, Refusal> {
    let rule = policy
        .users
        .iter()
        .find(|rule| rule.account.user == request.user)
        .ok_or_else(|| Refusal::User(request.user.clone()))?;
    if !rule.permission_modes.contains(&request.permission_mode) {
        let user = request.user.clone();
        return Err(Refusal::Mode { user, mode: request.permission_mode });
    }
    if let (Some(model), Models::Only(models)) = (&request.model, &rule.models)
        && !models.contains(model)
    {
        return Err(Refusal::Model { user: request.user.clone(), model: model.clone() });
    }
    let (workspace, workspace_root) = place(&rule.roots, &request.workspace).ok_or_else(|| {
        Refusal::Workspace { user: request.user.clone(), workspace: request.workspace.clone() }
    })?;
    let claude = policy.claude.clone().ok_or(Refusal::ClaudeNotFound)?;
    if facts.live_sessions >= policy.max_sessions {
        return Err(Refusal::Full(policy.max_sessions));
    }
    let plan = Plan {
        version: launch::VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        session: request.session.clone(),
        conversation: request.conversation,
        identity: identity(&rule.account, facts.drop_root),
        terminal: request.terminal,
        workspace,
        workspace_root,
        folder: facts.folder,
        home: rule.account.home.clone(),
        config_dir: rule.config_dir.clone(),
        claude,
        claude_arguments: Vec::new(),
        channel: policy.channel.clone(),
        permission_mode: request.permission_mode,
        model: request.model.clone(),
        allowed_tools: rule.allowed_tools.clone(),
        hooks: request.hooks,
        trust_project_settings: rule.trust_project_settings,
        environment: rule.environment.clone(),
        lifetime: match policy.scope {
            Some(_) => Lifetime::OutlivesSpawnd,
            None => Lifetime::EndsWithSpawnd,
        },
        limits: Limits { open_files: 524_288, tmp_bytes: 1 << 30, tmp_inodes: 100_000 },
        sandbox: Sandbox {
            demand: Demand::BestEffort,
            hidden: Vec::new(),
            visible: Vec::new(),
            ptrace: false,
        },
        bridge: Bridge {
            socket: policy.bridge_socket.clone(),
            frontd_uid: policy.frontd_uid,
            secret: request.secret.clone(),
        },
    };
    Ok(Judgement { plan, scope: policy.scope.clone() })
}

fn identity(account: &Account, drop_root: bool) -> Identity {
    Identity {
        user: account.user.clone(),
        uid: account.uid.get(),
        gid: account.gid,
        groups: Vec::new(),
        shell: account.shell.clone(),
        drop_root,
    }
}

/// The workspace below the real path of the first root that contains it, and that root.
fn place(roots: &[Root], workspace: &AbsolutePath) -> Option<(AbsolutePath, AbsolutePath)> {
    roots.iter().find_map(|root| {
        if workspace.is_within(&root.real) {
            return Some((workspace.clone(), root.real.clone()));
        }
        let below = workspace.as_path().strip_prefix(root.named.as_path()).ok()?;
        let moved = root.real.as_path().join(below);
        // Joining an empty path would leave a trailing slash.
        let moved = if below.as_os_str().is_empty() { root.real.as_path().into() } else { moved };
        Some((AbsolutePath::new(moved.to_str()?).ok()?, root.real.clone()))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proto::ids::{ConversationId, Secret, SessionId};
    use proto::spawn::{Proof, RefusalCode, TerminalSize};

    pub(crate) fn path(text: &str) -> AbsolutePath {
        AbsolutePath::new(text).unwrap()
    }

    fn user(name: &str) -> UnixUser {
        UnixUser::new(name).unwrap()
    }

    fn policy() -> Policy {
        Policy {
            users: vec![UserRule {
                account: Account {
                    user: user("al"),
                    uid: NonZeroU32::new(1000).unwrap(),
                    gid: 1000,
                    home: path("/home/al"),
                    shell: "/bin/sh".to_owned(),
                },
                roots: vec![
                    Root { named: path("/home/al"), real: path("/usr/home/al") },
                    Root { named: path("/srv/al"), real: path("/srv/al") },
                ],
                permission_modes: vec![PermissionMode::AcceptEdits],
                models: Models::Only(vec![ModelName::new("opus").unwrap()]),
                config_dir: None,
                allowed_tools: vec!["Read".to_owned()],
                trust_project_settings: false,
                environment: Vec::new(),
            }],
            claude: Some(path("/usr/bin/claude")),
            channel: path("/usr/libexec/channel"),
            bridge_socket: path("/run/bridge.sock"),
            frontd_uid: 999,
            max_sessions: 2,
            scope: None,
        }
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
            secret: Secret::random(),
        }
    }

    fn verdict(change: impl FnOnce(&mut Policy, &mut Spawn, &mut Facts)) -> Result<Plan, Refusal> {
        let (mut policy, mut request) = (policy(), request());
        let mut facts = Facts { live_sessions: 0, folder: path("/run/s/x"), drop_root: true };
        change(&mut policy, &mut request, &mut facts);
        judge(&policy, &request, facts).map(|judgement| judgement.plan)
    }

    fn code(change: impl FnOnce(&mut Policy, &mut Spawn, &mut Facts)) -> RefusalCode {
        verdict(change).err().unwrap().code()
    }

    #[test]
    fn what_policy_allows_becomes_a_plan() {
        let plan = verdict(|_, _, _| {}).ok().unwrap();
        assert_eq!(plan.identity.uid, 1000);
        assert!(plan.identity.drop_root && plan.identity.groups.is_empty());
        assert_eq!(plan.workspace, path("/srv/al/x"));
        assert_eq!(plan.workspace_root, path("/srv/al"));
    }

    #[test]
    fn each_rule_refuses_with_its_code() {
        assert_eq!(code(|_, r, _| r.user = user("root")), RefusalCode::UserNotAllowed);
        let bypass = PermissionMode::BypassPermissions;
        assert_eq!(code(|_, r, _| r.permission_mode = bypass), RefusalCode::NotAllowed);
        let model = Some(ModelName::new("other").unwrap());
        assert_eq!(code(|_, r, _| r.model = model), RefusalCode::NotAllowed);
        assert_eq!(code(|p, _, _| p.claude = None), RefusalCode::ClaudeMissing);
        assert_eq!(code(|_, _, f| f.live_sessions = 2), RefusalCode::Busy);
    }

    #[test]
    fn a_workspace_outside_every_root_is_refused() {
        for outside in ["/", "/srv", "/srv/alice", "/srv/al2/x", "/etc", "/home/albert"] {
            let refused = code(|_, r, _| r.workspace = path(outside));
            assert_eq!(refused, RefusalCode::WorkspaceNotAllowed, "{outside}");
        }
    }

    #[test]
    fn a_root_behind_a_symlink_is_replaced_by_where_it_leads() {
        for (asked, real) in [
            ("/home/al", "/usr/home/al"),
            ("/home/al/a/b", "/usr/home/al/a/b"),
            ("/usr/home/al/a", "/usr/home/al/a"),
        ] {
            let plan = verdict(|_, r, _| r.workspace = path(asked)).ok().unwrap();
            assert_eq!(plan.workspace, path(real));
            assert_eq!(plan.workspace_root, path("/usr/home/al"));
        }
    }
}
