//! What a session of root's spawnd finds of the machine, asked from inside it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Client, Daemon, Place, Started, is_root, path, user};
use nix::sys::prctl;
use nix::unistd::User;

fn account() -> User {
    User::from_name(user().as_str()).unwrap().unwrap()
}

fn own(path: &Path) {
    chown(path, Some(account().uid.as_raw()), Some(account().gid.as_raw())).unwrap();
}

/// Runs `body` in a session and gives what it printed, without blanks around the lines.
fn told(daemon: &Daemon, client: &mut Client, body: &str) -> (Started, Vec<String>) {
    daemon.act(&format!("({body}) > told.txt 2>&1; echo told; exec cat"));
    let mut started = client.spawn(&daemon.request());
    started.terminal.line("told");
    let text = fs::read_to_string(daemon.place.workspace().join("told.txt")).unwrap();
    (started, text.lines().map(|line| line.trim().to_owned()).collect())
}

fn inside(body: &str) -> Vec<String> {
    let (daemon, mut client) = Daemon::paired(Place::new());
    told(&daemon, &mut client, body).1
}

/// A process of the session's user that is none of the session's.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let uid = account().uid.to_string();
        let child = Command::new("setpriv")
            .args(["--reuid", &uid, "--clear-groups", "sh", "-c", "echo up; exec sleep 1000"])
            .env("BYSTANDERS_SECRET", "x")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bystander = Self(child);
        let mut line = [0; 3];
        let output = bystander.0.stdout.as_mut().unwrap();
        std::io::Read::read_exact(output, &mut line).unwrap();
        bystander
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_system_is_read_only_and_what_is_others_is_not_there() {
    if !is_root("the_system_is_read_only_and_what_is_others_is_not_there") {
        return;
    }
    let place = Place::new();
    fs::write(place.path.join("secret"), "x").unwrap();
    let (daemon, mut client) = Daemon::paired(place);
    let (other, _) = told(&daemon, &mut client, "true");
    let (own, lines) = told(
        &daemon,
        &mut client,
        "for f in /etc/x /usr/x /srv/x /run/x /home/x /proc/sys/kernel/core_pattern /sys/x; do
             (: > $f) 2>/dev/null && echo wrote $f; done
         ls -A /home /root /run | grep -v : ; ls \"$TMPDIR/../..\"; ls \"$TMPDIR/../../../..\"
         ls \"$TMPDIR/../../../../..\"; ls -A /tmp",
    );
    let place = daemon.place.path.file_name().unwrap().to_str().unwrap();
    let mut expected = vec![own.session.to_string()];
    expected.extend(["home", "run", "workspace"].map(str::to_owned));
    expected.extend(["claude", "state", place].map(str::to_owned));
    let found: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected);
    assert_ne!(own.session, other.session);
    assert_eq!(daemon.place.sessions().len(), 2);
}

#[test]
fn only_the_sessions_own_mounts_are_writable_and_none_knows_setuid() {
    if !is_root("only_the_sessions_own_mounts_are_writable_and_none_knows_setuid") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    let (session, lines) = told(
        &daemon,
        &mut client,
        "perl -ane 'print \"$F[4]\\n\" if $F[5] =~ /^rw/' /proc/self/mountinfo | sort
         perl -ane 'print \"setuid $F[4]\\n\" unless $F[5] =~ /nosuid/' /proc/self/mountinfo",
    );
    let folder = daemon.place.state().join("run/sessions").join(session.session.as_str());
    let mut expected: Vec<String> =
        ["/dev/shm", "/proc", "/tmp", "/var/tmp"].map(str::to_owned).into();
    for path in [daemon.place.home(), daemon.place.workspace(), folder] {
        expected.push(path.to_str().unwrap().to_owned());
    }
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn what_a_session_writes_in_its_folders_is_the_hosts_and_the_rest_ends_with_it() {
    if !is_root("what_a_session_writes_in_its_folders_is_the_hosts_and_the_rest_ends_with_it") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    let (_session, lines) = told(
        &daemon,
        &mut client,
        "for f in ./w ~/h /tmp/t /var/tmp/v /dev/shm/s $TMPDIR/own; do
             echo x > $f || echo not $f; done; ls /tmp/own; ls $TMPDIR/t $TMPDIR/v | wc -l; id -u",
    );
    assert_eq!(lines, ["/tmp/own", "2", &account().uid.to_string()]);
    assert_eq!(fs::read(daemon.place.workspace().join("w")).unwrap(), b"x\n");
    assert_eq!(fs::read(daemon.place.home().join("h")).unwrap(), b"x\n");
    for outside in ["/tmp/t", "/tmp/own", "/var/tmp/v", "/dev/shm/s"] {
        assert!(!Path::new(outside).exists(), "{outside}");
    }
    let folder = daemon.place.sessions().pop().unwrap();
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["notify"]);
}

#[test]
fn tmp_ends_at_its_bytes_and_its_inodes() {
    if !is_root("tmp_ends_at_its_bytes_and_its_inodes") {
        return;
    }
    let lines = inside(
        "stat -f -c '%b %S %c' /tmp; fallocate -l 1025M /dev/shm/big 2>/dev/null || echo no room
         perl -e 'for my $i (1..100001) { open(my $f, \">\", \"/tmp/$i\") or die \"full: $!\\n\" }' \
             2>&1 | cut -c1-4",
    );
    assert_eq!(lines, [format!("{} 4096 100000", (1 << 30) / 4096).as_str(), "no room", "full"]);
}

#[test]
fn the_terminal_of_the_session_is_the_only_one_and_devices_are_few() {
    if !is_root("the_terminal_of_the_session_is_the_only_one_and_devices_are_few") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    let (mut session, lines) = told(
        &daemon,
        &mut client,
        "ls -x -w 999 /dev; [ \"$(tty)\" = /dev/pts/$(ls /dev/pts) ] || echo other
         head -c 1 /dev/urandom | wc -c; echo x > /dev/null; (echo via tty) > /dev/tty
         stat -c %U $(tty); stty -F /dev/tty size",
    );
    let devices: Vec<&str> = lines[0].split_whitespace().collect();
    let expected = "fd full null pts random shm stderr stdin stdout tty urandom zero".split(' ');
    assert_eq!(devices, expected.collect::<Vec<_>>());
    assert_eq!(lines[1..], ["1", user().as_str(), "33 101"]);
    session.terminal.line("via tty");
}

#[test]
fn the_bridge_is_reached_by_its_socket_and_nothing_beside_it() {
    if !is_root("the_bridge_is_reached_by_its_socket_and_nothing_beside_it") {
        return;
    }
    let place = Place::new();
    let _ = fs::create_dir(place.path.join("bridge"));
    fs::set_permissions(place.path.join("bridge"), fs::Permissions::from_mode(0o755)).unwrap();
    let bridge = UnixListener::bind(place.path.join("bridge/bridge.sock")).unwrap();
    let other = UnixListener::bind(place.path.join("other.sock")).unwrap();
    for socket in ["bridge/bridge.sock", "other.sock"] {
        fs::set_permissions(place.path.join(socket), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let (daemon, mut client) = Daemon::paired(place);
    let (_session, lines) = told(
        &daemon,
        &mut client,
        "for s in bridge/bridge other; do perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0);
             print connect($s, sockaddr_un($ARGV[0])) ? \"in\\n\" : \"out: $!\\n\"' \
             \"$TMPDIR/../../../../../$s.sock\"; done",
    );
    assert_eq!(lines, ["in", "out: No such file or directory"]);
    bridge.accept().unwrap();
    drop(other);
}

#[test]
fn a_process_of_the_same_user_outside_is_out_of_sight_and_reach() {
    if !is_root("a_process_of_the_same_user_outside_is_out_of_sight_and_reach") {
        return;
    }
    let bystander = Bystander::start();
    let abstract_name = format!("synthesis-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let pid = bystander.0.id();
    let lines = inside(&format!(
        "[ -e /proc/{pid} ] && echo seen; cat /proc/{pid}/environ 2>/dev/null && echo read
         perl -e 'print kill(0, {pid}) ? \"reached\\n\" : \"$!\\n\"'
         perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0);
             my $n = pack(\"S\", AF_UNIX) . \"\\0{abstract_name}\";
             print connect($s, $n) ? \"connected\\n\" : \"$!\\n\"'
         ls -d /proc/[0-9]* | wc -l; sleep 1000 & kill $! && echo own"
    ));
    assert_eq!(lines[..2], ["Operation not permitted"; 2]);
    // The session's shells, and ls itself.
    assert!(lines[2].parse::<u32>().unwrap() <= 5, "{lines:?}");
    assert_eq!(lines[3], "own");
    drop(listener);
}

/// Each line: the call, what it answers (`ok` or errno's name), its number and its arguments.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernel_is_asked_for_nothing_on_the_deny_list() {
    if !is_root("the_kernel_is_asked_for_nothing_on_the_deny_list") {
        return;
    }
    let calls = "
        mount EPERM 165,0,0,0,0,0
        open_tree EPERM 428,-100,0,1
        open_tree_attr EPERM 467,-100,0,1,0,0
        fsopen EPERM 430,0,0
        pivot_root EPERM 155,0,0
        unshare-user EPERM 272,0x10000000
        unshare-files ok 272,0x400
        clone-user EPERM 56,0x10000011,0,0,0,0
        clone3 ENOSYS 435,0,0
        io_uring EPERM 425,1,0
        bpf EPERM 321,0,0,0
        ptrace EPERM 101,0,0,0,0
        process_vm_readv EPERM 310,1,0,0,0,0,0
        keyctl EPERM 250,0,0,0,0,0
        personality-asked ok 135,0xffffffff
        personality EPERM 135,0x40000
        tiocsti EPERM 16,0,0x5412,0
        tiocsti-high-bits EPERM 16,0,0x100005412,0
        tioclinux-high-bits EPERM 16,0,0xffffffff0000541c,0
        vsock EPERM 41,40,1,0
        netlink ok 41,16,3,0
        x32-getpid EPERM 0x40000027
        x32-mount EPERM 0x400000a5,0,0,0,0,0";
    let script = "use Errno; while (<STDIN>) { my ($name, $want, $args) = split or next;
        my ($n, @a) = map { /^0x/ ? hex : $_ + 0 } split /,/, $args; $! = 0;
        my $r = syscall($n, @a);
        my ($is) = $r >= 0 ? 'ok' : grep { $!{$_} } qw(EPERM ENOSYS EFAULT EINVAL EIO);
        print \"$name $is\\n\" }";
    let (daemon, mut client) = Daemon::paired(Place::new());
    fs::write(daemon.place.workspace().join("calls.pl"), script).unwrap();
    fs::write(daemon.place.workspace().join("calls"), calls).unwrap();
    let (_session, lines) = told(&daemon, &mut client, "perl calls.pl < calls");
    let expected: Vec<String> = calls
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn nothing_gives_a_right_back() {
    if !is_root("nothing_gives_a_right_back") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    let setuid = daemon.place.workspace().join("setuid");
    fs::copy("/usr/bin/id", &setuid).unwrap();
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    let (_session, lines) = told(
        &daemon,
        &mut client,
        "./setuid -u; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -Hn",
    );
    assert_eq!(lines[0], account().uid.to_string());
    let caps = lines.iter().filter(|line| line.starts_with("Cap"));
    assert_eq!(caps.filter(|line| line.ends_with("\t0000000000000000")).count(), 5);
    assert!(lines.contains(&"NoNewPrivs:\t1".to_owned()));
    assert!(lines.contains(&"Seccomp:\t2".to_owned()));
}

#[test]
fn what_the_daemon_was_given_is_not_handed_to_its_sessions() {
    if !is_root("what_the_daemon_was_given_is_not_handed_to_its_sessions") {
        return;
    }
    // Only with CAP_SYS_RESOURCE could it be one that spares the daemon.
    let adjust = |number: &str| fs::write("/proc/self/oom_score_adj", number).unwrap();
    prctl::set_timerslack(1).unwrap();
    adjust("500");
    // Of this thread alone, and of what it starts.
    nice(-5);
    let (daemon, mut client) = Daemon::paired(Place::new());
    adjust("0");
    let (_session, lines) =
        told(&daemon, &mut client, "cat /proc/self/oom_score_adj /proc/self/timerslack_ns; nice");
    assert_eq!(lines, ["0", "50000", "0"]);
}

fn nice(value: i32) {
    // SAFETY: setpriority takes integers; 0 is this thread.
    assert_eq!(unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, value) }, 0);
}

#[test]
fn a_workspace_may_be_home_or_lie_in_it_and_claude_be_a_link() {
    if !is_root("a_workspace_may_be_home_or_lie_in_it_and_claude_be_a_link") {
        return;
    }
    let place = Place::new();
    let claude = place.path.join("claude");
    fs::create_dir(place.path.join("lib")).unwrap();
    fs::rename(&claude, place.path.join("lib/real")).unwrap();
    symlink("lib/real", &claude).unwrap();
    let (daemon, mut client) = Daemon::paired(place);
    let home = daemon.place.home();
    let inner = home.join("a/b");
    fs::create_dir_all(&inner).unwrap();
    for folder in [home.clone(), home.join("a"), inner.clone()] {
        own(&folder);
        let act = folder.join("act.sh");
        fs::write(&act, "pwd; echo x > made; ls ../../..; echo done; exec cat").unwrap();
        fs::set_permissions(&act, fs::Permissions::from_mode(0o644)).unwrap();
    }
    for workspace in [&home, &inner] {
        let mut request = daemon.request();
        request.workspace = path(workspace);
        let mut started = client.spawn(&request);
        assert_eq!(started.terminal.line(workspace.to_str().unwrap()), "");
        started.terminal.line("done");
        assert!(workspace.join("made").exists());
    }
}

#[test]
fn a_link_or_a_folder_of_others_is_no_home() {
    if !is_root("a_link_or_a_folder_of_others_is_no_home") {
        return;
    }
    let (daemon, mut client) = Daemon::paired(Place::new());
    daemon.act("exec cat");
    let home = daemon.place.home();
    let aside = home.with_file_name("aside");
    fs::rename(&home, &aside).unwrap();
    symlink(&aside, &home).unwrap();
    let (_, message) = client.spawn_refused(&daemon.request());
    assert!(message.contains("home") && message.contains("symbolic link"), "{message}");
    fs::remove_file(&home).unwrap();
    fs::create_dir(&home).unwrap();
    let (_, message) = client.spawn_refused(&daemon.request());
    assert!(message.contains("uid 0"), "{message}");
}

#[test]
fn what_policy_makes_visible_is_there_read_only_and_its_neighbours_are_not() {
    if !is_root("what_policy_makes_visible_is_there_read_only_and_its_neighbours_are_not") {
        return;
    }
    let place = Place::new();
    for name in ["visible", "beside"] {
        fs::create_dir(place.path.join(name)).unwrap();
        fs::write(place.path.join(name).join("file"), name).unwrap();
        own(&place.path.join(name));
        fs::set_permissions(place.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (daemon, mut client) = Daemon::paired(place);
    let (_session, lines) = told(
        &daemon,
        &mut client,
        "cd \"$TMPDIR/../../../../..\"; cat visible/file; echo; touch visible/new 2>&1 | tail -c 23
         ls -d beside 2>/dev/null || echo no neighbour",
    );
    assert_eq!(lines, ["visible", "Read-only file system", "no neighbour"]);
}

#[test]
fn a_program_that_only_root_can_reach_is_not_shown_to_the_user() {
    if !is_root("a_program_that_only_root_can_reach_is_not_shown_to_the_user") {
        return;
    }
    let place = Place::new();
    let closed = place.path.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(place.path.join("claude"), closed.join("claude")).unwrap();
    symlink(closed.join("claude"), place.path.join("claude")).unwrap();
    let (daemon, mut client) = Daemon::paired(place);
    let (code, message) = client.spawn_refused(&daemon.request());
    assert_eq!(code, proto::spawn::RefusalCode::ClaudeMissing);
    assert!(message.contains("Permission denied"), "{message}");
}
