//! The files of the session's folder that claude starts with: its MCP server, which is channel
//! with the session's secret, its settings, which are our hooks, and what it is told beside the
//! CLI's own prompt. 0600, the user's.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{AccessFlags, Gid, Uid, eaccess, fchown};
use proto::ids::AbsolutePath;
use proto::launch::Plan;
use serde_json::{Value, json};

use crate::stop::Stop;

/// Where the names of claude and channel lead, with the user's rights and before anything is
/// hidden: inside, only the files themselves are shown, not the links to them.
///
/// # Errors
/// [`Stop::Claude`] or [`Stop::Channel`].
pub(crate) fn resolve(plan: &mut Plan) -> Result<AbsolutePath, Stop> {
    let real = |path: &AbsolutePath| {
        let real = std::fs::canonicalize(path.as_path());
        let real = real.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        let text = real.to_str().ok_or(Errno::EILSEQ)?;
        AbsolutePath::new(text).map_err(|_| Errno::EINVAL)
    };
    plan.channel =
        real(&plan.channel).map_err(|errno| Stop::Channel { path: plan.channel.clone(), errno })?;
    real(&plan.claude).map_err(|errno| Stop::Claude { path: plan.claude.clone(), errno })
}

/// Looked at before anything is started, as the user who must run them, where they will run.
///
/// # Errors
/// [`Stop::Claude`] or [`Stop::Channel`].
pub(crate) fn check_executables(plan: &Plan, program: &AbsolutePath) -> Result<(), Stop> {
    let check = |path: &AbsolutePath| {
        eaccess(path.as_path(), AccessFlags::X_OK)?;
        // A folder is "executable" as well.
        if path.as_path().is_file() { Ok(()) } else { Err(Errno::EACCES) }
    };
    check(program).map_err(|errno| Stop::Claude { path: plan.claude.clone(), errno })?;
    check(&plan.channel).map_err(|errno| Stop::Channel { path: plan.channel.clone(), errno })
}

/// Without a private world the session's folder is the user's own on the host.
///
/// # Errors
/// [`Stop::File`].
pub(crate) fn give_folder(plan: &Plan) -> Result<(), Stop> {
    if !plan.identity.drop_root {
        return Ok(());
    }
    let failed = |errno| Stop::File { name: ".", errno };
    let folder = open_folder(plan)?;
    fchmod(&folder, Mode::S_IRWXU).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(plan.identity.uid), Gid::from_raw(plan.identity.gid));
    fchown(&folder, Some(uid), Some(gid)).map_err(failed)
}

/// # Errors
/// [`Stop::File`]. The folder is new: what is there already is not ours and stops the walk.
pub(crate) fn write(plan: &Plan) -> Result<(), Stop> {
    let folder = open_folder(plan)?;
    match mkdirat(&folder, "tmp", Mode::S_IRWXU) {
        // The private world has made it.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Stop::File { name: "tmp", errno }),
    }
    create(&folder, "mcp.json", &mcp(plan).to_string())?;
    create(&folder, "settings.json", &settings(plan).to_string())?;
    if let Some(instructions) = &plan.instructions {
        create(&folder, "instructions", instructions.expose())?;
    }
    match &plan.config_dir {
        Some(config) if plan.private_home => set_up(config),
        Some(_) | None => Ok(()),
    }
}

/// What the CLI asks of a new user (a theme) nobody is there to answer. Whoever has set it up keeps
/// what is there.
fn set_up(config: &AbsolutePath) -> Result<(), Stop> {
    const NAME: &str = ".claude.json";
    let folder = open_at(config).map_err(|errno| Stop::File { name: NAME, errno })?;
    match create(&folder, NAME, &json!({ "hasCompletedOnboarding": true }).to_string()) {
        Err(Stop::File { errno: Errno::EEXIST, .. }) => Ok(()),
        made => made,
    }
}

fn open_folder(plan: &Plan) -> Result<OwnedFd, Stop> {
    open_at(&plan.folder).map_err(|errno| Stop::File { name: ".", errno })
}

fn open_at(folder: &AbsolutePath) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(folder.as_path(), flags, Mode::empty())
}

fn create(folder: &OwnedFd, name: &'static str, content: &str) -> Result<(), Stop> {
    let failed = |errno| Stop::File { name, errno };
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file =
        openat(folder.as_fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    File::from(file)
        .write_all(content.as_bytes())
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))
}

fn mcp(plan: &Plan) -> Value {
    let folder = &plan.folder;
    json!({ "mcpServers": { "synthesis": {
        "type": "stdio",
        "command": plan.channel,
        "args": [],
        // Or its tools hide behind ToolSearch.
        "alwaysLoad": true,
        // Reaches this one server, never claude's tools or hooks: the place for the secret, which
        // leaves here, into a file of the session's user.
        "env": {
            "SYNTHESIS_WS_URL": format!("unix:{}", plan.bridge.socket),
            "SYNTHESIS_OPENCLAW_SESSION": plan.session,
            "SYNTHESIS_CLAUDE_SESSION": plan.conversation,
            "SYNTHESIS_BRIDGE_TOKEN": plan.bridge.secret.expose(),
            "SYNTHESIS_FRONTD_UID": plan.bridge.frontd_uid.to_string(),
            "SYNTHESIS_DEBUG_FILE": format!("{folder}/debug.log"),
            "SYNTHESIS_HOOK_SOCKET": format!("{folder}/hook.sock"),
            "SYNTHESIS_HOOKS": if plan.hooks { "1" } else { "0" },
            "NOTIFY_SOCKET": format!("{folder}/notify"),
        },
    } } })
}

/// The tools whose use is reported: all but our own reply, which tells of itself. Its two hooks
/// would hold up every answer by as many processes.
const TOOLS: &str = "^(?!mcp__synthesis__reply$)";

fn settings(plan: &Plan) -> Value {
    let hook = |event: &'static str| {
        let command = format!("{} hook {event}", quoted(plan.channel.as_str()));
        let mut entry = json!({ "hooks": [{ "type": "command", "command": command }] });
        // Hooks of tools say for which. Permission is asked for all: plan mode asks for our own.
        if matches!(event, "PreToolUse" | "PostToolUse" | "PostToolUseFailure") {
            entry["matcher"] = TOOLS.into();
        }
        (event.to_owned(), json!([entry]))
    };
    let mut settings = json!({
        "skipDangerousModePermissionPrompt": true,
        // Else plan mode leaves each request to a classifier that first wants a notice read.
        "useAutoModeDuringPlan": false,
    });
    if plan.hooks {
        settings["hooks"] = proto::hook::INSTALLED.into_iter().map(hook).collect();
    }
    settings
}

/// For a shell, whatever the path holds.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    #[test]
    fn the_mcp_file_is_the_agreed_one() {
        let plan = plan();
        let expected = json!({"mcpServers": {"synthesis": {
        "type": "stdio", "command": "/opt/it's/channel", "args": [], "alwaysLoad": true,
        "env": {
            "SYNTHESIS_WS_URL": "unix:/run/bridge.sock",
            "SYNTHESIS_OPENCLAW_SESSION": "abcdefghijklmnopqrstuvwxyz",
            "SYNTHESIS_CLAUDE_SESSION": "6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11",
            "SYNTHESIS_BRIDGE_TOKEN": plan.bridge.secret.expose(),
            "SYNTHESIS_FRONTD_UID": "7",
            "SYNTHESIS_DEBUG_FILE": "/run/s/debug.log",
            "SYNTHESIS_HOOK_SOCKET": "/run/s/hook.sock",
            "SYNTHESIS_HOOKS": "1",
            "NOTIFY_SOCKET": "/run/s/notify",
        }}}});
        assert_eq!(mcp(&plan), expected);
    }

    #[test]
    fn a_private_home_is_set_up_once_and_never_again() {
        let folder = std::env::temp_dir().join(format!("set-up-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let config = AbsolutePath::new(folder.to_str().unwrap()).unwrap();
        let file = folder.join(".claude.json");
        let read = || std::fs::read_to_string(&file).unwrap();
        set_up(&config).unwrap();
        assert_eq!(read(), r#"{"hasCompletedOnboarding":true}"#);
        std::fs::write(&file, "theirs").unwrap();
        set_up(&config).unwrap();
        assert_eq!(read(), "theirs");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/nonexistent/elsewhere", &file).unwrap();
        set_up(&config).unwrap();
        assert!(!file.exists(), "a link is not followed");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn every_installed_hook_runs_channel_quoted_for_the_shell() {
        let settings = settings(&plan());
        assert_eq!(settings["skipDangerousModePermissionPrompt"], json!(true));
        for event in proto::hook::INSTALLED {
            let command = &settings["hooks"][event][0]["hooks"][0]["command"];
            assert_eq!(*command, json!(format!(r"'/opt/it'\''s/channel' hook {event}")));
        }
        for event in ["PreToolUse", "PostToolUse", "PostToolUseFailure"] {
            assert_eq!(settings["hooks"][event][0]["matcher"], json!(TOOLS));
        }
        for event in ["PermissionRequest", "Stop", "MessageDisplay"] {
            assert_eq!(settings["hooks"][event][0].get("matcher"), None);
        }
    }

    #[test]
    fn without_hooks_there_is_no_hooks_key() {
        let mut plan = plan();
        plan.hooks = false;
        assert_eq!(settings(&plan).get("hooks"), None);
        assert_eq!(settings(&plan)["useAutoModeDuringPlan"], json!(false));
        assert_eq!(mcp(&plan)["mcpServers"]["synthesis"]["env"]["SYNTHESIS_HOOKS"], "0");
    }
}
