//! What the server counts of itself, for Prometheus. Counting is an atomic addition; what the
//! other parts know anyway is asked when somebody looks ([`scrape`]).
//!
//! `docs/operations.md` lists every metric; a test holds it against the registry.

pub mod labels;
mod scrape;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use proto::spawn::ExitCause;

use crate::run;
use labels::{
    Cause, Class, OfCause, OfOutcome, OfReason, Outcome, Rejected, Request, Route, Users,
};
pub use scrape::{CONTENT_TYPE, Now};

/// From a hot turn's millisecond to a long turn's hour, in seconds.
const REQUESTS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];
/// How long a message waits: nothing, a start, turns of others.
const WAITS: [f64; 11] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];
/// A start takes some milliseconds, or a second with the real CLI; what takes a minute has failed.
const STARTS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    rejected: Family<OfReason, Counter>,
    runs: Family<OfOutcome, Counter>,
    waiting: Gauge,
    waits: Histogram,
    sessions: Family<labels::Session, Gauge>,
    users: Users,
    spawns: Histogram,
    readies: Histogram,
    exits: Family<OfCause, Counter>,
    adoptions: Counter,
    scraped: scrape::Gauges,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("synthesis");
        let requests = Family::<Request, Counter>::default();
        registry.register("requests", "Answered requests", requests.clone());
        let durations =
            Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(REQUESTS));
        let help = "From the end of a request's head to the head of its response";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        let rejected = Family::<OfReason, Counter>::default();
        registry.register("rejected", "Requests that were not served", rejected.clone());
        let runs = Family::<OfOutcome, Counter>::default();
        registry.register("runs", "Runs that are over", runs.clone());
        let waiting = Gauge::default();
        registry.register("queue_depth", "Messages that wait for their turn", waiting.clone());
        let waits = Histogram::new(WAITS);
        let help = "From a message's arrival until claude was given it";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, waits.clone());
        let sessions = Family::<labels::Session, Gauge>::default();
        registry.register("sessions", "Sessions at work or with a process", sessions.clone());
        let spawns = Histogram::new(STARTS);
        let help = "From asking spawnd for a process until it runs";
        registry.register_with_unit("spawn", help, Unit::Seconds, spawns.clone());
        let readies = Histogram::new(STARTS);
        let help = "From a process's start until its session takes messages";
        registry.register_with_unit("ready", help, Unit::Seconds, readies.clone());
        let exits = Family::<OfCause, Counter>::default();
        registry.register("process_exits", "Processes that ended", exits.clone());
        let adoptions = Counter::default();
        let help = "Processes taken over from an earlier frontd";
        registry.register("adoptions", help, adoptions.clone());
        let started = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        started.set(seconds_since_1970());
        let help = "When this frontd began, since 1970: a change is a restart";
        registry.register_with_unit("start_time", help, Unit::Seconds, started);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "What this frontd is", Info::new(version));
        let scraped = scrape::Gauges::register(&mut registry);
        // What never happened shows as 0, so that its first time is an increase.
        for outcome in Outcome::ALL {
            drop(runs.get_or_create(&OfOutcome { outcome: *outcome }));
        }
        for cause in Cause::ALL {
            drop(exits.get_or_create(&OfCause { cause: *cause }));
        }
        for reason in Rejected::ALL {
            drop(rejected.get_or_create(&OfReason { reason: *reason }));
        }
        Self {
            registry,
            requests,
            durations,
            rejected,
            runs,
            waiting,
            waits,
            sessions,
            users: Users::default(),
            spawns,
            readies,
            exits,
            adoptions,
            scraped,
        }
    }
}

impl Metrics {
    /// A request was answered. `route` is the router's own word for it.
    pub fn answered(
        &self,
        method: &'static str,
        route: &'static str,
        status: StatusCode,
        code: &str,
        within: Duration,
    ) {
        let request = Request { method, route, status: Class::of(status) };
        self.requests.get_or_create(&request).inc();
        self.durations.get_or_create(&Route { method, route }).observe(within.as_secs_f64());
        if let Some(reason) = Rejected::of(status, code) {
            self.rejected(reason);
        }
    }

    pub fn rejected(&self, reason: Rejected) {
        self.rejected.get_or_create(&OfReason { reason }).inc();
    }

    /// A run is over.
    pub fn finished(&self, outcome: &run::Outcome) {
        self.runs.get_or_create(&OfOutcome { outcome: Outcome::of(outcome) }).inc();
        if let run::Outcome::Failed { error } = outcome
            && matches!(error.kind, run::FailureKind::NoSlot | run::FailureKind::TooManyProcesses)
        {
            self.rejected(Rejected::Slot);
        }
    }

    /// A message that waits, until this is dropped.
    pub fn wait(&self) -> Waiting {
        self.waiting.inc();
        Waiting { depth: self.waiting.clone(), waits: self.waits.clone(), since: Instant::now() }
    }

    /// A session of this user, until this is dropped.
    pub fn session(&self, user: &str) -> Session {
        Session { sessions: self.sessions.clone(), user: self.users.label(user), state: None }
    }

    /// spawnd was asked for a process that long ago, and it runs.
    pub fn spawned(&self, within: Duration) {
        self.spawns.observe(within.as_secs_f64());
    }

    /// A process that runs so long takes messages from now on.
    pub fn ready(&self, within: Duration) {
        self.readies.observe(within.as_secs_f64());
    }

    pub fn exited(&self, cause: ExitCause) {
        self.exits.get_or_create(&OfCause { cause: Cause::of(cause) }).inc();
    }

    pub fn adopted(&self) {
        self.adoptions.inc();
    }
}

/// A message in a queue.
pub struct Waiting {
    depth: Gauge,
    waits: Histogram,
    since: Instant,
}

impl Waiting {
    /// claude was given the message. Tells after how long.
    pub fn served(self) -> Duration {
        let waited = self.since.elapsed();
        self.waits.observe(waited.as_secs_f64());
        waited
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.depth.dec();
    }
}

/// A session in its state.
pub struct Session {
    sessions: Family<labels::Session, Gauge>,
    user: Arc<str>,
    state: Option<&'static str>,
}

impl Session {
    /// `None`: nothing is left of it.
    pub fn is(&mut self, state: Option<&'static str>) {
        if state == self.state {
            return;
        }
        let user = &self.user;
        let gauge = |state| {
            self.sessions.get_or_create_owned(&labels::Session { state, user: Arc::clone(user) })
        };
        if let Some(left) = self.state {
            gauge(left).dec();
        }
        if let Some(entered) = state {
            gauge(entered).inc();
        }
        self.state = state;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.is(None);
    }
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
