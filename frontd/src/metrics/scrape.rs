//! The text that Prometheus reads, and the gauges whose values other parts of the server have:
//! they are set while somebody looks.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// OpenMetrics, as the encoder writes it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the other parts say at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub runs_open: usize,
    pub processes: usize,
    pub bridge_connections: usize,
    pub readers: usize,
    pub spawnd_connected: bool,
    /// Ever.
    pub spawnd_connects: u64,
    pub store_bytes: u64,
    /// Batches that wait to be committed.
    pub store_queue: usize,
    pub store_failing: bool,
    /// Ever.
    pub audit_lost: u64,
}

pub(super) struct Gauges {
    runs_open: Gauge,
    processes: Gauge,
    bridge_connections: Gauge,
    readers: Gauge,
    spawnd_connected: Gauge,
    spawnd_connects: Counter,
    store_bytes: Gauge<u64, AtomicU64>,
    store_queue: Gauge,
    store_failing: Gauge,
    audit_lost: Counter,
}

impl Gauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let runs_open = gauge("runs_open", "Runs that are not over");
        let processes = gauge("processes", "claude processes that live, start or stop");
        let bridge_connections = gauge("bridge_connections", "Channels that are connected");
        let readers = gauge("readers", "Readers of runs");
        let spawnd_connected = gauge("spawnd_connected", "1 while spawnd answers");
        let store_queue = gauge("store_queue", "Batches that wait to be committed");
        let store_failing = gauge("store_failing", "1 while the store takes nothing");
        let store_bytes = Gauge::default();
        let help = "The database and its log on disk";
        registry.register_with_unit("store", help, Unit::Bytes, store_bytes.clone());
        let spawnd_connects = Counter::default();
        let help = "Connections made to spawnd: more than one is a restart of it";
        registry.register("spawnd_connects", help, spawnd_connects.clone());
        let audit_lost = Counter::default();
        let help = "Audit entries that could not be written";
        registry.register("audit_lost", help, audit_lost.clone());
        Self {
            runs_open,
            processes,
            bridge_connections,
            readers,
            spawnd_connected,
            spawnd_connects,
            store_bytes,
            store_queue,
            store_failing,
            audit_lost,
        }
    }

    fn set(&self, now: Now) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.runs_open.set(count(now.runs_open));
        self.processes.set(count(now.processes));
        self.bridge_connections.set(count(now.bridge_connections));
        self.readers.set(count(now.readers));
        self.spawnd_connected.set(now.spawnd_connected.into());
        self.store_bytes.set(now.store_bytes);
        self.store_queue.set(count(now.store_queue));
        self.store_failing.set(now.store_failing.into());
        grow(&self.spawnd_connects, now.spawnd_connects);
        grow(&self.audit_lost, now.audit_lost);
    }
}

/// To what another part has counted so far.
fn grow(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

impl Metrics {
    /// Everything, as text.
    pub fn text(&self, now: Now) -> String {
        self.scraped.set(now);
        let mut text = String::new();
        // Only a writer that is not memory can fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
