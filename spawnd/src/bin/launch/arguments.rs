//! claude's arguments and environment: pure, from the plan. Built from nothing; what policy adds
//! comes before what must hold, so that it cannot replace it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;

use proto::ids::AbsolutePath;
use proto::launch::Plan;
use proto::spawn::PermissionMode;

use crate::stop::Stop;

/// What is executed.
#[derive(Debug)]
pub(crate) struct Command {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    /// Becomes claude.
    ///
    /// # Errors
    /// [`Stop::Exec`]; else it does not return.
    pub(crate) fn execute(self) -> Result<Infallible, Stop> {
        nix::unistd::execve(&self.program, &self.arguments, &self.environment).map_err(Stop::Exec)
    }
}

/// `program` is where the plan's name of claude leads; claude is told the name.
///
/// # Errors
/// [`Stop::Zero`] when a text holds a zero byte.
pub(crate) fn command(plan: &Plan, program: &AbsolutePath, resumed: bool) -> Result<Command, Stop> {
    let strings = |texts: Vec<String>| -> Result<Vec<CString>, Stop> {
        texts.into_iter().map(|text| CString::new(text).map_err(|_| Stop::Zero)).collect()
    };
    let environment = environment(plan).into_iter().map(|(name, value)| format!("{name}={value}"));
    Ok(Command {
        program: CString::new(program.as_str()).map_err(|_| Stop::Zero)?,
        arguments: strings(arguments(plan, resumed))?,
        environment: strings(environment.collect())?,
    })
}

fn arguments(plan: &Plan, resumed: bool) -> Vec<String> {
    let folder = &plan.folder;
    let sources = if plan.trust_project_settings { "user,project,local" } else { "user" };
    let mut arguments = vec![plan.claude.to_string()];
    arguments.extend(plan.claude_arguments.iter().cloned());
    let ours = [
        // Takes several values, as --mcp-config and --allowedTools do: each stands before another
        // option, which ends its list.
        "--dangerously-load-development-channels",
        "server:synthesis",
        "--mcp-config",
        &format!("{folder}/mcp.json"),
        "--strict-mcp-config",
        "--setting-sources",
        sources,
        "--settings",
        &format!("{folder}/settings.json"),
        if resumed { "--resume" } else { "--session-id" },
        &plan.conversation.to_string(),
        "--permission-mode",
        plan.permission_mode.as_str(),
    ];
    arguments.extend(ours.map(str::to_owned));
    if plan.permission_mode == PermissionMode::BypassPermissions {
        arguments.push("--dangerously-skip-permissions".to_owned());
    }
    // A rule for the shell holds in plan mode too, and would let it write. Without one the CLI lets
    // pass what only reads, and asks about the rest.
    let planning = plan.permission_mode == PermissionMode::Plan;
    let allowed = plan.allowed_tools.iter().filter(|tool| !(planning && tool.starts_with("Bash")));
    let mut allowed = allowed.cloned().peekable();
    if allowed.peek().is_some() {
        arguments.push("--allowedTools".to_owned());
        arguments.extend(allowed);
    }
    arguments.extend(["--debug-file".to_owned(), format!("{folder}/debug.log")]);
    if plan.instructions.is_some() {
        // Else a resumed conversation would be told again what it was told at its first request.
        arguments.extend(["--system-prompt-snapshot", "off"].map(str::to_owned));
        let file = format!("{folder}/instructions");
        arguments.extend(["--append-system-prompt-file".to_owned(), file]);
    }
    arguments.extend(plan.model.iter().map(|model| format!("--model={model}")));
    arguments
}

fn environment(plan: &Plan) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    // A default that policy may replace …
    set("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned());
    for (name, value) in &plan.environment {
        set(name, value.clone());
    }
    // … and what it may not.
    let folder = &plan.folder;
    set("HOME", plan.home.to_string());
    set("USER", plan.identity.user.to_string());
    set("LOGNAME", plan.identity.user.to_string());
    set("SHELL", plan.identity.shell.clone());
    set("LANG", "C.UTF-8".to_owned());
    set("TERM", "xterm-256color".to_owned());
    set("TMPDIR", format!("{folder}/tmp"));
    set("CLAUDE_CODE_TMPDIR", format!("{folder}/tmp"));
    if let Some(config_dir) = &plan.config_dir {
        set("CLAUDE_CONFIG_DIR", config_dir.to_string());
    }
    // The folder was approved by policy: no trust dialog.
    set("CLAUDE_CODE_SANDBOXED", "1".to_owned());
    set("MCP_PROTOCOL_NEGOTIATION", "legacy".to_owned());
    set("DISABLE_AUTOUPDATER", "1".to_owned());
    set("SYNTHESIS_HOOK_SOCKET", format!("{folder}/hook.sock"));
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proto::ids::{ConversationId, Instructions, ModelName, Secret, SessionId, UnixUser};
    use proto::launch::{Bridge, Demand, Identity, Lifetime, Limits, Sandbox};
    use proto::spawn::TerminalSize;

    pub(crate) fn plan() -> Plan {
        let path = |text: &str| AbsolutePath::new(text).unwrap();
        Plan {
            version: proto::launch::VERSION,
            build: String::new(),
            session: SessionId::new("abcdefghijklmnopqrstuvwxyz").unwrap(),
            conversation: ConversationId("6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11".parse().unwrap()),
            identity: Identity {
                user: UnixUser::new("al").unwrap(),
                uid: 1000,
                gid: 1000,
                groups: Vec::new(),
                shell: "/bin/sh".to_owned(),
                drop_root: false,
            },
            terminal: TerminalSize::new(40, 100).unwrap(),
            workspace: path("/w"),
            workspace_root: path("/w"),
            folder: path("/run/s"),
            home: path("/home/al"),
            config_dir: None,
            claude: path("/bin/claude"),
            claude_arguments: vec!["--ide".to_owned()],
            channel: path("/opt/it's/channel"),
            permission_mode: PermissionMode::AcceptEdits,
            model: Some(ModelName::new("opus").unwrap()),
            allowed_tools: vec!["Read".to_owned(), "mcp__synthesis__*".to_owned()],
            hooks: true,
            instructions: None,
            private_home: false,
            trust_project_settings: false,
            environment: Vec::new(),
            lifetime: Lifetime::EndsWithSpawnd,
            limits: Limits { open_files: 1024, tmp_bytes: 1 << 20, tmp_inodes: 100 },
            sandbox: Sandbox {
                demand: Demand::BestEffort,
                hidden: Vec::new(),
                visible: Vec::new(),
                ptrace: false,
            },
            bridge: Bridge {
                socket: path("/run/bridge.sock"),
                frontd_uid: 7,
                secret: Secret::random(),
            },
        }
    }

    #[test]
    fn the_argument_list_is_the_agreed_one() {
        let expected = "/bin/claude --ide --dangerously-load-development-channels server:synthesis \
            --mcp-config /run/s/mcp.json --strict-mcp-config --setting-sources user --settings \
            /run/s/settings.json --session-id 6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11 \
            --permission-mode acceptEdits --allowedTools Read mcp__synthesis__* --debug-file \
            /run/s/debug.log --model=opus";
        assert_eq!(arguments(&plan(), false).join(" "), expected);
        let resumed = expected.replace("--session-id", "--resume");
        assert_eq!(arguments(&plan(), true).join(" "), resumed);
    }

    #[test]
    fn permissions_are_skipped_only_when_asked_for() {
        let skip = "--dangerously-skip-permissions".to_owned();
        assert!(!arguments(&plan(), false).contains(&skip));
        let mut bypass = plan();
        bypass.permission_mode = PermissionMode::BypassPermissions;
        assert!(arguments(&bypass, false).contains(&skip));
    }

    #[test]
    fn instructions_are_named_by_their_file() {
        let mut told = plan();
        told.instructions = Instructions::new("Be kind.".to_owned()).ok();
        let arguments = arguments(&told, false).join(" ");
        let file = "--system-prompt-snapshot off --append-system-prompt-file /run/s/instructions";
        assert!(arguments.contains(file), "{arguments}");
        assert!(!arguments.contains("kind"), "others can read arguments");
    }

    #[test]
    fn in_plan_mode_no_rule_lets_the_shell_write() {
        let mut plan = plan();
        plan.permission_mode = PermissionMode::Plan;
        plan.allowed_tools = ["Bash", "Read", "Bash(*)"].map(str::to_owned).into();
        assert!(arguments(&plan, false).join(" ").contains("--allowedTools Read --debug-file"));
        plan.allowed_tools = vec!["Bash".to_owned()];
        assert!(!arguments(&plan, false).contains(&"--allowedTools".to_owned()));
        plan.permission_mode = PermissionMode::Manual;
        assert!(arguments(&plan, false).join(" ").contains("--allowedTools Bash --debug-file"));
    }

    #[test]
    fn no_secret_is_in_arguments_or_environment() {
        let plan = plan();
        let secret = plan.bridge.secret.expose();
        assert!(!arguments(&plan, false).iter().any(|text| text.contains(secret)));
        let environment = environment(&plan);
        assert!(!environment.values().any(|text| text.contains(secret)));
        assert!(!environment.contains_key("NOTIFY_SOCKET"));
    }

    #[test]
    fn policy_may_set_path_but_not_home() {
        let mut plan = plan();
        plan.environment = vec![
            ("HOME".to_owned(), "/evil".to_owned()),
            ("PATH".to_owned(), "/opt/bin".to_owned()),
        ];
        let environment = environment(&plan);
        assert_eq!(environment.get("HOME").unwrap(), "/home/al");
        assert_eq!(environment.get("PATH").unwrap(), "/opt/bin");
    }

    #[test]
    fn a_zero_byte_is_no_argument() {
        let mut plan = plan();
        plan.environment = vec![("A".to_owned(), "x\0y".to_owned())];
        assert!(matches!(command(&plan, &plan.claude, false), Err(Stop::Zero)));
    }
}
