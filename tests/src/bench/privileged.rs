//! spawnd alone, by its own socket: what a start costs, and what a thousand sessions do.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::unistd::Uid;
use proto::spawn::{Answer, Call};

use super::stats::Times;
use super::{Row, machine};
use crate::harness::machine::Machine;
use crate::harness::seqpacket::Client;
use crate::harness::spawnd::{Daemon, Place, Settings, User, file};

const STARTS: usize = 40;
const CROWD: usize = 1_000;

/// Needs root; without it there are no rows.
///
/// # Errors
/// The first refusal.
pub fn rows() -> anyhow::Result<Vec<Row>> {
    if !Uid::effective().is_root() {
        return Ok(Vec::new());
    }
    let place = Place::new();
    let claude = place.path.join("bin/claude");
    file(&claude, "#!/bin/sh\nexec sleep 100000\n", 0, 0o755);
    let nobody = User::nobody().with("sessions = 2000\nopen_files = 1024");
    let tables = "[limits]\nsessions = 2000\nspawns_per_second = 10000\nspawn_burst = 10000\n";
    let tables = tables.to_owned();
    let settings = Settings { claude, users: vec![nobody], tables, ..Settings::default() };
    let daemon = Daemon::start_in(place, settings);
    let mut client = daemon.client();
    let mut rows = vec![start(&daemon, &mut client)?];
    rows.extend(crowd(&daemon, &mut client)?);
    rows.extend(in_a_scope()?);
    Ok(rows)
}

fn spawn(daemon: &Daemon, client: &mut Client) -> anyhow::Result<()> {
    let workspace = daemon.place.root(&daemon.users[0]);
    let request = daemon.request(&workspace);
    let started =
        client.spawn(&request).map_err(|(code, why)| anyhow::anyhow!("{code:?} {why}"))?;
    drop(started.leader);
    Ok(())
}

fn start(daemon: &Daemon, client: &mut Client) -> anyhow::Result<Row> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        spawn(daemon, client)?;
        times.push(begun.elapsed());
    }
    let times = Times::new(times);
    Ok(Row {
        name: "spawn request to `started`, full sandbox, no scope",
        value: format!("{times} ({STARTS} starts)"),
        target: "p50 ≤ 10 ms",
        met: Some(times.median() <= Duration::from_millis(10)),
    })
}

/// Under a systemd of its own; without systemd-nspawn there is no row.
fn in_a_scope() -> anyhow::Result<Option<Row>> {
    let Some(machine) = Machine::boot() else { return Ok(None) };
    let mut client = machine.client();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let request = machine.request("exec sleep 100000");
        let begun = Instant::now();
        let started = client.spawn(&request);
        times.push(begun.elapsed());
        let started = started.map_err(|(code, why)| anyhow::anyhow!("{code:?} {why}"))?;
        client.end(&started.session);
    }
    let times = Times::new(times);
    Ok(Some(Row {
        name: "spawn request to `started`, full sandbox, with a scope",
        value: format!("{times} ({STARTS} starts)"),
        target: "p50 ≤ 40 ms",
        met: Some(times.median() <= Duration::from_millis(40)),
    }))
}

fn crowd(daemon: &Daemon, client: &mut Client) -> anyhow::Result<Vec<Row>> {
    let few = machine::pss_kib(daemon.pid())? * 1024;
    for _ in STARTS..CROWD {
        spawn(daemon, client)?;
    }
    let many = machine::pss_kib(daemon.pid())? * 1024;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let mut after = None;
        let mut seen = 0;
        loop {
            let (answer, _) = client.call(Call::List { after });
            let Answer::Sessions { sessions, more } = answer else { anyhow::bail!("{answer:?}") };
            seen += sessions.len();
            after = Some(sessions.last().context("a page")?.session.clone());
            if !more {
                break;
            }
        }
        ensure!(seen == CROWD, "{seen} listed");
        times.push(begun.elapsed());
    }
    let times = Times::new(times);
    let each = many.saturating_sub(few) / u64::try_from(CROWD - STARTS)?;
    Ok(vec![
        Row {
            name: "`list` of 1,000 sessions, all pages",
            value: times.to_string(),
            target: "≤ 10 ms",
            met: Some(times.median() <= Duration::from_millis(10)),
        },
        Row {
            name: "spawnd's memory (PSS) for each further session",
            value: format!("{each} bytes"),
            target: "≤ 4 KiB",
            met: Some(each <= 4096),
        },
    ])
}
