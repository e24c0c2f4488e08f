//! Facts of a running claude, read from outside.

use std::collections::HashMap;
use std::fs;

use tests::harness::spawnd::{NOBODY, Settings};
use tests::harness::{have_root, processes};
use tests::hostile_claude::Attempt;

use super::stage::Stage;

/// What the kernel must say of every claude.
#[track_caller]
pub(crate) fn assert_powerless(pid: u32, uid: u32) {
    let status: HashMap<String, String> = processes::status(pid).expect("it runs");
    let ids = [uid.to_string(), uid.to_string(), uid.to_string(), uid.to_string()].join("\t");
    assert_eq!(status["Uid"], ids);
    let gids: Vec<&str> = status["Gid"].split('\t').collect();
    assert!(gids.iter().all(|gid| *gid == gids[0] && *gid != "0"), "{gids:?}");
    assert_eq!(status["Groups"], "", "supplementary groups");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
}

/// Places of the machine where arguments or an environment hold this text.
pub(crate) fn exposures(secret: &str) -> Vec<String> {
    let files = processes::all()
        .into_iter()
        .flat_map(|pid| ["cmdline", "environ"].map(|name| format!("/proc/{pid}/{name}")));
    let holds = |path: &String| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    files.filter(holds).collect()
}

#[test]
fn a_claude_has_its_users_ids_and_no_power() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (attacker, _) = stage.attack(&[]);
    assert_powerless(attacker.started.pid, NOBODY);
    let other = stage.daemon.users[1].clone();
    let theirs = stage.begin(&other, &[]);
    theirs.report();
    assert_powerless(theirs.started.pid, other.uid);
}

#[test]
fn a_claude_begins_with_three_descriptors_on_its_terminal() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (attacker, _) = stage.attack(&[]);
    let folder = format!("/proc/{}/fd", attacker.started.pid);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_owned(), fs::read_link(&path).unwrap()))
        .collect();
    found.sort();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, ["0", "1", "2"], "{found:?}");
    assert!(found.iter().all(|(_, path)| path.starts_with("/dev/pts")), "{found:?}");
}

#[test]
fn the_secret_stands_in_no_environment_and_in_no_arguments() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let nobody = stage.daemon.users[0].clone();
    let (workspace, request) = stage.prepare(&nobody, &[Attempt::OwnFiles, Attempt::Facts]);
    let started = stage.client.spawn(&request).unwrap();
    let attacker = super::stage::Attacker { started, workspace };
    let report = attacker.report();
    // It is where channel finds it, and there alone.
    let secret = request.secret.expose();
    assert!(report.0[0].detail["mcp"].as_str().unwrap().contains(secret));
    assert_eq!(exposures(secret), Vec::<String>::new());
    let environment = &report.0[1].detail["environment"];
    for name in ["NOTIFY_SOCKET", "SYNTHESIS_BRIDGE_TOKEN", "SYNTHESIS_WS_URL", "LD_PRELOAD"] {
        assert!(environment[name].is_null(), "{name}");
    }
}

#[test]
fn a_claude_sees_no_process_but_its_own() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let other = stage.daemon.users[1].clone();
    stage.begin(&other, &[]).report();
    let (attacker, report) = stage.attack(&[Attempt::Facts]);
    let seen = report.0[0].detail["processes"].as_array().unwrap().clone();
    let pids: Vec<u32> = seen.iter().filter_map(|name| name.as_str()?.parse().ok()).collect();
    assert_eq!(pids, [attacker.started.pid]);
}

#[test]
fn spawnd_has_one_thread_and_touches_no_file_of_its_sessions() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (attacker, _) = stage.attack(&[]);
    let spawnd = stage.daemon.pid();
    assert_eq!(processes::status(spawnd).expect("it runs")["Threads"], "1");
    let held = fs::read_dir(format!("/proc/{spawnd}/fd")).unwrap().flatten();
    let held: Vec<_> = held.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    assert!(!held.iter().any(|path| path.starts_with(&attacker.workspace)), "{held:?}");
}
