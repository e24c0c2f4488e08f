//! A frontd on a store that is full already: how soon it serves, and how fast it replays a run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use frontd::run::{Event, Outcome, RunId};

use super::readers::Blocks;
use super::stats::Times;
use super::{Row, machine, store};
use crate::harness::{TwoDaemons, Wanted};

/// Events of the run that is replayed, the last of them its end.
const REPLAYED: u64 = 100_000;
const REPLAYS: u32 = 5;
const STARTS: usize = 5;

/// # Errors
/// The first thing that is refused.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    // Nothing that is written here is to be removed for its age or size.
    let config = "[store]\nkeep_days = 36500\nmax_bytes = 1000000000000\n".to_owned();
    let mut daemons = TwoDaemons::start(Wanted { config, ..Wanted::default() }).await;
    let empty = starts(&mut daemons).await;
    daemons.stop_frontd().await;
    let run = fill(&daemons).await?;
    daemons.start_frontd().await;
    let full = starts(&mut daemons).await;
    let replay = replays(&daemons, run)?;
    Ok(vec![
        Row {
            name: "start of frontd with 1,000,000 stored events, exec to `ready`",
            value: format!("{full} ({STARTS} starts; empty: {empty})"),
            target: "≤ 200 ms",
            met: Some(full.percentile(100) <= Duration::from_millis(200)),
        },
        replay,
    ])
}

async fn starts(daemons: &mut TwoDaemons) -> Times {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        daemons.stop_frontd().await;
        let begun = Instant::now();
        daemons.start_frontd().await;
        times.push(begun.elapsed());
    }
    Times::new(times)
}

async fn fill(daemons: &TwoDaemons) -> anyhow::Result<RunId> {
    let store = store::open(&daemons.state.join("frontd/synthesis.db"))?;
    store::fill(&store).await?;
    let run = RunId::random();
    store.committed(vec![store::begin(run, &store::key("replay")?)]).await?;
    store::write_events(&store, run, 1, REPLAYED - 1, 1000)?;
    let finished = store::event(run, REPLAYED, Event::Finished(Outcome::Completed));
    store.committed(vec![finished, store::end(run)]).await?;
    Ok(run)
}

fn replays(daemons: &TwoDaemons, run: RunId) -> anyhow::Result<Row> {
    let frontd = daemons.frontd_pid().context("frontd")?;
    let (mut times, mut cpu, mut bytes) = (Vec::new(), Duration::ZERO, 0);
    for _ in 0..REPLAYS {
        let before = machine::cpu(frontd)?;
        let begun = Instant::now();
        let (events, length) = replay(daemons.client.address, run)?;
        times.push(begun.elapsed());
        cpu += machine::cpu(frontd)? - before;
        ensure!(events == REPLAYED, "{events} events");
        bytes = length;
    }
    let rate = store::per_second(REPLAYED, Times::new(times).median());
    let each = cpu.as_secs_f64() * 1e6 / f64::from(REPLAYS) / f64::from(u32::try_from(REPLAYED)?);
    Ok(Row {
        name: "replay of a run to one reader over HTTP, events a second",
        value: format!(
            "{rate:.0} ({REPLAYED} events, {} MiB; frontd {each:.2} µs of CPU each)",
            bytes >> 20
        ),
        target: "≥ 300,000",
        met: Some(rate >= 300_000.0),
    })
}

/// Events and bytes.
fn replay(address: SocketAddr, run: RunId) -> anyhow::Result<(u64, usize)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!("GET /v1/runs/{run}/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut blocks, mut buffer, mut length) = (Blocks::default(), vec![0; 256 << 10], 0);
    while !blocks.ended() {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "closed after {} events", blocks.count());
        blocks.take(buffer.get(..count).context("read too much")?);
        length += count;
    }
    Ok((blocks.count(), length))
}
