//! A spawnd of one's own, with a shell script as claude, and a client to talk to it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal as Unix;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, shutdown, socket, socketpair,
};
use nix::unistd::{Pid, Uid};
use proto::ids::{AbsolutePath, ConversationId, Secret, SessionId, UnixUser};
use proto::limits;
use proto::spawn::{
    Answer, Call, Event, ExitCause, FromFrontd, FromSpawnd, Listed, PermissionMode, Proof,
    RefusalCode, Signal, Spawn, TerminalSize, Usage, VERSION, decode, encode,
};
use spawnd::sys;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// May a test that needs root run? It says why not, and fails where everything must run.
pub(crate) fn is_root(test: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs root");
        // Not eprintln, which the test harness hides when a test passes.
        let line = format!("SKIPPED: {test} needs root\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    root
}

/// A folder that the session's user can reach, removed at the end.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/spawnd-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { path };
        for folder in [place.workspace(), place.home()] {
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&folder, Some(account().0), Some(account().1)).unwrap();
        }
        place.script("claude", "exec sh ./act.sh \"$@\"");
        place.configure(&place.entry(), "");
        place
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.state().join("workspace")
    }

    pub(crate) fn home(&self) -> PathBuf {
        match Uid::effective().is_root() {
            true => self.state().join("home"),
            false => self.path.join("home"),
        }
    }

    pub(crate) fn sessions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state().join("run/sessions")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Written by another process: a descriptor of ours that is open for writing could be
    /// inherited by a child that another test starts, and exec would answer ETXTBSY.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path.join(name);
        let mut shell = Command::new("sh")
            .args(["-c", "umask 022; cat > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        write!(shell.stdin.take().unwrap(), "#!/bin/sh\n{body}\n").unwrap();
        assert!(shell.wait().unwrap().success());
        path
    }

    /// The entry of [`user`], with an account that needs no look-up.
    pub(crate) fn entry(&self) -> String {
        let (uid, gid) = account();
        format!(
            "name = \"{}\"\nproof = \"none\"\nhome = \"real\"\nsessions = 128\n\
             roots = [{:?}, {:?}]\n\
             permission_modes = [\"acceptEdits\", \"bypassPermissions\", \"manual\", \"plan\"]\n\
             instructions = true\n\
             environment = {{ ANTHROPIC_API_KEY = \"key-of-the-test\" }}\n\
             visible = [{:?}]\n\
             account = {{ uid = {uid}, gid = {gid}, home = {:?}, shell = \"/bin/sh\" }}\n",
            user(),
            self.home(),
            self.workspace(),
            self.path.join("visible"),
            self.home(),
        )
    }

    /// Writes the file for `--config-fd`: one entry, and what else is to stand at its top.
    pub(crate) fn configure(&self, entry: &str, top: &str) {
        let state = self.state();
        let (run, bridge) = (state.join("run"), self.path.join("bridge/bridge.sock"));
        let text = format!(
            "frontd = {}\nsandbox = \"best-effort\"\naudit = \"best-effort\"\nscopes = false\n\
             state = {state:?}\nrun = {run:?}\nbridge = {bridge:?}\n{top}\n\
             [claude]\npath = {:?}\n[programs]\nchannel = \"/bin/true\"\n[[users.allow]]\n{entry}",
            Uid::effective(),
            self.path.join("claude"),
        );
        fs::write(self.config(), text).unwrap();
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("spawnd.toml")
    }

    /// `spawnd ARGUMENTS --config-fd 4`, with its standard input as descriptor 3.
    pub(crate) fn spawnd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            // The shell moves the descriptors: no other test's child inherits the numbers.
            .args([
                "-c",
                "exec 3<&0 4<\"$1\" </dev/null; p=$0; shift; exec \"$p\" --config-fd 4 \"$@\"",
            ])
            .arg(env!("CARGO_BIN_EXE_spawnd"))
            .arg(self.config())
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LD_PRELOAD", "")
            // Nothing of these counts.
            .env("SYNTHESIS_STATE_DIR", "/nowhere")
            .env("SYNTHESIS_CLAUDE", "/nowhere")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) struct Daemon {
    pub(crate) place: Place,
    pub(crate) process: Child,
}

impl Daemon {
    /// `spawnd --fd`, with its peer.
    pub(crate) fn paired(place: Place) -> (Self, Client) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let process = place.spawnd(&["--fd", "3"]).stdin(Stdio::from(theirs)).spawn().unwrap();
        let mut client = Client::new(ours);
        client.hello();
        (Self { place, process }, client)
    }

    /// `spawnd --socket`.
    pub(crate) fn listening(place: Place) -> Self {
        let socket = place.path.join("spawnd.sock");
        let process = place.spawnd(&["--socket", socket.to_str().unwrap()]).spawn().unwrap();
        Self { place, process }
    }

    /// A connection without a hello.
    pub(crate) fn connect(&self) -> Client {
        let name = UnixAddr::new(&self.place.path.join("spawnd.sock")).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let deadline = Instant::now() + PATIENCE;
        // The daemon's start has no event that could be waited for: only connect can tell.
        loop {
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
            match connect(socket.as_raw_fd(), &name) {
                Ok(()) => return Client::new(socket),
                Err(errno) => assert!(Instant::now() < deadline, "connect: {errno}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn client(&self) -> Client {
        let mut client = self.connect();
        client.hello();
        client
    }

    pub(crate) fn kill(&mut self, signal: Unix) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// What is sent meanwhile is read in one go.
    pub(crate) fn stop_and_go<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, Unix::SIGSTOP).unwrap();
        let result = meanwhile();
        nix::sys::signal::kill(pid, Unix::SIGCONT).unwrap();
        result
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        Watched::open(self.process.id()).wait_for_end();
        self.process.wait().unwrap()
    }

    /// The program of the next claudes.
    pub(crate) fn act(&self, body: &str) {
        let path = self.place.workspace().join("act.sh");
        fs::write(&path, body).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub(crate) fn request(&self) -> Spawn {
        Spawn {
            session: SessionId::random(),
            conversation: fresh_conversation(),
            user: user(),
            proof: Proof::None,
            workspace: path(&self.place.workspace()),
            permission_mode: PermissionMode::AcceptEdits,
            model: None,
            terminal: TerminalSize::new(33, 101).unwrap(),
            hooks: true,
            instructions: None,
            secret: Secret::random(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn path(path: &Path) -> AbsolutePath {
    AbsolutePath::new(path.to_str().unwrap()).unwrap()
}

pub(crate) fn fresh_conversation() -> ConversationId {
    let digits = Secret::random();
    serde_json::from_value(serde_json::json!(digits.expose()[..32])).unwrap()
}

/// Its uid and gid.
pub(crate) fn account() -> (u32, u32) {
    let entry = nix::unistd::User::from_name(user().as_str()).unwrap();
    let own = (Uid::effective().as_raw(), nix::unistd::getegid().as_raw());
    entry.map_or(own, |user| (user.uid.as_raw(), user.gid.as_raw()))
}

/// The user that the tests' policy serves.
pub(crate) fn user() -> UnixUser {
    use nix::unistd::User;
    let uid = Uid::effective();
    let name = if uid.is_root() {
        let names = ["synthesis-claude", "nobody"];
        names.into_iter().find(|n| User::from_name(n).unwrap().is_some()).unwrap().to_owned()
    } else {
        User::from_uid(uid).unwrap().map_or_else(|| format!("uid-{uid}"), |user| user.name)
    };
    UnixUser::new(name).unwrap()
}

pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    next: u64,
    events: VecDeque<Event>,
}

impl Drop for Client {
    /// Hangs up even if a child that another test is just forking holds a copy of the socket.
    fn drop(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

/// A claude that was started.
pub(crate) struct Started {
    pub(crate) session: SessionId,
    pub(crate) pid: u32,
    pub(crate) resumed: bool,
    pub(crate) terminal: Terminal,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, next: 1, events: VecDeque::new() }
    }

    pub(crate) fn hello(&mut self) {
        self.send(&FromFrontd::Hello { version: VERSION });
        assert_eq!(self.receive().unwrap().0, FromSpawnd::Hello { version: VERSION });
    }

    pub(crate) fn send(&self, packet: &FromFrontd) {
        self.send_raw(&encode(packet));
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        nix::unistd::write(&self.socket, bytes).unwrap();
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<(FromSpawnd, Vec<OwnedFd>)> {
        let mut buffer = vec![0; limits::SPAWN_PACKET];
        assert!(readable(&self.socket, PATIENCE), "no packet");
        match sys::message::receive(self.socket.as_fd(), &mut buffer) {
            Ok(received) if received.len == 0 => None,
            Ok(received) => {
                let fds = received.fds.iter().map(|fd| fd.as_fd().try_clone_to_owned().unwrap());
                Some((decode(&buffer[..received.len]).unwrap(), fds.collect()))
            }
            // A socket that was closed with our packets unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn ends(&mut self) -> bool {
        self.receive().is_none()
    }

    pub(crate) fn ask(&mut self, call: Call) -> u64 {
        let id = self.next;
        self.next += 1;
        self.send(&FromFrontd::Request { id, call });
        id
    }

    pub(crate) fn answer_to(&mut self, id: u64) -> (Answer, Vec<OwnedFd>) {
        loop {
            match self.receive().expect("an answer") {
                (FromSpawnd::Answer { id: found, answer }, fds) if found == id => {
                    return (answer, fds);
                }
                (FromSpawnd::Event(event), _) => self.events.push_back(event),
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn call(&mut self, call: Call) -> (Answer, Vec<OwnedFd>) {
        let id = self.ask(call);
        self.answer_to(id)
    }

    pub(crate) fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.receive().expect("an event") {
            (FromSpawnd::Event(event), _) => event,
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(crate) fn spawn(&mut self, request: &Spawn) -> Started {
        match self.call(Call::Spawn(Box::new(request.clone()))) {
            (Answer::Started { session, pid, resumed }, fds) => {
                let [leader] = fds.try_into().expect("exactly one descriptor");
                assert_eq!(session, request.session);
                Started { session, pid, resumed, terminal: Terminal::new(leader) }
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(crate) fn refusal(&mut self, call: Call) -> (RefusalCode, String) {
        match self.call(call) {
            (Answer::Refused { code, message }, fds) => {
                assert!(fds.is_empty());
                (code, message)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(crate) fn spawn_refused(&mut self, request: &Spawn) -> (RefusalCode, String) {
        self.refusal(Call::Spawn(Box::new(request.clone())))
    }

    /// The exit of this session; other events are kept for later.
    pub(crate) fn exit_of(&mut self, session: &SessionId) -> (ExitCause, Usage) {
        let mut others = VecDeque::new();
        loop {
            match self.event() {
                Event::Exited { session: found, cause, usage } if found == *session => {
                    others.append(&mut self.events);
                    self.events = others;
                    return (cause, usage);
                }
                other @ (Event::Exited { .. } | Event::Ready { .. }) => others.push_back(other),
            }
        }
    }

    pub(crate) fn signal(&mut self, session: &SessionId, signal: Signal) {
        let call = Call::Signal { session: session.clone(), signal };
        assert_eq!(self.call(call).0, Answer::Done {});
    }

    pub(crate) fn list(&mut self) -> Vec<Listed> {
        match self.call(Call::List { after: None }).0 {
            Answer::Sessions { sessions, more: false } => sessions,
            other @ (Answer::Verified { .. }
            | Answer::Started { .. }
            | Answer::Adopted { .. }
            | Answer::Sessions { .. }
            | Answer::Done {}
            | Answer::Refused { .. }) => panic!("{other:?}"),
        }
    }
}

/// A pty leader, read line by line.
pub(crate) struct Terminal {
    pub(crate) leader: OwnedFd,
    text: String,
}

impl Terminal {
    pub(crate) fn new(leader: OwnedFd) -> Self {
        Self { leader, text: String::new() }
    }

    /// What stands behind `label` on the first line that starts with it.
    pub(crate) fn line(&mut self, label: &str) -> String {
        loop {
            let lines: Vec<&str> = self.text.split_inclusive("\r\n").collect();
            let found = lines.iter().find_map(|line| {
                line.strip_suffix("\r\n")?.strip_prefix(label).map(|rest| rest.trim().to_owned())
            });
            if let Some(found) = found {
                return found;
            }
            assert!(readable(&self.leader, PATIENCE), "{label:?} not in {:?}", self.text);
            let mut part = [0; 4096];
            match nix::unistd::read(&self.leader, &mut part) {
                Ok(len) if len > 0 => self.text.push_str(&String::from_utf8_lossy(&part[..len])),
                end => panic!("{label:?} not in {:?}: {end:?}", self.text),
            }
        }
    }

    pub(crate) fn type_in(&self, text: &str) {
        nix::unistd::write(&self.leader, text.as_bytes()).unwrap();
    }

    /// The process whose number stands behind `label`.
    pub(crate) fn process(&mut self, label: &str) -> Watched {
        Watched::open(self.line(label).parse().unwrap())
    }
}

/// Some process, by its pidfd.
pub(crate) struct Watched(OwnedFd);

impl Watched {
    pub(crate) fn open(pid: u32) -> Self {
        Self(sys::pidfd::open(Pid::from_raw(i32::try_from(pid).unwrap())).unwrap())
    }

    pub(crate) fn wait_for_end(&self) {
        assert!(readable(&self.0, PATIENCE), "process lives on");
    }

    pub(crate) fn has_ended(&self) -> bool {
        readable(&self.0, Duration::ZERO)
    }
}

pub(crate) fn readable(fd: &OwnedFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 1
}
