//! The hot turn of this build beside that of another, in turn, so that both have the machine's
//! same mood.

use std::path::Path;

use super::session::{Cost, Session};
use super::stats::Times;
use super::{Row, rows};
use crate::harness::{Options, Server};

const ROUNDS: usize = 20;
const EACH: usize = 1_000;
const RATIO: f64 = 1.3;

/// `other` holds frontd, spawnd, launch and channel of the other build.
///
/// # Errors
/// The first turn that fails.
pub async fn rows(other: &Path) -> anyhow::Result<Vec<Row>> {
    let options = |frontd| Options {
        config: rows::hooks(false),
        fake: Some(rows::quick()),
        frontd,
        ..Options::default()
    };
    let servers = [
        Server::start(options(None)).await,
        Server::start(options(Some(other.join("frontd")))).await,
    ];
    let mut sessions = Vec::new();
    for server in &servers {
        let mut session = Session::open(server, "hot")?;
        session.turns(EACH)?;
        sessions.push((session, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (session, costs) in &mut sessions {
            costs.push(session.turns(EACH)?);
        }
    }
    let found: Vec<Figures> = sessions.iter().map(|(_, costs)| Figures::of(costs)).collect();
    let [this, that] = &found[..] else { anyhow::bail!("two builds") };
    let ratio = this.p50 / that.p50;
    let turns = ROUNDS * EACH;
    Ok(vec![
        Row {
            name: "hot turn of this build and of the other, medians of rounds in turn",
            value: format!(
                "p50 {:.3} and {:.3} ms: × {ratio:.2}, p95 {:.3} and {:.3} ms ({turns} turns each)",
                this.p50, that.p50, this.p95, that.p95
            ),
            target: "× 1.3",
            met: Some(ratio <= RATIO),
        },
        Row {
            name: "CPU of frontd + channel for each of these turns",
            value: format!(
                "{:.0} + {:.0} and {:.0} + {:.0} µs",
                this.frontd, this.channel, that.frontd, that.channel
            ),
            target: "",
            met: None,
        },
    ])
}

/// Medians over the rounds.
struct Figures {
    p50: f64,
    p95: f64,
    frontd: f64,
    channel: f64,
}

impl Figures {
    fn of(costs: &[Cost]) -> Self {
        let median = |value: &dyn Fn(&Cost) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(value).collect();
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let millis = |times: &Times, percent| times.percentile(percent).as_secs_f64() * 1e3;
        Self {
            p50: median(&|cost| millis(&cost.times, 50)),
            p95: median(&|cost| millis(&cost.times, 95)),
            frontd: median(&|cost| cost.frontd),
            channel: median(&|cost| cost.channel),
        }
    }
}
