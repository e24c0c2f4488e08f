//! The real CLI with the mock model: how much of a cold turn is the CLI's own start.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::Row;
use super::http::Connection;
use super::stats::Times;
use crate::harness::{Options, Server, binary};
use crate::mock_model::MockModel;
use crate::offline_claude::Offline;

const STARTS: usize = 7;
const HOT: usize = 20;
const ANSWER: &[u8] = b"You said: ";

/// # Errors
/// The first turn that fails.
pub async fn rows(cli: &Path) -> anyhow::Result<Vec<Row>> {
    let mock = MockModel::start().await?;
    let folder = tempfile::tempdir()?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open)?;
    let offline = Offline::new(cli, mock.url());
    let claude = offline.install(&binary("offline-claude"), folder.path())?;
    let environment = vec![("SYNTHESIS_VISIBLE".to_owned(), offline.visible(folder.path()))];
    let options = Options { claude: Some(claude), environment, ..Options::default() };
    let server = Server::start(options).await;
    let address = server.client.address;
    let (mut first_text, mut registered, mut hot) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..STARTS {
        let before = server.claudes();
        // The mock shares this thread's runtime: the blocking client needs a thread of its own.
        let turns = tokio::task::spawn_blocking(move || {
            let mut connection = Connection::open(address, &format!("real{number}"))?;
            let cold = connection.turn_answered("hello", ANSWER)?.first_text;
            let mut hot = Vec::new();
            for _ in 0..HOT {
                hot.push(connection.turn_answered("hello", ANSWER)?.first_text);
            }
            anyhow::Ok((cold, hot))
        });
        let (cold, more) = turns.await??;
        first_text.push(cold);
        hot.extend(more);
        let claude = server.claudes().into_iter().find(|pid| !before.contains(pid));
        registered.push(time_to_register(claude.context("a new claude")?)?);
    }
    let (cold, own) = (Times::new(first_text), Times::new(registered));
    let limit = own.median().mul_f64(1.2) + Duration::from_millis(150);
    Ok(vec![
        Row {
            name: "real CLI: exec to `Channel notifications registered`",
            value: format!("{own} ({STARTS} starts)"),
            target: "",
            met: None,
        },
        Row {
            name: "real CLI, cold: request to first byte of the answer",
            value: format!("{cold} ({STARTS} starts)"),
            target: "≤ 1.2 × the line above + 150 ms",
            met: Some(cold.median() <= limit),
        },
        Row {
            name: "real CLI, hot: request to first byte of the answer",
            value: format!("{} ({} turns)", Times::new(hot), STARTS * HOT),
            target: "",
            met: None,
        },
    ])
}

/// From the process's start to the line in its own debug log.
fn time_to_register(claude: u32) -> anyhow::Result<Duration> {
    let arguments = std::fs::read_to_string(format!("/proc/{claude}/cmdline"))?;
    let mut arguments = arguments.split('\0');
    arguments.find(|argument| *argument == "--debug-file").context("no debug file")?;
    let log = arguments.next().context("no debug file")?;
    // On the session's own tmpfs.
    let log = std::fs::read_to_string(format!("/proc/{claude}/root{log}"))?;
    let line = log.lines().find(|line| line.contains("Channel notifications registered"));
    let stamp = line.and_then(|line| line.split_whitespace().next()).context("not registered")?;
    Ok(seconds_of_day(stamp).context("the log's time")?.saturating_sub(started(claude)?))
}

/// `2026-11-21T01:57:07.485Z` as time since midnight.
fn seconds_of_day(stamp: &str) -> Option<Duration> {
    let (_, time) = stamp.trim_end_matches('Z').split_once('T')?;
    let mut parts = time.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

/// A process's start as time since midnight, from its ticks since boot.
fn started(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("stat")?.1;
    let ticks: f64 = after.split_ascii_whitespace().nth(19).context("stat")?.parse()?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split_ascii_whitespace().next().context("uptime")?.parse()?;
    let age = Duration::from_secs_f64((uptime - ticks / 100.0).max(0.0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let began = now.saturating_sub(age);
    Ok(Duration::from_secs(began.as_secs() % 86_400)
        + Duration::from_nanos(began.subsec_nanos().into()))
}
