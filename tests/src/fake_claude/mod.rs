//! A claude that is a script: to `launch` and `channel` it behaves as the interactive CLI does
//! (terminal, dialogs, MCP client, hooks, files, signals), to the test as its messages say
//! ([`crate::directive`]) and as its conf file says (`conf`). It boots at once.
//!
//! | file | duty |
//! |---|---|
//! | `arguments`, `conf` | command line; behaviour at the start |
//! | `boot`, `dialogs`, `screen` | from exec to registration; what stands on the terminal |
//! | `claude` | the one poll |
//! | `turn`, `script`, `tools` | one message |
//! | `server`, `wire` | the channel as a child process; JSON-RPC |
//! | `stage` | where a test can hold it |
//! | `hooks`, `records` | command hooks; debug log, state file, transcript |

mod arguments;
mod boot;
mod claude;
mod clock;
mod conf;
mod dialogs;
mod hooks;
mod records;
mod screen;
mod script;
mod server;
mod stage;
mod sys;
mod terminal;
mod tools;
mod turn;
mod wire;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use arguments::{Arguments, Conversation};
use claude::{Claude, Halt};
use conf::Conf;
use hooks::Hooks;
use records::{Places, Records};
use terminal::Terminal;

/// The release that is imitated.
const VERSION: &str = "2.1.329";
const SERVER: &str = "synthesis";

/// Runs the fake with these arguments; gives the exit status.
pub fn run(arguments: &[String]) -> i32 {
    if let [only] = arguments
        && (only == "--version" || only == "-v")
    {
        print_version();
        return 0;
    }
    let conf = match Conf::load() {
        Ok(conf) => conf,
        Err(error) => return refuse(2, &format!("fake-claude: {error}")),
    };
    if let Some(exit) = &conf.exit_at_start {
        return refuse(exit.status, &exit.text);
    }
    let arguments = match arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(refusal) => return refuse(1, &refusal.to_string()),
    };
    match prepare(conf, arguments) {
        Ok(mut claude) => {
            let ended = claude.boot().and_then(|()| claude.run());
            claude.leave();
            match ended {
                Ok(()) | Err(Halt::Interrupted) => 0,
                Err(Halt::Exit(status)) => status,
            }
        }
        Err(text) => refuse(1, &text),
    }
}

/// What the real CLI checks before it draws anything, in its order; then everything is opened.
fn prepare(conf: Conf, arguments: Arguments) -> Result<Claude, String> {
    let bypasses = arguments.permission_mode == "bypassPermissions" || arguments.skip_permissions;
    let sandboxed = std::env::var_os("IS_SANDBOX").is_some_and(|value| value == "1");
    if bypasses && nix::unistd::geteuid().is_root() && !sandboxed {
        return Err("--dangerously-skip-permissions cannot be used with root/sudo privileges for \
                    security reasons"
            .to_owned());
    }
    let places = places(&arguments)?;
    if matches!(arguments.conversation, Conversation::New(_)) && places.transcript().exists() {
        let id = places.conversation;
        return Err(format!("Error: Session ID {id} is already in use."));
    }
    if !Terminal::present() {
        return Err("Error: Input must be provided either through stdin or as a prompt argument \
                    when using --print"
            .to_owned());
    }
    let instructions = match &arguments.append_system_prompt_file {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|_| {
            format!("Error: Append system prompt file not found: {}", file.display())
        })?),
        None => None,
    };
    let system = |error: std::io::Error| format!("fake-claude: {error}");
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGWINCH];
    let signals = sys::signal_pipe(&signals).map_err(system)?;
    let terminal = Terminal::open().map_err(system)?;
    let hooks = hooks(&conf, &arguments, &places);
    let mut records =
        Records::new(places, &arguments.permission_mode, &arguments.model, conf.transcript);
    if let Some(path) = &arguments.debug_file {
        records.open_debug(path);
    }
    Ok(Claude {
        lost_pushes: conf.deaf_pushes,
        conf,
        arguments,
        instructions,
        terminal,
        signals,
        server: None,
        records,
        hooks,
        name: SERVER.to_owned(),
        registered: false,
        queue: VecDeque::new(),
        keys: Vec::new(),
        escape: false,
        awaited: None,
        answer: None,
        next_id: 2,
        late: Vec::new(),
        reads_terminal: true,
        resized: false,
    })
}

fn places(arguments: &Arguments) -> Result<Places, String> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".claude"));
    let config = std::env::var_os("CLAUDE_CONFIG_DIR").map(PathBuf::from).or_else(home);
    Ok(Places {
        config: config.ok_or("fake-claude: neither CLAUDE_CONFIG_DIR nor HOME is set")?,
        cwd: std::env::current_dir().map_err(|error| format!("fake-claude: {error}"))?,
        conversation: arguments.conversation.id(),
    })
}

fn hooks(conf: &Conf, arguments: &Arguments, places: &Places) -> Hooks {
    let given = arguments.settings.as_deref().map(hooks::settings).unwrap_or_default();
    let user = hooks::settings(&places.config.join("settings.json"));
    let own: Vec<(&'static str, OsString)> =
        vec![("CLAUDECODE", "1".into()), ("CLAUDE_PROJECT_DIR", places.cwd.clone().into())];
    Hooks::new(conf.hooks, given, &user, own)
}

fn refuse(status: i32, text: &str) -> i32 {
    eprintln!("{text}");
    status
}

#[allow(clippy::print_stdout, reason = "--version prints on standard output")]
fn print_version() {
    println!("{VERSION} (Claude Code)");
}
