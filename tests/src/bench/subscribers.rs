//! A crowd that reads one run as it happens.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use frontd::run::RunId;
use serde_json::json;

use super::readers::{READY, Report};
use super::stats::Times;
use super::{Row, machine, rows, store};
use crate::harness::{Options, Server};

/// A message of which nothing is heard for longer counts as lost when there are no hooks.
const PATIENCE: Duration = Duration::from_secs(8);
const EVENTS: usize = 100;
const PAUSE_MS: usize = 10;

/// How many, how long claude waits for them to come, and what the rows are called.
struct Crowd {
    readers: usize,
    patience: Duration,
    names: [&'static str; 3],
    /// The figures are aimed at.
    aimed: bool,
}

const THOUSAND: Crowd = Crowd {
    readers: 1_000,
    patience: PATIENCE,
    names: [
        "1,000 readers of one run, 100 events 10 ms apart: last delivery after the append",
        "CPU of frontd for each delivery to 1,000 readers",
        "frontd, PSS for each of 1,000 readers",
    ],
    aimed: true,
};
const TEN_THOUSAND: Crowd = Crowd {
    readers: 10_000,
    patience: PATIENCE,
    names: [
        "10,000 readers of one run, 100 events 10 ms apart: last delivery after the append",
        "CPU of frontd for each delivery to 10,000 readers",
        "frontd, PSS for each of 10,000 readers",
    ],
    aimed: false,
};

/// # Errors
/// The first thing that fails.
pub async fn thousand() -> anyhow::Result<Vec<Row>> {
    THOUSAND.rows().await
}

/// # Errors
/// The first thing that fails: descriptors for so many, for instance.
pub async fn ten_thousand() -> anyhow::Result<Vec<Row>> {
    TEN_THOUSAND.rows().await
}

impl Crowd {
    async fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let config = format!("{}readers_per_run = 20000\n", rows::hooks(false));
        let options = Options { config, fake: Some(rows::quick()), ..Options::default() };
        let mut server = Server::start(options).await;
        let frontd = server.pid();
        // The session's own start is none of this.
        server.client.chat("warm").await;
        let patience = self.patience.as_millis();
        let body = json!({ "input": format!("SLOW {patience} CHUNKS {EVENTS} {PAUSE_MS}") });
        let begun = server.client.post("/v1/runs", &body).await;
        ensure!(begun.status == 201, "{}", begun.text());
        let id = begun.json()["id"].as_str().context("an id")?.to_owned();
        let alone = machine::pss_kib(frontd)?;
        let path = format!("/v1/runs/{id}/events");
        let mut readers = Readers::start(server.client.address, &path, self.readers)?;
        ensure!(readers.line()?.trim_end() == READY, "the readers");
        let (waiting, before) = (machine::pss_kib(frontd)?, machine::cpu(frontd)?);
        let report: Report = serde_json::from_str(&readers.line()?)?;
        let cpu = machine::cpu(frontd)? - before;
        let served = machine::pss_kib(frontd)?;
        ensure!(
            report.deliveries >= u64::try_from(self.readers * EVENTS)?,
            "{} deliveries: the readers were too slow to come",
            report.deliveries
        );
        drop(readers);
        server.end().await;
        let id = RunId::parse(&id).context("an id")?;
        let delays = delays(&server.state.join("frontd/synthesis.db"), id, &report).await?;
        self.table(delays, cpu, report.deliveries, waiting.max(served).saturating_sub(alone))
    }

    fn table(
        &self,
        (delays, last): (Times, Duration),
        cpu: Duration,
        deliveries: u64,
        pss_kib: u64,
    ) -> anyhow::Result<Vec<Row>> {
        let [delay, cost, memory] = self.names;
        let each = cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(deliveries)?);
        let kib = f64::from(u32::try_from(pss_kib)?) / f64::from(u32::try_from(self.readers)?);
        let aimed = |target, met| if self.aimed { (target, Some(met)) } else { ("", None) };
        let row = |name, value, (target, met)| Row { name, value, target, met };
        Ok(vec![
            row(
                delay,
                format!("the last {last:.1?}; all {delays}"),
                aimed("≤ 50 ms", last <= Duration::from_millis(50)),
            ),
            row(cost, format!("{each:.1} µs ({deliveries})"), aimed("≤ 10 µs", each <= 10.0)),
            row(memory, format!("{kib:.1} KiB"), aimed("≤ 20 KiB", kib <= 20.0)),
        ])
    }
}

/// From each event's append to the slowest reader, as far as milliseconds tell; and of the last.
async fn delays(path: &Path, run: RunId, report: &Report) -> anyhow::Result<(Times, Duration)> {
    let store = store::open(path)?;
    let mut delays = Vec::new();
    for logged in store.events(run, 0).await?.events {
        let index = usize::try_from(logged.seq - 1)?;
        let last = report.last.get(index).context("an event that nobody had")?;
        delays.push(Duration::from_micros(last.saturating_sub(logged.at * 1000)));
    }
    ensure!(delays.len() == report.last.len(), "{} events are stored", delays.len());
    let last = *delays.last().context("no event")?;
    // Who came later than the first events waited for nothing.
    let delays = delays.split_off(delays.len().saturating_sub(EVENTS));
    Ok((Times::new(delays), last))
}

/// The process of the readers.
struct Readers {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Readers {
    fn start(address: std::net::SocketAddr, path: &str, count: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--readers")
            .args([&address.to_string(), path, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.lines.read_line(&mut line)? > 0, "the readers ended");
        Ok(line)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
