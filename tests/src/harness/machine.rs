//! A throw-away machine on which spawnd runs as a unit of a real systemd, its frontd played by the
//! test, and claudes that do what a shell script in their workspace says.
#![expect(clippy::unwrap_used, reason = "what a test cannot have ends it")]

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use proto::ids::{SessionId, UnixUser};
use proto::spawn::{Answer, Call, Event, PermissionMode, Proof, Spawn, TerminalSize};

use super::container::Container;
use super::installed;
use super::seqpacket::{Client, Started, readable};
use super::spawnd::{PATIENCE, absolute, conversation, until};

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/container/spawnd.toml");
pub const SERVICE: &str = "synthesis-spawnd.service";
const SOCKET: &str = "/run/synthesis/spawnd.sock";
pub const USER: &str = "synthesis-claude";
pub const UID: &str = "4242";
/// Of frontd's account, which the socket belongs to.
const SYNTHESIS: u32 = 4241;

/// A machine on which spawnd is installed.
pub struct Machine {
    pub container: Container,
}

impl Machine {
    /// `None` where there can be none, which was said then.
    pub fn boot() -> Option<Self> {
        Self::boot_with(|_| {})
    }

    /// With another stage: `adapt` gets it after all was laid out.
    pub fn boot_with(adapt: impl FnOnce(&Path)) -> Option<Self> {
        if !Container::is_possible() {
            return None;
        }
        let stage = tempfile::tempdir().unwrap();
        // It becomes the container's root folder, which everybody must get through.
        fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755)).unwrap();
        install(stage.path());
        adapt(stage.path());
        let machine = Self { container: Container::boot(stage.path()) };
        machine.container.say(&["chown", "-R", &format!("{UID}:{UID}"), "/srv/work"]);
        Some(machine)
    }

    /// A connection that said hello.
    pub fn client(&self) -> Client {
        let path = self.container.path(SOCKET);
        until("a hello", || {
            let name = UnixAddr::new(&path).unwrap();
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
            connect(socket.as_raw_fd(), &name).ok()?;
            let mut client = Client::new(socket);
            client.try_hello().then_some(client)
        })
    }

    /// A claude that does what this shell script says.
    pub fn request(&self, script: &str) -> Spawn {
        self.request_of(USER, UID, &[("act.sh", script)])
    }

    /// A claude of this user, in a new workspace with these files.
    pub fn request_of(&self, user: &str, uid: &str, files: &[(&str, &str)]) -> Spawn {
        let session = SessionId::random();
        let workspace = format!("/srv/work/{session}");
        let here = self.container.path(&workspace);
        fs::create_dir(&here).unwrap();
        for (name, text) in files {
            fs::write(here.join(name), text).unwrap();
        }
        self.container.say(&["chown", "-R", &format!("{uid}:{uid}"), &workspace]);
        Spawn {
            session,
            conversation: conversation(),
            user: UnixUser::new(user).unwrap(),
            proof: Proof::None,
            workspace: absolute(Path::new(&workspace)),
            permission_mode: PermissionMode::AcceptEdits,
            model: None,
            terminal: TerminalSize::new(33, 101).unwrap(),
            hooks: true,
            instructions: None,
            secret: proto::ids::Secret::random(),
        }
    }

    pub fn spawn(&self, client: &mut Client, script: &str) -> Started {
        let request = self.request(script);
        client.spawn(&request).unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", self.log()))
    }

    /// What a claude wrote into a file of its workspace.
    pub fn written(&self, session: &SessionId, name: &str) -> String {
        let path = self.container.path(&format!("/srv/work/{session}/{name}"));
        until("a file in the workspace", || {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n').then(|| text.trim_end().to_owned())
        })
    }

    /// Runs a command as an ordinary user, outside any session.
    pub fn run_as(&self, uid: &str, command: &[&str]) -> Output {
        let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
        let before = ["setpriv", &user, &group, "--clear-groups", "--"];
        self.container.run(&[&before[..], command].concat())
    }

    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.container.say(&[&["systemctl"], arguments].concat())
    }

    pub fn scopes(&self) -> String {
        self.systemctl(&["list-units", "--all", "--plain", "--no-legend", "synthesis-*.scope"])
    }

    pub fn main_pid(&self) -> String {
        self.systemctl(&["show", "--value", "--property=MainPID", SERVICE])
    }

    /// SIGKILL to spawnd, and another one of it.
    pub fn crash(&self) {
        let before = self.main_pid();
        self.systemctl(&["kill", "--kill-whom=main", "--signal=KILL", SERVICE]);
        until("another spawnd", || {
            let now = self.main_pid();
            (now != before && now != "0").then_some(())
        });
    }

    pub fn log(&self) -> String {
        self.container.say(&["journalctl", "--no-pager", "-o", "cat", "-u", SERVICE])
    }

    pub fn waits_for_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }
}

/// A copy of a file in the stage.
pub fn put(stage: &Path, from: &Path, to: &str, mode: u32) {
    let to = stage.join(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
}

/// The real installation, with a policy of its own, whose one user is made here too.
fn install(stage: &Path) {
    installed::lay_out(stage);
    put(stage, Path::new(POLICY), "etc/synthesis/spawnd.toml", 0o644);
    installed::enable(stage, &["synthesis-spawnd.socket", "synthesis-frontd.socket"]);
    // As systemd-sysusers and an administrator would.
    let own = format!("synthesis:x:{SYNTHESIS}:");
    let user = format!("{USER}:x:{UID}:");
    let passwd = format!("{own}{SYNTHESIS}::/:/usr/sbin/nologin\n{user}{UID}::/srv/work:/bin/sh\n");
    for (file, lines) in [
        ("passwd", passwd),
        ("group", format!("{own}\n{user}\nsynthesis-users:x:4243:\n")),
        ("shadow", format!("{USER}:*:19000:0:99999:7:::\n")),
    ] {
        let mut text = fs::read_to_string(format!("/etc/{file}")).unwrap();
        text.push_str(&lines);
        let path = stage.join("etc").join(file);
        fs::write(&path, text).unwrap();
        let mode = if file == "shadow" { 0o600 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let claude = stage.join("usr/lib/synthesis/claude");
    fs::create_dir_all(claude.parent().unwrap()).unwrap();
    fs::write(&claude, "#!/bin/sh\nexec sh ./act.sh \"$@\"\n").unwrap();
    fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(stage.join("srv/work")).unwrap();
}

/// Says on its terminal what it hears there, and that it is ready once it heard "ready". Who says
/// so lives on, as a channel does: spawnd looks at the sender.
pub const ECHO: &str = r#"
stty -echo
while read -r line; do
    [ "$line" != ready ] || perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_DGRAM, 0);
        send($s, "READY=1", 0, sockaddr_un($ARGV[0])) or die; sleep 1000' "$TMPDIR/../notify" &
    echo "heard $line"
done
"#;

pub fn adopt(client: &mut Client, session: &SessionId) -> OwnedFd {
    let (answer, fds) = client.call(Call::Adopt { session: session.clone() });
    assert_eq!(answer, Answer::Adopted { session: session.clone() });
    let [leader] = fds.try_into().expect("exactly one descriptor");
    leader
}

/// Types a line and waits until the claude has heard it.
pub fn talk(leader: &OwnedFd, line: &str) {
    nix::unistd::write(leader, format!("{line}\n").as_bytes()).unwrap();
    let mut text = String::new();
    while !text.contains(&format!("heard {line}")) {
        assert!(readable(leader, PATIENCE), "no echo of {line:?} in {text:?}");
        let mut part = [0; 4096];
        let len = nix::unistd::read(leader, &mut part).unwrap();
        text.push_str(&String::from_utf8_lossy(&part[..len]));
    }
}

pub fn ready_of(client: &mut Client, session: &SessionId) {
    loop {
        match client.event(PATIENCE).expect("ready") {
            Event::Ready { session: found, .. } if found == *session => return,
            Event::Ready { .. } | Event::Exited { .. } => {}
        }
    }
}
