//! Does a turn cost more in a session that has had many?

use super::session::{Cost, Session};
use super::stats::Times;
use super::{Row, rows};
use crate::harness::{Options, Server};

/// Young sessions: a few turns of each are few samples.
const YOUNG: usize = 20;
/// Each measured at this many turns, over as many turns as stand beside it.
const AT: [(usize, usize); 4] = [(10, 10), (100, 100), (1_000, 600), (10_000, 2_000)];
/// How much more than the least the most may be.
const FLAT: f64 = 1.2;

/// # Errors
/// The first turn that fails.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    let config = rows::hooks(false);
    let options = Options { config, fake: Some(rows::quick()), ..Options::default() };
    let server = Server::start(options).await;
    // What the process itself warms up to is no session's.
    Session::open(&server, "warm")?.turns(2_000)?;
    let mut samples: Vec<Vec<Cost>> = AT.iter().map(|_| Vec::new()).collect();
    for number in 0..YOUNG {
        let mut session = Session::open(&server, &format!("young{number}"))?;
        measure(&mut session, &AT[..2], &mut samples)?;
    }
    let mut old = Session::open(&server, "old")?;
    measure(&mut old, &AT, &mut samples)?;
    let found: Vec<(f64, f64)> = samples.iter().map(|costs| summary(costs)).collect();
    let said = |value: fn(&(f64, f64)) -> String| {
        let values: Vec<String> = found.iter().map(value).collect();
        format!("{} at 10, 100, 1,000, 10,000 turns", values.join(", "))
    };
    let flat = |value: fn(&(f64, f64)) -> f64| {
        let values = || found.iter().map(value);
        Some(values().fold(0.0, f64::max) <= FLAT * values().fold(f64::MAX, f64::min))
    };
    Ok(vec![
        Row {
            name: "hot turn p50 in a session as it grows",
            value: said(|(time, _)| format!("{time:.3} ms")),
            target: "within 20 %",
            met: flat(|(time, _)| *time),
        },
        Row {
            name: "CPU of frontd + channel for each turn in a session as it grows",
            value: said(|(_, cpu)| format!("{cpu:.0} µs")),
            target: "within 20 %",
            met: flat(|(_, cpu)| *cpu),
        },
    ])
}

/// Brings a session that had one turn to each place, and measures around it.
fn measure(
    session: &mut Session,
    places: &[(usize, usize)],
    samples: &mut [Vec<Cost>],
) -> anyhow::Result<()> {
    let mut had = 1;
    for ((at, over), samples) in places.iter().zip(samples) {
        session.turns(at - over / 2 - had)?;
        samples.push(session.turns(*over)?);
        had = at - over / 2 + over;
    }
    Ok(())
}

/// The median in milliseconds and the CPU in microseconds of the median sample.
fn summary(costs: &[Cost]) -> (f64, f64) {
    let times = Times::new(costs.iter().map(|cost| cost.times.median()).collect());
    let mut cpu: Vec<f64> = costs.iter().map(|cost| cost.frontd + cost.channel).collect();
    cpu.sort_unstable_by(f64::total_cmp);
    let cpu = cpu.get(cpu.len() / 2).copied().unwrap_or_default();
    (times.median().as_secs_f64() * 1e3, cpu)
}
