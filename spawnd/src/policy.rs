//! The judgement: (policy, request, facts) → plan or refusal. Pure: no system call, no clock.
//! What the workspace's path leads to is launch's to see, as the user.

use std::num::NonZeroU32;

use proto::ids::{AbsolutePath, PrincipalName, TokenId, UnixUser};
use proto::launch::{self, Bridge, Identity, Lifetime, Limits, Plan, Sandbox};
use proto::spawn::Spawn;

use crate::config::{Account, Addresses, Config, Demanded, Few, GroupName, Home, Rule, fixed};
use crate::lookup::{Entry, Found};
use crate::proof::Evidence;
use crate::refusal::Refusal;
use crate::token::Token;

/// nobody, and the uids that systemd hands out for as long as a service runs: neither is a
/// person's, whatever login.defs says.
const NOBODY: u32 = 65_534;
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

const WANTS_PEER: &str = "policy wants the user's own client on the Unix socket";

/// Who may run what. Made at start, and again when root asks for it.
pub struct Policy {
    pub frontd_uid: u32,
    pub channel: AbsolutePath,
    pub config: Config,
    /// When the file was read.
    pub claude_is_missing: bool,
}

/// What the judgement needs to know of the present.
pub struct Facts {
    /// `None`: policy itself holds the account.
    pub found: Option<Found>,
    pub evidence: Evidence,
    /// Of the user's folder below `state`: whose name this was when the folder was made.
    pub home_owner: Option<u32>,
    pub live_sessions: usize,
    pub live_of_user: usize,
    /// The new session's own folder.
    pub folder: AbsolutePath,
    /// This process has root's rights.
    pub drop_root: bool,
    /// Days since 1970 (shadow(5)).
    pub today: i64,
}

/// What is to be done for a request that policy allows.
#[derive(Clone)]
pub struct Judgement {
    pub plan: Plan,
    /// Limits of the session's scope; `None` where there are no scopes.
    pub scope: Option<ScopeLimits>,
    /// The folder `home` is spawnd's to make.
    pub private_home: bool,
    pub proved: Proved,
}

/// How the person behind a request is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proved {
    /// frontd says so.
    Not,
    Peer(PrincipalName),
    Token {
        id: TokenId,
        principal: PrincipalName,
    },
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

impl Policy {
    /// Must the account be looked up before it can be judged?
    ///
    /// # Errors
    /// When no entry can name this user, whatever is found.
    pub fn needs_lookup(&self, user: &UnixUser) -> Result<bool, Refusal> {
        match self.rule_for(user, None) {
            Some(rule) => Ok(rule.account.is_none()),
            None if self.config.users.allow.iter().any(|rule| rule.group.is_some()) => Ok(true),
            None => Err(Refusal::User(user.clone())),
        }
    }

    /// What can be told of a token's bearer without a look-up: membership of groups and the state of
    /// the account are judged at each start.
    ///
    /// # Errors
    /// When no start by this token can be allowed, whatever is found.
    pub fn admits(&self, token: &Token) -> Result<(), &'static str> {
        self.needs_lookup(&token.user).map_err(|_| "policy does not name the token's user")?;
        let Some(rule) = self.rule_for(&token.user, None) else { return Ok(()) };
        fits(rule, token)?;
        match rule.proof {
            Demanded::Peer => Err(WANTS_PEER),
            Demanded::TokenOrPeer | Demanded::Token | Demanded::None => Ok(()),
        }
    }

    /// Names of groups whose numbers a look-up must tell.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        let groups =
            self.config.users.allow.iter().flat_map(|rule| rule.group.iter().chain(&rule.groups.0));
        groups.map(|group| group.0.as_str())
    }

    /// An entry by name beats every entry by group; among these the first counts.
    fn rule_for(&self, user: &UnixUser, found: Option<&Found>) -> Option<&Rule> {
        let member = |group: &GroupName| {
            let found = found?;
            Some(found.member_of.contains(found.gids.get(&group.0)?))
        };
        let grouped = |rule: &&Rule| rule.group.as_ref().and_then(member) == Some(true);
        let rule = self.config.users.allow.iter().find(|rule| rule.name.as_ref() == Some(user));
        rule.or_else(|| self.config.users.allow.iter().find(grouped))
    }
}

/// What shall be done for `request`, if policy allows it.
///
/// # Errors
/// The first rule that forbids it.
pub fn judge(policy: &Policy, request: &Spawn, facts: Facts) -> Result<Judgement, Refusal> {
    let user = &request.user;
    let (rule, account, groups) =
        whose(policy, user, facts.found.as_ref(), facts.home_owner, facts.today)?;
    let proved = proved(rule, user, &facts.evidence, account.uid.get())?;
    if !rule.permission_modes.0.contains(&request.permission_mode) {
        return Err(Refusal::Mode { user: user.clone(), mode: request.permission_mode });
    }
    if let Some(model) = &request.model
        && !rule.models.0.is_empty()
        && !rule.models.0.contains(model)
    {
        return Err(Refusal::Model { user: user.clone(), model: model.clone() });
    }
    if request.instructions.is_some() && !rule.instructions {
        return Err(Refusal::Instructions(user.clone()));
    }
    let own = own(policy, user, "workspace");
    let place = place(rule, user, &account, own.as_ref(), &request.workspace).ok_or_else(|| {
        let roots: Vec<&str> = rule.roots.0.iter().map(|root| root.named.as_str()).collect();
        let (user, workspace) = (user.clone(), request.workspace.clone());
        Refusal::Workspace { user, workspace, roots: roots.join(", ") }
    })?;
    let claude = policy.config.claude.path.clone().ok_or(Refusal::ClaudeNotFound)?;
    if policy.claude_is_missing {
        return Err(Refusal::ClaudeMissing(claude));
    }
    let most = policy.config.limits.sessions.size();
    if facts.live_sessions >= most {
        return Err(Refusal::Full(most));
    }
    if facts.live_of_user >= rule.sessions.size() {
        return Err(Refusal::UserFull { user: user.clone(), limit: rule.sessions.size() });
    }
    let plan = plan(policy, request, rule, &facts, Judged { account, groups, place, claude });
    let scope = policy.config.scopes.then(|| scope_limits(rule));
    Ok(Judgement { plan, scope, private_home: rule.home == Home::Private, proved })
}

/// By which rule, as which account and with which groups `user` may run sessions.
///
/// # Errors
/// Why not. `home_owner` and `today` are as in [`Facts`].
pub fn whose<'a>(
    policy: &'a Policy,
    user: &UnixUser,
    found: Option<&Found>,
    home_owner: Option<u32>,
    today: i64,
) -> Result<(&'a Rule, Account, Vec<u32>), Refusal> {
    let rule = policy.rule_for(user, found).ok_or_else(|| Refusal::User(user.clone()))?;
    let (account, groups) = match (&rule.account, found) {
        (Some(account), _) => (account.clone(), Vec::new()),
        (None, Some(found)) => (account(rule, user, found, today)?, groups(rule, user, found)?),
        (None, None) => return Err(Refusal::User(user.clone())),
    };
    if home_owner.is_some_and(|owner| owner != account.uid.get()) {
        let why = "its uid is not the one that its folder was made for";
        return Err(Refusal::Account { user: user.clone(), why });
    }
    Ok((rule, account, groups))
}

/// What a request is allowed.
struct Judged {
    account: Account,
    groups: Vec<u32>,
    /// Workspace and root.
    place: (AbsolutePath, AbsolutePath),
    claude: AbsolutePath,
}

fn plan(policy: &Policy, request: &Spawn, rule: &Rule, facts: &Facts, judged: Judged) -> Plan {
    let Judged { account, groups, place: (workspace, workspace_root), claude } = judged;
    let (home, config_dir) = homes(policy, rule, &request.user, &account);
    let arguments = policy.config.claude.arguments.0.iter();
    let environment = rule.environment.iter();
    Plan {
        version: launch::VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        session: request.session.clone(),
        conversation: request.conversation,
        terminal: request.terminal,
        workspace,
        workspace_root,
        folder: facts.folder.clone(),
        home,
        config_dir,
        private_home: rule.home == Home::Private,
        claude,
        claude_arguments: arguments.map(|argument| argument.0.clone()).collect(),
        channel: policy.channel.clone(),
        permission_mode: request.permission_mode,
        model: request.model.clone(),
        allowed_tools: rule.allowed_tools.0.iter().map(|tool| tool.0.clone()).collect(),
        hooks: request.hooks,
        instructions: request.instructions.clone(),
        trust_project_settings: rule.trust_project_settings,
        environment: environment.map(|(name, value)| (name.0.clone(), value.0.clone())).collect(),
        lifetime: match policy.config.scopes {
            true => Lifetime::OutlivesSpawnd,
            false => Lifetime::EndsWithSpawnd,
        },
        limits: Limits {
            open_files: rule.open_files.0,
            tmp_bytes: rule.tmp_size.0,
            tmp_inodes: rule.tmp_inodes.0,
        },
        sandbox: sandbox(policy, rule, &account, facts.drop_root),
        bridge: Bridge {
            socket: policy.config.bridge.clone(),
            frontd_uid: policy.frontd_uid,
            secret: request.secret.clone(),
        },
        identity: Identity {
            user: request.user.clone(),
            uid: account.uid.get(),
            gid: account.gid,
            groups,
            shell: account.shell,
            drop_root: facts.drop_root,
        },
    }
}

fn scope_limits(rule: &Rule) -> ScopeLimits {
    let words = |list: &Few<Addresses>| list.0.iter().map(|address| address.0.clone()).collect();
    ScopeLimits {
        memory_bytes: rule.memory.0,
        tasks: rule.tasks.0,
        cpu_weight: rule.cpu_weight.0,
        ip_allow: words(&rule.ip_allow),
        ip_deny: words(&rule.ip_deny),
    }
}

/// The account that was found, if it may run sessions.
fn account(rule: &Rule, user: &UnixUser, found: &Found, today: i64) -> Result<Account, Refusal> {
    let refused = |why| Refusal::Account { user: user.clone(), why };
    let Entry { uid, gid, group, home, real_home, shell, expires } =
        found.entry.as_ref().ok_or_else(|| refused("there is none of this name"))?;
    let uid = NonZeroU32::new(*uid).ok_or_else(|| refused("it is root"))?;
    let people = found.uid_min..=found.uid_max;
    if uid.get() == NOBODY || DYNAMIC.contains(&uid.get()) || !people.contains(&uid.get()) {
        return Err(refused("its uid is no person's"));
    }
    if expires.is_some_and(|day| today >= day) {
        return Err(refused("it has expired"));
    }
    let group = group.as_deref().unwrap_or_default();
    if (*gid == 0 && !rule.allows("root")) || !rule.allows(group) {
        return Err(refused("its group is dangerous"));
    }
    let shut = matches!(shell.rsplit('/').next(), Some("nologin" | "false"));
    if shut && !rule.allow_nologin {
        return Err(refused("its shell lets nobody in"));
    }
    // One that claude's Bash tool can use.
    let shell = if shut || !shell.starts_with('/') { "/bin/sh" } else { shell };
    Ok(Account {
        uid,
        gid: *gid,
        home: home.clone(),
        real_home: Some(real_home.clone()),
        config_dir: None,
        shell: shell.to_owned(),
    })
}

/// The numbers of the rule's groups.
fn groups(rule: &Rule, user: &UnixUser, found: &Found) -> Result<Vec<u32>, Refusal> {
    let number = |group: &GroupName| {
        let refused = |why| Refusal::Group { user: user.clone(), group: group.0.clone(), why };
        let gid = *found.gids.get(&group.0).ok_or_else(|| refused("is not known here"))?;
        if gid == 0 && !rule.allows("root") {
            return Err(refused("is root's"));
        }
        Ok(gid)
    };
    rule.groups.0.iter().map(number).collect()
}

/// A Unix user belongs to the principal of its own name, unless policy says that it is shared.
fn fits(rule: &Rule, token: &Token) -> Result<(), &'static str> {
    if !rule.shared && token.principal.as_str() != token.user.as_str() {
        return Err(
            "the token's principal is not the user's own, and policy does not share the user",
        );
    }
    Ok(())
}

fn proved(rule: &Rule, user: &UnixUser, evidence: &Evidence, uid: u32) -> Result<Proved, Refusal> {
    let known = match evidence {
        Evidence::None => Err("no proof came with it"),
        Evidence::Unfit(why) => Err(*why),
        Evidence::Peer(peer) if *peer != uid => Err("the client is another user"),
        Evidence::Peer(_) => Ok(Proved::Peer(user.clone().into())),
        Evidence::Token(token) if token.user != *user => Err("the token is another user's"),
        Evidence::Token(token) => fits(rule, token)
            .map(|()| Proved::Token { id: token.id.clone(), principal: token.principal.clone() }),
    };
    match (rule.proof, known) {
        (Demanded::None, known) => Ok(known.unwrap_or(Proved::Not)),
        (_, Err(why)) => Err(Refusal::NotProved(why)),
        (Demanded::Token, Ok(Proved::Peer(_))) => Err(Refusal::NotProved("policy wants a token")),
        (Demanded::Peer, Ok(Proved::Token { .. })) => Err(Refusal::NotProved(WANTS_PEER)),
        (Demanded::TokenOrPeer | Demanded::Token | Demanded::Peer, Ok(proved)) => Ok(proved),
    }
}

/// HOME and `CLAUDE_CONFIG_DIR`.
fn homes(
    policy: &Policy,
    rule: &Rule,
    user: &UnixUser,
    account: &Account,
) -> (AbsolutePath, Option<AbsolutePath>) {
    match (rule.home, own(policy, user, "home"), own(policy, user, "claude")) {
        (Home::Private, Some(home), Some(claude)) => (home, Some(claude)),
        (Home::Private | Home::Real, _, _) => (account.home.clone(), account.config_dir.clone()),
    }
}

/// One of the user's folders that spawnd makes ([`crate::homes`]).
fn own(policy: &Policy, user: &UnixUser, name: &str) -> Option<AbsolutePath> {
    AbsolutePath::new(format!("{}/users/{user}/{name}", policy.config.state)).ok()
}

/// What other users' containers, packages, mail and jobs leave, beside what launch always hides.
const HIDDEN: [&str; 4] = ["/var/lib/lxd", "/var/lib/incus", "/var/snap", "/var/spool"];

/// Without root's rights nothing can be hidden.
fn sandbox(policy: &Policy, rule: &Rule, account: &Account, as_root: bool) -> Sandbox {
    let mut hidden = rule.hidden.0.clone();
    if as_root {
        hidden.extend(HIDDEN.map(fixed));
        hidden.push(policy.config.state.clone());
        if rule.home == Home::Private {
            hidden.push(account.real_home().clone());
        }
    }
    let visible = rule.visible.0.clone();
    Sandbox { demand: policy.config.sandbox, hidden, visible, ptrace: rule.ptrace }
}

/// The workspace below the real path of the first root that contains it, and that root.
fn place(
    rule: &Rule,
    user: &UnixUser,
    account: &Account,
    own: Option<&AbsolutePath>,
    workspace: &AbsolutePath,
) -> Option<(AbsolutePath, AbsolutePath)> {
    let filled = |text: &str, home: &AbsolutePath| {
        let text = text.replace("{home}", home.as_str()).replace("{user}", user.as_str());
        AbsolutePath::new(text.replace("{workspace}", own?.as_str())).ok()
    };
    let placed = rule.roots.0.iter().find_map(|root| {
        let named = filled(&root.named, &account.home)?;
        let real = root.real.clone().or_else(|| filled(&root.named, account.real_home()))?;
        if workspace.is_within(&real) {
            return Some((workspace.clone(), real));
        }
        let below = workspace.as_path().strip_prefix(named.as_path()).ok()?;
        let moved = real.as_path().join(below);
        // Joining an empty path would leave a trailing slash.
        let moved = if below.as_os_str().is_empty() { real.as_path().into() } else { moved };
        Some((AbsolutePath::new(moved.to_str()?).ok()?, real))
    });
    // As a workspace the account's own home would be shown whole, whatever is hidden.
    placed.filter(|(place, _)| rule.home == Home::Real || !account.real_home().is_within(place))
}

#[cfg(test)]
pub(crate) mod tests;
