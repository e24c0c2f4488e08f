//! A hostile claude and files: other people's, root's, devices, and too many of one's own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use tests::harness::have_root;
use tests::harness::spawnd::{
    NOBODY, OTHER, Settings, User, file, folder, install, listener, until,
};
use tests::hostile_claude::{Attempt, Outcome};

use super::stage::{Attacker, Report, Stage, write_attempts};

/// A folder outside the daemon's place, removed at the end.
struct Scrap(PathBuf);

impl Scrap {
    fn new(path: &str, uid: u32) -> Self {
        let path = PathBuf::from(format!("{path}-{}", std::process::id()));
        folder(&path, uid, 0o755);
        Self(path)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that can be done to a folder with a file `secret` in it.
fn look_into(folder: &Path) -> Vec<Attempt> {
    vec![
        Attempt::List(folder.to_owned()),
        Attempt::Read(folder.join("secret")),
        Attempt::Open(folder.join("secret")),
        Attempt::Write(folder.join("planted")),
        Attempt::Remove(folder.join("secret")),
    ]
}

#[test]
fn homes_are_closed_even_where_their_modes_are_open() {
    if !have_root() {
        return;
    }
    let theirs = Scrap::new("/home/synh-their", OTHER);
    let own = Scrap::new("/home/synh-own", NOBODY);
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    // Where this account's entry says that its home is, which is not below /home.
    let real = stage.daemon.place.real_home(&nobody);
    let mut attempts = Vec::new();
    for (path, uid) in [(&theirs.0, OTHER), (&own.0, NOBODY), (&real, NOBODY)] {
        file(&path.join("secret"), "hidden", uid, 0o666);
        attempts.extend(look_into(path));
    }
    attempts.push(Attempt::List("/root".into()));
    attempts.push(Attempt::Write("/home/planted".into()));
    stage.attack(&attempts).1.all_denied();
}

#[test]
fn another_users_session_and_claude_folder_are_closed() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (nobody, other) = (stage.daemon.users[0].clone(), stage.daemon.users[1].clone());
    let victim = stage.begin(&other, &[]);
    victim.report();
    let state = stage.daemon.place.state();
    let session = stage.daemon.place.run.join("sessions").join(victim.session().as_str());
    let mut attempts = Vec::new();
    for path in [state.join("users/other/home"), state.join("users/other/claude"), session] {
        assert!(path.is_dir(), "{}", path.display());
        file(&path.join("secret"), "hidden", OTHER, 0o666);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        // As if they had been opened by mistake: the sandbox is to hold by itself.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o007)).unwrap();
        attempts.extend(look_into(&path));
    }
    attempts.extend(look_into(&victim.workspace).into_iter().skip(3));
    attempts.push(Attempt::Write(victim.workspace.join("attacks.json")));
    attempts.push(Attempt::List(state.join("users")));
    let attacker = stage.begin(&nobody, &attempts);
    let mut report = attacker.report();
    // Its own name is all that it may find there.
    let names = report.0.pop().unwrap().detail;
    assert!(names.as_array().is_none_or(|names| names.iter().all(|n| n == "nobody")), "{names}");
    report.all_denied();
}

#[test]
fn a_session_of_the_same_user_has_its_folder_for_itself() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let victim = stage.begin(&nobody, &[Attempt::OwnFiles]);
    let own = victim.report().0.remove(0).detail;
    let folder = PathBuf::from(own["folder"].as_str().unwrap());
    assert!(own["mcp"].as_str().unwrap().contains("SYNTHESIS_BRIDGE_TOKEN"));
    let (_, report) = stage.attack(&[
        Attempt::List(folder.clone()),
        Attempt::Read(folder.join("mcp.json")),
        Attempt::Read(folder.join("settings.json")),
        Attempt::Read(folder.join("debug.log")),
        Attempt::Write(folder.join("planted")),
        Attempt::Connect(folder.join("notify")),
        Attempt::Connect(folder.join("hook.sock")),
    ]);
    report.all_denied();
}

#[test]
fn shadow_frontds_state_and_the_system_are_closed() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let state = stage.daemon.place.state().join("frontd");
    folder(&state, 0, 0o777);
    file(&state.join("secret"), "store", 0, 0o666);
    // Anybody's by its mode: only a read-only system refuses.
    let open = stage.daemon.place.path.join("open");
    folder(&open, 0, 0o777);
    let mut attempts = look_into(&state);
    attempts.extend([
        Attempt::Read("/etc/shadow".into()),
        Attempt::Read("/etc/gshadow".into()),
        Attempt::Read("/proc/kcore".into()),
        Attempt::Open("/proc/sysrq-trigger".into()),
        Attempt::Open("/proc/sys/kernel/core_pattern".into()),
        Attempt::Write("/etc/planted".into()),
        Attempt::Write("/usr/bin/planted".into()),
        Attempt::Write("/sys/fs/cgroup/planted".into()),
        Attempt::Write("/dev/planted".into()),
        Attempt::Write("/run/planted".into()),
        Attempt::Write("/planted".into()),
        Attempt::Write(open.join("planted")),
        Attempt::Write("/var/lock/planted".into()),
    ]);
    stage.attack(&attempts).1.all_denied();
}

#[test]
fn what_cannot_be_hidden_or_shown_stops_the_start() {
    if !have_root() {
        return;
    }
    let scrap = Scrap::new("/opt/synh-loop", 0);
    // There, but nobody can say where it leads.
    let path = scrap.0.join("loop");
    symlink(&path, &path).unwrap();
    for key in ["hidden", "visible"] {
        let user = User::nobody().with(&format!("{key} = [{path:?}, \"/opt/synh-absent\"]"));
        let mut stage = Stage::new(Settings { users: vec![user.clone()], ..Settings::default() });
        let (_, request) = stage.prepare(&user, &[]);
        let (_, message) = stage.client.spawn(&request).expect_err(key);
        assert!(message.contains("/loop"), "{key}: {message}");
    }
}

/// A tmpfs on the host that tells other namespaces what is mounted in it.
struct Shared(PathBuf);

impl Shared {
    fn mount(path: PathBuf) -> Self {
        folder(&path, NOBODY, 0o755);
        let (kind, options) = (Some("tmpfs"), format!("mode=0755,uid={NOBODY}"));
        mount(kind, &path, kind, MsFlags::empty(), Some(options.as_str())).unwrap();
        mount(kind, &path, kind, MsFlags::MS_SHARED, kind).unwrap();
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn what_the_host_mounts_later_appears_in_the_users_own_folders_only() {
    if !have_root() {
        return;
    }
    let scrap = Scrap::new("/opt/synh-late", 0);
    let host = Shared::mount(scrap.0.clone());
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let own = Shared::mount(stage.workspace(&nobody));
    for path in [&host.0, &own.0] {
        folder(&path.join("late"), NOBODY, 0o755);
    }
    let mut attempts = vec![Attempt::Await("go".into()), Attempt::Read("late/secret".into())];
    attempts.extend(look_into(&host.0.join("late")));
    attempts.push(Attempt::Connect(host.0.join("late/socket")));
    write_attempts(&own.0, &nobody, &attempts);
    let request = stage.daemon.request_of(&nobody, &own.0);
    let started = stage.client.spawn(&request).unwrap();
    let attacker = Attacker { started, workspace: own.0.clone() };
    let late = [&host, &own].map(|below| Shared::mount(below.0.join("late")));
    for path in late.iter().map(|late| &late.0) {
        file(&path.join("secret"), "late", NOBODY, 0o666);
    }
    let _socket = listener(&host.0.join("late/socket"));
    file(&own.0.join("go"), "", NOBODY, 0o644);
    let mut report = attacker.report();
    let of_host = Report(report.0.split_off(2));
    report.all_succeeded();
    of_host.all_denied();
}

#[test]
fn setuid_programs_give_nothing_and_root_cannot_be_had_back() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let program = stage.daemon.place.path.join("bin/rootly");
    install("hostile-claude", &program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let mut attempts = vec![Attempt::RegainRoot, Attempt::RunSetuid(program)];
    for usual in ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/usr/bin/newgrp"] {
        attempts.push(Attempt::RunSetuid(usual.into()));
    }
    stage.attack(&attempts).1.all_denied();
}

#[test]
fn devices_are_few_and_none_can_be_made() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let mut attempts = vec![Attempt::Facts];
    for device in fs::read_dir("/sys/block").unwrap().flatten() {
        attempts.push(Attempt::Open(Path::new("/dev").join(device.file_name())));
    }
    attempts.extend(
        ["/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/ptmx", "/dev/console"]
            .map(|path| Attempt::Open(path.into())),
    );
    attempts.extend(
        ["/tmp/disk", "disk", "/dev/disk", "/dev/shm/disk"]
            .map(|path| Attempt::MakeDevice(path.into())),
    );
    let (_, mut report) = stage.attack(&attempts);
    let facts = report.0.remove(0).detail;
    report.all_denied();
    let allowed = [
        "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr",
        "pts", "shm", "ptmx",
    ];
    let found = facts["dev"].as_array().unwrap().iter().filter_map(Value::as_str);
    let more: Vec<&str> = found.filter(|name| !allowed.contains(name)).collect();
    assert_eq!(more, Vec::<&str>::new());
}

#[test]
fn a_full_tmp_hurts_nobody_else() {
    if !have_root() {
        return;
    }
    let small = User::nobody().with("tmp_size = \"16M\"\ntmp_inodes = 400");
    let users = vec![small, User::other()];
    let mut stage = Stage::new(Settings { users, ..Settings::default() });
    let (nobody, other) = (stage.daemon.users[0].clone(), stage.daemon.users[1].clone());
    let bytes = |path: &str| Attempt::FillBytes { path: path.into(), mebibytes: 64 };
    let inodes = |path: &str| Attempt::FillInodes { path: path.into(), files: 5000 };
    let full = stage.begin(
        &nobody,
        &[
            bytes("/tmp/big-1"),
            bytes("/var/tmp/big-2"),
            bytes("/dev/shm/big-3"),
            inodes("/tmp/many-1"),
            inodes("/dev/shm/many-2"),
        ],
    );
    let report = full.report();
    let mut mebibytes = 0;
    let mut files = 0;
    for line in &report.0 {
        if line.outcome == Outcome::Succeeded {
            assert!(line.detail["end"].is_string(), "no limit: {line:?}");
            mebibytes += line.detail["mebibytes"].as_u64().unwrap_or(0);
            files += line.detail["files"].as_u64().unwrap_or(0);
        }
    }
    assert!(mebibytes <= 16 && files <= 400, "{mebibytes} MiB, {files} files");
    // It is full, and others start and work; so does the next of the same user.
    for user in [&other, &nobody] {
        let neighbour = stage.begin(user, &[Attempt::Write("/tmp/x".into())]);
        neighbour.report().all_succeeded();
        stage.client.end(neighbour.session());
    }
}

#[test]
fn a_tree_of_a_million_entries_is_gone_with_its_session() {
    if !have_root() {
        return;
    }
    let user = User::nobody().with("tmp_inodes = 1100000");
    let mut stage = Stage::new(Settings { users: vec![user], ..Settings::default() });
    let tree = Attempt::Tree { path: "/tmp/tree".into(), entries: 1_000_000 };
    let (attacker, report) = stage.attack(&[tree]);
    report.all_succeeded();
    let began = Instant::now();
    stage.client.end(attacker.session());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    until("the session's folder is gone", || {
        stage.daemon.place.sessions().is_empty().then_some(())
    });
}

#[test]
fn the_session_folder_swapped_ten_thousand_times_leads_nobody_astray() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let passwd = fs::metadata("/etc/passwd").unwrap();
    let attacker = stage.begin(&nobody, &[Attempt::Swap { rounds: 10_000 }]);
    // Under it, spawnd goes on.
    while !attacker.workspace.join("done").exists() {
        assert_eq!(stage.client.list().len(), 1);
    }
    stage.client.end(attacker.session());
    until("the session's folder is gone", || {
        stage.daemon.place.sessions().is_empty().then_some(())
    });
    let now = fs::metadata("/etc/passwd").unwrap();
    let owner = |found: &fs::Metadata| (found.uid(), found.mode(), found.ino(), found.len());
    assert_eq!(owner(&passwd), owner(&now));
    let next = stage.begin(&nobody, &[Attempt::OwnFiles]);
    next.report().all_succeeded();
}
