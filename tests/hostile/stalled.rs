//! A file system that never answers: whoever looks into it waits, and nobody else may.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proto::spawn::{Answer, Call, FromSpawnd, RefusalCode};
use tests::harness::seqpacket::Incoming;
use tests::harness::spawnd::{NOBODY, PATIENCE, Settings, folder, until};
use tests::harness::{have_root, skip};
use tests::hostile_claude::Attempt;

use super::stage::Stage;

/// A mounted FUSE file system whose server (this process) reads no request.
struct Stalled {
    path: PathBuf,
    server: Option<File>,
}

impl Stalled {
    /// `None`, loudly, where the kernel has no FUSE.
    fn mount(path: &Path) -> Option<Self> {
        folder(path, NOBODY, 0o755);
        let Ok(server) = OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
            skip("no /dev/fuse");
            return None;
        };
        let options = format!(
            "fd={},rootmode=40755,user_id={NOBODY},group_id={NOBODY},allow_other",
            server.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("stalled"), path, Some("fuse"), flags, Some(options.as_str())).unwrap();
        Some(Self { path: path.to_owned(), server: Some(server) })
    }

    /// Whoever waits gets an error.
    fn abort(&mut self) {
        self.server = None;
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.abort();
        let _ = umount2(&self.path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_stalled_workspace_keeps_nobody_else_waiting() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let root = stage.daemon.place.root(&nobody);
    let Some(mut stalled) = Stalled::mount(&root.join("stalled")) else { return };
    let waiting: Vec<_> = [root.join("stalled"), root.join("stalled/below"), root.join("stalled")]
        .iter()
        .map(|path| {
            let request = stage.daemon.request(path);
            stage.client.ask(Call::Spawn(Box::new(request)))
        })
        .collect();

    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begin = Instant::now();
        stage.client.list();
        slowest = slowest.max(begin.elapsed());
    }
    // A whole session of another beside them, and of the same user.
    for user in [stage.daemon.users[1].clone(), nobody] {
        let begin = Instant::now();
        let beside = stage.begin(&user, &[Attempt::Write("here".into())]);
        slowest = slowest.max(begin.elapsed());
        beside.report().all_succeeded();
        stage.client.end(beside.session());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    stalled.abort();
    // In whatever order: none of the stalled ones begins.
    let mut open: Vec<u64> = waiting;
    while !open.is_empty() {
        let incoming = stage.client.wait(PATIENCE);
        let Incoming::Packet(FromSpawnd::Answer { id, answer }, _) = incoming else {
            panic!("{incoming:?}")
        };
        let Answer::Refused { code, .. } = answer else { panic!("{answer:?}") };
        let right = [RefusalCode::WorkspaceUnusable, RefusalCode::StartFailed];
        assert!(right.contains(&code), "{code:?}");
        open.retain(|waiting| *waiting != id);
    }
}

#[test]
fn a_daemon_ends_in_time_while_a_start_is_stalled() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let root = stage.daemon.place.root(&nobody);
    let Some(_stalled) = Stalled::mount(&root.join("stalled")) else { return };
    let request = stage.daemon.request(&root.join("stalled"));
    stage.client.ask(Call::Spawn(Box::new(request)));
    stage.client.list();
    let begin = Instant::now();
    stage.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    until("the daemon's end", || stage.daemon.has_ended().then_some(()));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}
