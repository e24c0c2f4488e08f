//! The store by itself, in this process: what commits, replays and a start with many events cost.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use frontd::identity::{BodyHints, SessionKey, identify};
use frontd::run::{Event, Logged, Outcome, RunId, UserMessage};
use frontd::store::{Batch, Change, Keep, NewRun, StoreHandle};

use super::Row;
use super::stats::Times;

const TURNS: usize = 5_000;
const APPENDED: u64 = 200_000;
/// Events of one batch: what a busy turn brings at once.
const BATCH: u64 = 8;
const REPLAYED: u64 = 100_000;
/// 100,000 runs of ten events.
const STORED_RUNS: u64 = 100_000;
const STORED_EACH: u64 = 10;

/// All of them, below `folder`.
///
/// # Errors
/// The first thing that the store refuses.
pub async fn rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let mut rows = hot_turn(&folder.join("hot.db")).await?;
    rows.push(append(&folder.join("append.db")).await?);
    rows.push(replay(&folder.join("replay.db")).await?);
    rows.extend(start(&folder.join("start.db")).await?);
    Ok(rows)
}

pub(super) fn open(path: &Path) -> anyhow::Result<StoreHandle> {
    let keep = Keep { age: Duration::from_secs(30 * 86_400), bytes: 1 << 40 };
    Ok(StoreHandle::open(path, keep)?)
}

pub(super) fn key(name: &str) -> anyhow::Result<SessionKey> {
    let body = BodyHints { user: Some(name), ..BodyHints::default() };
    let identity = identify("local", &http::HeaderMap::new(), &body);
    Ok(identity.ok().context("a plain name")?.key)
}

pub(super) fn begin(id: RunId, key: &SessionKey) -> Change {
    Change::Begin(Box::new(NewRun {
        id,
        key: key.clone(),
        model: "synthesis".to_owned(),
        created: 1_700_000_000_000,
        idempotency: None,
        client_message: None,
        prompt: "hello".to_owned(),
        files: Vec::new(),
    }))
}

pub(super) fn event(run: RunId, seq: u64, event: Event) -> Change {
    Change::Append { run, logged: Arc::new(Logged::new(seq, 1_700_000_000_000 + seq, event)) }
}

fn delta(run: RunId, seq: u64) -> Change {
    event(run, seq, Event::TextDelta { delta: "a few words of an answer that goes on ".into() })
}

pub(super) fn end(run: RunId) -> Change {
    Change::End { run, outcome: Outcome::Completed, at: 1_700_000_000_000 }
}

/// A turn as a session has it: what it begins with, and what it ends with.
async fn hot_turn(path: &Path) -> anyhow::Result<Vec<Row>> {
    let store = open(path)?;
    let key = key("hot")?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let cpu = thread_cpu("store")?;
    for _ in 0..TURNS {
        let run = RunId::random();
        let message = UserMessage {
            id: None,
            text: "hello".into(),
            files: vec![],
            previous_response_id: None,
        };
        let changes = vec![
            begin(run, &key),
            event(run, 1, Event::Started { message }),
            Change::Progress { run, pushed: true, prompt: None },
        ];
        first.push(timed(&store, changes).await?);
        let finished = event(run, 3, Event::Finished(Outcome::Completed));
        second.push(timed(&store, vec![delta(run, 2), finished, end(run)]).await?);
    }
    let cpu = (thread_cpu("store")? - cpu) / u32::try_from(2 * TURNS)?;
    let micros = cpu.as_secs_f64() * 1e6;
    let row = |name, value: String| Row { name, value, target: "", met: None };
    Ok(vec![
        Row {
            name: "store: CPU of the writer for each commit of a hot turn",
            value: format!("{micros:.1} µs ({TURNS} turns)"),
            target: "≤ 40 µs",
            met: Some(micros <= 40.0),
        },
        row("store: commit of a turn's beginning, there and back", Times::new(first).to_string()),
        row("store: commit of a turn's end, there and back", Times::new(second).to_string()),
    ])
}

async fn timed(store: &StoreHandle, changes: Vec<Change>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    store.committed(changes).await?;
    Ok(start.elapsed())
}

/// Batches of a few events as they come, at most a thousand on the way.
async fn append(path: &Path) -> anyhow::Result<Row> {
    let store = open(path)?;
    let run = RunId::random();
    store.committed(vec![begin(run, &key("append")?)]).await?;
    let start = Instant::now();
    write_events(&store, run, 1, APPENDED, BATCH)?;
    let rate = per_second(APPENDED, start.elapsed());
    Ok(Row {
        name: "store: append, events a second",
        value: format!("{rate:.0} ({APPENDED} events in batches of {BATCH})"),
        target: "≥ 50,000",
        met: Some(rate >= 50_000.0),
    })
}

pub(super) fn write_events(
    store: &StoreHandle,
    run: RunId,
    from: u64,
    count: u64,
    each: u64,
) -> anyhow::Result<()> {
    let (sender, verdicts) = mpsc::channel();
    let (mut next, end, mut waiting) = (from, from + count, 0);
    while next < end || waiting > 0 {
        while next < end && waiting < 1000 {
            let stop = end.min(next + each);
            let changes = (next..stop).map(|seq| delta(run, seq)).collect();
            let sender = sender.clone();
            let done = move |verdict: Result<(), _>| {
                let _ = sender.send(verdict.is_ok());
            };
            store.write(Batch { changes, done: Some(Box::new(done)) });
            (next, waiting) = (stop, waiting + 1);
        }
        ensure!(verdicts.recv()?, "a batch was refused");
        waiting -= 1;
    }
    Ok(())
}

async fn replay(path: &Path) -> anyhow::Result<Row> {
    let store = open(path)?;
    let run = RunId::random();
    store.committed(vec![begin(run, &key("replay")?)]).await?;
    write_events(&store, run, 1, REPLAYED, 1000)?;
    let start = Instant::now();
    let mut after = 0;
    while let Some(last) = store.events(run, after).await?.events.last() {
        after = last.seq;
    }
    ensure!(after == REPLAYED, "the replay ended at {after}");
    let rate = per_second(REPLAYED, start.elapsed());
    Ok(Row {
        name: "store: replay of a run, events a second",
        value: format!("{rate:.0} ({REPLAYED} events)"),
        target: "≥ 300,000",
        met: Some(rate >= 300_000.0),
    })
}

async fn start(path: &Path) -> anyhow::Result<Vec<Row>> {
    let store = open(path)?;
    fill(&store).await?;
    let start = Instant::now();
    drop(store);
    let stop = start.elapsed();
    let start = Instant::now();
    let store = open(path)?;
    let opened = start.elapsed();
    ensure!(store.unfinished().await?.is_empty(), "no run is under way");
    let ready = start.elapsed();
    let events = STORED_RUNS * STORED_EACH;
    let size = std::fs::metadata(path)?.len() >> 20;
    Ok(vec![
        Row {
            name: "store: start with 1,000,000 events",
            value: format!("{opened:.1?}, {ready:.1?} with the first look ({events} events)"),
            target: "≤ 200 ms",
            met: Some(ready <= Duration::from_millis(200)),
        },
        Row {
            name: "store: stop of the same",
            value: format!("{stop:.1?}, {size} MiB"),
            target: "",
            met: None,
        },
    ])
}

/// A million events of runs that are over.
pub(super) async fn fill(store: &StoreHandle) -> anyhow::Result<()> {
    let key = key("start")?;
    for _ in 0..STORED_RUNS / 100 {
        let mut changes = Vec::new();
        for _ in 0..100 {
            let run = RunId::random();
            changes.push(begin(run, &key));
            changes.extend((1..=STORED_EACH).map(|seq| delta(run, seq)));
            changes.push(end(run));
        }
        store.committed(changes).await?;
    }
    Ok(())
}

pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

/// CPU time of this process' threads with that name.
fn thread_cpu(name: &str) -> anyhow::Result<Duration> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim_end() == name {
            let text = std::fs::read_to_string(task.join("schedstat"))?;
            total += text.split_ascii_whitespace().next().context("schedstat")?.parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(total))
}
