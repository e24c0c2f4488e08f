//! The rows of the table.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::http::Connection;
use super::session::{Cost, Session};
use super::stats::Times;
use super::{Row, machine};
use crate::harness::{Options, Server, binary, processes};

/// Measured starts, hot turns at one session, and turns of each of eight sessions.
const STARTS: usize = 20;
const HOT: usize = 20_000;
const EACH: usize = 4_000;
const SESSIONS: usize = 8;
const HOOKED: usize = 300;
const IDLE: Duration = Duration::from_secs(60);

/// A fake claude that costs as little as it can.
pub(super) fn quick() -> serde_json::Value {
    json!({ "development_dialog": false, "quiet": true, "transcript": false, "state_file": false })
}

pub(super) fn hooks(on: bool) -> String {
    format!("[session]\nhooks = {on}\n[limits]\nprocesses = 100\n")
}

/// Everything that needs no hooks.
///
/// # Errors
/// The first turn that fails.
pub async fn without_hooks() -> anyhow::Result<Vec<Row>> {
    let options = Options { config: hooks(false), fake: Some(quick()), ..Options::default() };
    let server = Server::start(options).await;
    let mut rows = vec![cold(&server)?];
    rows.extend(hot(&server)?);
    rows.push(throughput(&server)?);
    rows.extend(idle(&server)?);
    Ok(rows)
}

fn cold(server: &Server) -> anyhow::Result<Row> {
    let mut times = Vec::new();
    for number in 0..STARTS {
        let mut connection = Connection::open(server.client.address, &format!("cold{number}"))?;
        times.push(connection.turn("hello")?.done);
    }
    let times = Times::new(times);
    Ok(Row {
        name: "first request of a new session to `[DONE]`",
        value: format!("{times} ({STARTS} starts)"),
        target: "≤ 60 ms",
        met: Some(times.median() <= Duration::from_millis(60)),
    })
}

fn hot(server: &Server) -> anyhow::Result<Vec<Row>> {
    let mut session = Session::open(server, "hot")?;
    session.turns(200)?;
    let Cost { times, frontd, channel } = session.turns(HOT)?;
    let good = times.median() <= Duration::from_micros(200)
        && times.percentile(99) <= Duration::from_millis(2);
    Ok(vec![
        Row {
            name: "hot turn, one session, hooks off",
            value: format!("{times} ({HOT} turns)"),
            target: "p50 ≤ 0.20 ms, p99 ≤ 2 ms",
            met: Some(good),
        },
        Row {
            name: "CPU of frontd + channel for each hot turn",
            value: format!("{frontd:.0} + {channel:.0} µs"),
            target: "≤ 150 µs",
            met: Some(frontd + channel <= 150.0),
        },
    ])
}

fn throughput(server: &Server) -> anyhow::Result<Row> {
    let mut connections = Vec::new();
    for number in 0..SESSIONS {
        let mut connection = Connection::open(server.client.address, &format!("many{number}"))?;
        connection.turn("warm")?;
        connections.push(connection);
    }
    let start = Instant::now();
    let threads: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            std::thread::spawn(move || {
                (0..EACH).try_for_each(|_| connection.turn("hello").map(drop))
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    let turns = f64::from(u32::try_from(SESSIONS * EACH)?);
    let rate = turns / start.elapsed().as_secs_f64();
    Ok(Row {
        name: "turns a second over 8 sessions",
        value: format!("{rate:.0}"),
        target: "≥ 6,000",
        met: Some(rate >= 6000.0),
    })
}

fn idle(server: &Server) -> anyhow::Result<Vec<Row>> {
    let claudes = server.claudes();
    let channels: Vec<u32> =
        claudes.iter().map(|pid| channel_of(*pid)).collect::<Result<_, _>>()?;
    let total: u64 = channels.iter().map(|pid| machine::pss_kib(*pid)).sum::<Result<_, _>>()?;
    let count = u64::try_from(channels.len())?.max(1);
    let first = *channels.first().context("a channel")?;
    let spawnd = child_named(server.pid(), "spawnd")?;
    let (spawnd_pss, frontd_pss) = (machine::pss_kib(spawnd)?, machine::pss_kib(server.pid())?);
    let before = machine::wake_ups(first)?;
    std::thread::sleep(IDLE);
    let wake_ups = machine::wake_ups(first)? - before;
    let mean = total / count;
    Ok(vec![
        Row {
            name: "channel, PSS for each idle session",
            value: format!("{mean} KiB ({count} sessions)"),
            target: "≤ 2 MB",
            met: Some(mean <= 2000),
        },
        Row {
            name: "channel, wake-ups a minute when idle",
            value: wake_ups.to_string(),
            target: "≤ 2",
            met: Some(wake_ups <= 2),
        },
        Row {
            name: "spawnd, PSS",
            value: format!("{spawnd_pss} KiB"),
            target: "≤ 1.5 MB",
            met: Some(spawnd_pss <= 1500),
        },
        Row { name: "frontd, PSS", value: format!("{frontd_pss} KiB"), target: "", met: None },
    ])
}

/// Turns with hooks, and what one hook process takes.
///
/// # Errors
/// The first turn that fails.
pub async fn with_hooks() -> anyhow::Result<Vec<Row>> {
    let options = Options { config: hooks(true), fake: Some(quick()), ..Options::default() };
    let server = Server::start(options).await;
    let mut connection = Connection::open(server.client.address, "hooked")?;
    connection.turn("warm")?;
    let mut times = Vec::new();
    for _ in 0..HOOKED {
        times.push(connection.turn("hello")?.done);
    }
    let sessions = server.state.join("run/sessions");
    let folder = std::fs::read_dir(sessions)?.next().context("a session")??.path();
    let hook = hook_times(&folder)?;
    Ok(vec![
        Row {
            name: "hot turn, one session, hooks on",
            value: format!("{} ({HOOKED} turns)", Times::new(times)),
            target: "",
            met: None,
        },
        Row {
            name: "one hook process, start to exit",
            value: format!("{hook} ({HOOKED} hooks)"),
            target: "≤ 5 ms",
            met: Some(hook.median() <= Duration::from_millis(5)),
        },
    ])
}

fn hook_times(folder: &Path) -> anyhow::Result<Times> {
    let body = json!({
        "session_id": "x", "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": { "command": "true" }, "tool_use_id": "toolu_1",
    })
    .to_string();
    let mut times = Vec::new();
    for _ in 0..HOOKED {
        let start = Instant::now();
        let mut child = Command::new(binary("channel"))
            .args(["hook", "PreToolUse"])
            .env("SYNTHESIS_HOOK_SOCKET", folder.join("hook.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        std::io::Write::write_all(&mut child.stdin.take().context("stdin")?, body.as_bytes())?;
        ensure!(child.wait()?.success(), "a hook failed");
        times.push(start.elapsed());
    }
    Ok(Times::new(times))
}

pub(super) fn channel_of(claude: u32) -> anyhow::Result<u32> {
    child_named(claude, "channel")
}

fn child_named(parent: u32, name: &str) -> anyhow::Result<u32> {
    let children = processes::children(parent).into_iter();
    let mut named = children.filter(|pid| processes::name(*pid).as_deref() == Some(name));
    named.next().with_context(|| format!("{parent} has no child {name}"))
}
