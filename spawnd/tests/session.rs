//! The life of a session: what claude finds, what is told of its end, what is left afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use common::{Daemon, Place, Terminal, Watched, fresh_conversation, is_root, path, user};
use nix::sys::signal::Signal as Unix;
use nix::unistd::User;
use proto::ids::{Instructions, ModelName, UnixUser};
use proto::spawn::{
    Answer, Call, Event, ExitCause, ListedState, PermissionMode, RefusalCode, Signal,
};

fn session_uid() -> u32 {
    User::from_name(user().as_str())
        .unwrap()
        .map_or_else(|| nix::unistd::geteuid().as_raw(), |u| u.uid.as_raw())
}

#[test]
fn an_exit_is_told_with_its_code_and_cost_and_kept_until_forget() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7");
    let started = client.spawn(&daemon.request());
    let (cause, usage) = client.exit_of(&started.session);
    assert_eq!(cause, ExitCause::Code { code: 7 });
    assert!(usage.user_micros + usage.system_micros > 0 && usage.max_rss_kib > 0);
    let listed = client.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, ListedState::Exited { cause, usage });
    let forget = || Call::Forget { session: started.session.clone() };
    assert_eq!(client.call(forget()).0, Answer::Done {});
    assert_eq!(client.refusal(forget()).0, RefusalCode::NoSession);
    assert_eq!(client.list(), []);
}

#[test]
fn a_killed_claude_is_told_by_its_signal() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("kill -SEGV $$");
    let started = client.spawn(&daemon.request());
    assert_eq!(client.exit_of(&started.session).0, ExitCause::Signal { signal: 11 });
}

#[test]
fn claude_finds_the_agreed_world() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act(
        "env > env.txt; printf '%s\\n' \"$@\" > args.txt; cat /proc/self/status > status.txt
         cat /proc/self/limits > limits.txt; stty size > size.txt; tty > tty.txt; umask > umask.txt
         ls /proc/self/fd > fds.txt; stat -c '%a %u' $(tty) > mode.txt
         cp \"$TMPDIR/../mcp.json\" \"$TMPDIR/../settings.json\" .
         stat -c '%a' \"$TMPDIR/../mcp.json\" \"$TMPDIR/../notify\" \"$TMPDIR/..\" > modes.txt
         ps -o pid=,sid=,tpgid= -p $$ > ps.txt; echo done; exec cat",
    );
    let mut request = daemon.request();
    request.model = Some(ModelName::new("opus").unwrap());
    let mut started = client.spawn(&request);
    started.terminal.line("done");
    let read = |name: &str| fs::read_to_string(daemon.place.workspace().join(name)).unwrap();

    let status = read("status.txt");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), vec![session_uid().to_string(); 4]);
    assert_ne!(session_uid(), 0);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"]);
    }
    assert_eq!(field("SigBlk:"), ["0000000000000000"]);
    // 32 and 33 are the C library's own, which posix_spawn(3) ignores on its way.
    let ignored = u64::from_str_radix(&field("SigIgn:").concat(), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field("CapBnd:"), ["0000000000000000"]);
        assert!(field("Groups:").is_empty());
    }

    // ls has 3 for the folder that it lists.
    assert_eq!(read("fds.txt").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    assert_eq!(read("size.txt").trim(), "33 101");
    assert_eq!(read("mode.txt").trim(), format!("600 {}", session_uid()));
    assert!(read("tty.txt").starts_with("/dev/pts/"));
    assert_eq!(read("umask.txt").trim(), "0077");
    assert_eq!(read("modes.txt").split_whitespace().collect::<Vec<_>>(), ["600", "600", "700"]);
    assert!(read("limits.txt").contains("Max core file size        1                    1"));

    let args: Vec<String> = read("args.txt").lines().map(str::to_owned).collect();
    let uuid = request.conversation.to_string();
    assert!(args.windows(2).any(|pair| pair == ["--session-id", uuid.as_str()]));
    assert_eq!(args.last().unwrap(), "--model=opus");
    let env = read("env.txt");
    assert!(env.contains("ANTHROPIC_API_KEY=key-of-the-test\n"));
    assert!(env.contains(&format!("HOME={}\n", daemon.place.home().display())));
    assert!(!env.contains("SYNTHESIS_STATE_DIR") && !env.contains("LD_PRELOAD"));
    let secret = request.secret.expose();
    assert!(!env.contains(secret) && !read("args.txt").contains(secret));
    assert!(read("mcp.json").contains(secret));
    assert!(read("settings.json").contains("/bin/true' hook Stop"));
    let frontd_uid = nix::unistd::geteuid();
    assert!(read("mcp.json").contains(&format!("\"SYNTHESIS_FRONTD_UID\":\"{frontd_uid}\"")));
}

#[test]
fn instructions_are_a_file_that_is_the_users_alone() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act(
        "printf '%s\\n' \"$@\" > args.txt; env > env.txt; f=\"$TMPDIR/../instructions\"
         cp \"$f\" . ; stat -c '%a %u' \"$f\" > mode.txt; echo done; exec cat",
    );
    let text = "Answer in \"French\".\n\u{1b}[2J 終\n";
    let mut request = daemon.request();
    request.instructions = Instructions::new(text.to_owned()).ok();
    client.spawn(&request).terminal.line("done");
    let read = |name: &str| fs::read_to_string(daemon.place.workspace().join(name)).unwrap();
    assert_eq!(read("instructions"), text);
    assert_eq!(read("mode.txt").trim(), format!("600 {}", session_uid()));
    let args: Vec<String> = read("args.txt").lines().map(str::to_owned).collect();
    let named = |pair: &[String]| {
        pair[0] == "--append-system-prompt-file" && pair[1].ends_with("/instructions")
    };
    assert!(args.windows(2).any(named), "{args:?}");
    assert!(!read("args.txt").contains("French") && !read("env.txt").contains("French"));
    // The next one is told nothing.
    daemon.act("ls \"$TMPDIR/..\" > files.txt; echo done; exec cat");
    client.spawn(&daemon.request()).terminal.line("done");
    assert!(!read("files.txt").contains("instructions"), "{}", read("files.txt"));
}

#[test]
fn a_session_id_and_a_conversation_are_used_by_one_process() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("exec cat");
    let request = daemon.request();
    let started = client.spawn(&request);
    assert_eq!(client.spawn_refused(&request).0, RefusalCode::StillRunning);
    let mut other = daemon.request();
    other.conversation = request.conversation;
    assert_eq!(client.spawn_refused(&other).0, RefusalCode::StillRunning);
    client.signal(&started.session, Signal::Kill);
    client.exit_of(&started.session);
    assert_eq!(client.spawn_refused(&request).0, RefusalCode::StillRunning);
    client.spawn(&other);
}

#[test]
fn what_policy_does_not_name_is_refused_and_leaves_nothing() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("exec cat");
    let mut root = daemon.request();
    root.user = UnixUser::new("root").unwrap();
    assert_eq!(client.spawn_refused(&root).0, RefusalCode::UserNotAllowed);
    let mut outside = daemon.request();
    outside.workspace = path(Path::new("/etc"));
    let (code, message) = client.spawn_refused(&outside);
    assert_eq!(code, RefusalCode::WorkspaceNotAllowed);
    assert!(message.contains("/etc"));
    assert_eq!(client.list(), []);
    assert!(daemon.place.sessions().is_empty());
}

#[test]
fn an_unusable_workspace_is_refused_by_name() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    let workspace = daemon.place.workspace();
    daemon.act("exec cat");
    fs::write(workspace.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/", workspace.join("link")).unwrap();
    std::os::unix::fs::symlink("/proc/self/cwd", workspace.join("magic")).unwrap();
    fs::create_dir(workspace.join("open")).unwrap();
    fs::set_permissions(workspace.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(workspace.join("open/inner")).unwrap();
    for unusable in ["missing", "file", "link", "link/etc", "magic", "open/inner"] {
        let mut request = daemon.request();
        request.workspace = path(&workspace.join(unusable));
        let (code, message) = client.spawn_refused(&request);
        assert_eq!(code, RefusalCode::WorkspaceUnusable, "{unusable}: {message}");
        assert!(message.contains(request.workspace.as_str()), "{message}");
        // Nothing was changed: the conversation is free.
        let mut usable = daemon.request();
        usable.conversation = request.conversation;
        let started = client.spawn(&usable);
        client.signal(&started.session, Signal::Kill);
        client.exit_of(&started.session);
    }
}

#[test]
fn the_workspace_of_another_user_is_refused() {
    if !is_root("the_workspace_of_another_user_is_refused") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    let theirs = daemon.place.workspace().join("theirs");
    fs::create_dir(&theirs).unwrap();
    for owner in [0, 4242] {
        let mut request = daemon.request();
        request.workspace = path(&theirs);
        std::os::unix::fs::chown(&theirs, Some(owner), Some(owner)).unwrap();
        let (code, message) = client.spawn_refused(&request);
        assert_eq!(code, RefusalCode::WorkspaceUnusable);
        assert!(message.contains(&format!("uid {owner}")), "{message}");
    }
}

#[test]
fn a_claude_that_cannot_be_executed_is_missing() {
    let place = Place::new();
    let (daemon, mut client) = Daemon::paired(place);
    let claude = daemon.place.path.join("claude");
    daemon.act("exec cat");
    fs::set_permissions(&claude, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(client.spawn_refused(&daemon.request()).0, RefusalCode::ClaudeMissing);
    fs::remove_file(&claude).unwrap();
    let (code, message) = client.spawn_refused(&daemon.request());
    assert_eq!(code, RefusalCode::ClaudeMissing);
    assert!(message.contains(claude.to_str().unwrap()));
    fs::create_dir(&claude).unwrap();
    assert_eq!(client.spawn_refused(&daemon.request()).0, RefusalCode::ClaudeMissing);
    fs::remove_dir(&claude).unwrap();
    // Found and executable, and yet exec fails, after the record was written.
    daemon.place.script("other", "");
    fs::write(&claude, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(client.spawn_refused(&daemon.request()).0, RefusalCode::ClaudeMissing);
    assert_eq!(client.list(), []);
    // One that is installed later is found.
    fs::remove_file(&claude).unwrap();
    daemon.place.script("claude", "exec sh ./act.sh");
    client.spawn(&daemon.request());
}

#[test]
fn a_dot_or_underscore_in_the_workspace_does_not_break_resume() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    let workspace = daemon.place.workspace().join("my_app.v2 \u{1f600}");
    fs::create_dir(&workspace).unwrap();
    give(&workspace);
    fs::write(workspace.join("act.sh"), "echo \"args $*\"; exec cat").unwrap();
    let mut request = daemon.request();
    request.workspace = path(&workspace);
    let mut first = client.spawn(&request);
    assert!(!first.resumed);
    assert!(first.terminal.line("args ").contains("--session-id"));
    client.signal(&first.session, Signal::Kill);
    client.exit_of(&first.session);

    // As the CLI names it.
    let slug: String = workspace
        .to_str()
        .unwrap()
        .encode_utf16()
        .map(|unit| {
            u8::try_from(unit).ok().filter(u8::is_ascii_alphanumeric).map_or('-', char::from)
        })
        .collect();
    let projects = daemon.place.home().join(".claude/projects").join(slug);
    fs::create_dir_all(&projects).unwrap();
    let message = "{\"type\":\"user\",\"message\":{}}\n";
    fs::write(projects.join(format!("{}.jsonl", request.conversation)), message).unwrap();
    let mut again = daemon.request();
    (again.workspace, again.conversation) = (request.workspace, request.conversation);
    let mut second = client.spawn(&again);
    assert!(second.resumed);
    let args = second.terminal.line("args ");
    assert!(
        args.contains(&format!("--resume {}", again.conversation))
            && !args.contains("--session-id")
    );
    // Another conversation in the same folder is new.
    let mut other = daemon.request();
    other.workspace = again.workspace;
    assert!(!client.spawn(&other).resumed);
}

/// To the session's user, when that is another one.
fn give(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        let owner = User::from_name(user().as_str()).unwrap().unwrap();
        std::os::unix::fs::chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
}

#[test]
fn a_claude_that_ignores_term_is_killed_and_int_alone_kills_nobody() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("trap '' TERM; trap 'echo interrupted' INT; echo up; while :; do read x; done");
    let mut started = client.spawn(&daemon.request());
    started.terminal.line("up");
    client.signal(&started.session, Signal::Int);
    started.terminal.line("interrupted");
    client.signal(&started.session, Signal::Term);
    client.signal(&started.session, Signal::Term);
    assert_eq!(client.exit_of(&started.session).0, ExitCause::Signal { signal: 9 });
}

#[test]
fn a_claude_that_obeys_term_ends_by_itself() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("trap 'exit 143' TERM; echo up; while :; do read x; done");
    let mut started = client.spawn(&daemon.request());
    started.terminal.line("up");
    client.signal(&started.session, Signal::Term);
    assert_eq!(client.exit_of(&started.session).0, ExitCause::Code { code: 143 });
}

const DAEMONS: &str = "
    setsid sh -c 'trap \"\" HUP TERM INT; sleep 1000 & echo plain $!; wait' > $TTY 2>&1 < /dev/null &
    ( setsid env -i /bin/sh -c 'trap \"\" HUP; (sleep 1000 & echo hidden $!) ' > $TTY 2>&1 < /dev/null & )
    sh -c 'sleep 1000 & echo child $!; wait' &
    echo up";

#[test]
fn nothing_that_a_session_started_outlives_its_exit() {
    for end in ["exit 3", "kill -KILL $$", "exec cat"] {
        let (daemon, mut client) = Daemon::paired(Place::new());
        daemon.act(
            &format!("TTY=$(tty) {DAEMONS}\nread go\n{end}").replace("TTY=$(tty) ", "TTY=$(tty)\n"),
        );
        let mut started = client.spawn(&daemon.request());
        let terminal = &mut started.terminal;
        let processes =
            [terminal.process("plain "), terminal.process("hidden "), terminal.process("child ")];
        assert!(!processes.iter().any(Watched::has_ended));
        terminal.type_in("go\n");
        if end == "exec cat" {
            client.signal(&started.session, Signal::Kill);
        }
        client.exit_of(&started.session);
        // Not "soon": before the exit was told.
        assert!(processes.iter().all(Watched::has_ended), "{end}");
    }
}

#[test]
fn the_end_of_a_session_spares_the_daemons_of_another() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act(&format!("TTY=$(tty)\n{DAEMONS}\nexec cat"));
    let mut one = client.spawn(&daemon.request());
    let ones = [one.terminal.process("plain "), one.terminal.process("hidden ")];
    let mut two = client.spawn(&daemon.request());
    let twos = [two.terminal.process("plain "), two.terminal.process("hidden ")];
    client.signal(&one.session, Signal::Kill);
    client.exit_of(&one.session);
    assert!(ones.iter().all(Watched::has_ended));
    assert!(!twos.iter().any(Watched::has_ended));
    client.signal(&two.session, Signal::Kill);
    client.exit_of(&two.session);
    assert!(twos.iter().all(Watched::has_ended));
}

#[test]
fn a_leader_can_be_adopted_by_the_next_frontd() {
    let daemon = Daemon::listening(Place::new());
    let mut first = daemon.client();
    daemon.act("while read line; do echo \"got $line\"; done");
    let started = first.spawn(&daemon.request());
    let session = started.session.clone();
    drop((first, started));
    let mut second = daemon.client();
    let listed = second.list();
    assert!(matches!(listed[0].state, ListedState::Running { resumed: false, ready: None, .. }));
    let (answer, fds) = second.call(Call::Adopt { session: session.clone() });
    assert_eq!(answer, Answer::Adopted { session: session.clone() });
    let [leader] = fds.try_into().unwrap();
    let mut terminal = Terminal::new(leader);
    terminal.type_in("hello\n");
    assert_eq!(terminal.line("got "), "hello");
    second.signal(&session, Signal::Kill);
    second.exit_of(&session);
    assert_eq!(second.refusal(Call::Adopt { session }).0, RefusalCode::NoSession);
}

#[test]
fn an_exit_while_nobody_is_connected_is_told_by_list() {
    let daemon = Daemon::listening(Place::new());
    let mut first = daemon.client();
    daemon.act("read x; exit 4");
    let started = first.spawn(&daemon.request());
    let claude = Watched::open(started.pid);
    drop(first);
    started.terminal.type_in("go\n");
    claude.wait_for_end();
    let mut second = daemon.client();
    let exited = |state: &ListedState| {
        matches!(state, ListedState::Exited { cause: ExitCause::Code { code: 4 }, .. })
    };
    if !exited(&second.list()[0].state) {
        second.exit_of(&started.session);
    }
    assert!(exited(&second.list()[0].state));
}

/// Not a test of its own: what a session runs to say READY=1.
#[test]
fn as_channel() {
    let Some(socket) = std::env::var_os("TEST_NOTIFY") else { return };
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"READY=1", socket).unwrap();
    println!("\nsaid {}", std::process::id());
    // channel lives on: a sender that is gone proves nothing.
    std::io::Read::read(&mut std::io::stdin(), &mut [0; 1]).unwrap();
}

#[test]
fn only_a_process_of_the_session_can_say_ready() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    let helper = daemon.place.workspace().join("helper");
    let copied = std::process::Command::new("cp")
        .arg(std::env::current_exe().unwrap())
        .arg(&helper)
        .status();
    assert!(copied.unwrap().success());
    daemon.act(&format!(
        "echo up; read go; TEST_NOTIFY=\"$TMPDIR/../notify\" {} --exact as_channel --nocapture",
        helper.display()
    ));
    let request = daemon.request();
    let mut started = client.spawn(&request);
    started.terminal.line("up");
    let folder = daemon.place.sessions().pop().unwrap();
    // Root's stays root's: inside, the session's own tmpfs lies over it.
    assert_eq!(fs::metadata(&folder).unwrap().uid(), nix::unistd::geteuid().as_raw());

    // A foreign process, though of the same uid (or root): read first, and dropped.
    let foreign = UnixDatagram::unbound().unwrap();
    foreign.set_nonblocking(true).unwrap();
    foreign.send_to(b"READY=1", folder.join("notify")).unwrap();
    for noise in [&b""[..], &[b'x'; 4000], b"READY=1\0"] {
        let _ = foreign.send_to(noise, folder.join("notify"));
    }
    started.terminal.type_in("go\n");
    let pid: u32 = started.terminal.line("said ").parse().unwrap();
    assert_ne!(pid, started.pid);
    assert_eq!(client.event(), Event::Ready { session: request.session.clone(), pid });
    let state = client.list().remove(0).state;
    assert_eq!(state, ListedState::Running { pid: started.pid, resumed: false, ready: Some(pid) });
}

#[test]
fn the_end_of_the_dev_peer_ends_every_session() {
    let (mut daemon, mut client) = Daemon::paired(Place::new());
    daemon.act(&format!("TTY=$(tty)\n{DAEMONS}\ntrap '' TERM HUP INT; while :; do read x; done"));
    let mut started = client.spawn(&daemon.request());
    let processes = [
        Watched::open(started.pid),
        started.terminal.process("plain "),
        started.terminal.process("hidden "),
    ];
    drop(client);
    assert!(daemon.wait().success());
    assert!(processes.iter().all(Watched::has_ended));
    assert!(daemon.place.sessions().is_empty());
}

#[test]
fn sigterm_ends_every_session_and_the_daemon() {
    let mut daemon = Daemon::listening(Place::new());
    let mut client = daemon.client();
    daemon.act("trap '' TERM HUP INT; echo up; while :; do read x; done");
    let mut started: Vec<_> = (0..3).map(|_| client.spawn(&daemon.request())).collect();
    for session in &mut started {
        session.terminal.line("up");
    }
    daemon.kill(Unix::SIGTERM);
    for session in &started {
        assert_eq!(client.exit_of(&session.session).0, ExitCause::Signal { signal: 9 });
    }
    assert!(daemon.wait().success());
    assert!(daemon.place.sessions().is_empty());
}

#[test]
fn sigkill_of_spawnd_leaves_no_claude_and_the_next_start_no_rest() {
    let mut daemon = Daemon::listening(Place::new());
    let mut client = daemon.client();
    daemon.act(&format!("TTY=$(tty)\n{DAEMONS}\ntrap '' TERM HUP INT; while :; do read x; done"));
    let mut started = client.spawn(&daemon.request());
    let claude = Watched::open(started.pid);
    let hidden = started.terminal.process("hidden ");
    daemon.kill(Unix::SIGKILL);
    daemon.wait();
    claude.wait_for_end();

    assert_eq!(daemon.place.sessions().len(), 1);
    let place = Place { path: std::mem::take(&mut daemon.place.path) };
    let mut next = Daemon::listening(place);
    next.client().list();
    hidden.wait_for_end();
    next.kill(Unix::SIGTERM);
    assert!(next.wait().success());
    assert!(next.place.sessions().is_empty());
}

#[test]
fn a_session_that_spoils_its_folder_is_swept_all_the_same() {
    let (mut daemon, mut client) = Daemon::paired(Place::new());
    let kept = daemon.place.workspace().join("kept");
    fs::write(&kept, "kept").unwrap();
    daemon.act(
        "cd \"$TMPDIR\"; i=0; while [ $i -lt 300 ]; do mkdir d; cd -P d; i=$((i+1)); done
         cd \"$TMPDIR\"; ln -s \"$OLDPWD\" up; ln -s /etc etc; mkdir shut; touch shut/x; chmod 0 shut
         cd ..; rm notify mcp.json; ln -s /etc mcp.json; mkdir notify; exit 0",
    );
    let started = client.spawn(&daemon.request());
    assert_eq!(client.exit_of(&started.session).0, ExitCause::Code { code: 0 });
    drop(client);
    assert!(daemon.wait().success());
    assert!(daemon.place.sessions().is_empty());
    assert_eq!(fs::read(kept).unwrap(), b"kept");
}

#[test]
fn every_permission_mode_of_the_cli_is_passed_on() {
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("echo \"args $*\"; exec cat");
    for mode in [PermissionMode::BypassPermissions, PermissionMode::Plan, PermissionMode::Manual] {
        let mut request = daemon.request();
        request.permission_mode = mode;
        request.conversation = fresh_conversation();
        let args = client.spawn(&request).terminal.line("args ");
        assert!(args.contains(&format!("--permission-mode {}", mode.as_str())));
        let skips = args.contains("--dangerously-skip-permissions");
        assert_eq!(skips, mode == PermissionMode::BypassPermissions);
    }
}

#[test]
fn a_second_daemon_in_the_same_state_folder_does_not_start() {
    let daemon = Daemon::listening(Place::new());
    daemon.client().list();
    let socket = daemon.place.path.join("second.sock");
    let second = daemon.place.spawnd(&["--socket", socket.to_str().unwrap()]).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another spawnd uses"));
}
