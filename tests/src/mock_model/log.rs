//! What the mock was asked: kept for assertions, bounded, and awaited instead of slept for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// Requests that are kept; older ones are forgotten, the counts go on.
const KEPT_REQUESTS: usize = 2_000;
/// Bytes of bodies that are kept: the CLI sends about 100 KB with each request.
const KEPT_BYTES: usize = 64 * 1024 * 1024;

/// What a request was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step of a conversation's turn.
    Turn,
    /// The CLI's own question: a title, a summary, a quota check.
    Side,
    /// Another known route.
    Other,
    /// A route that the mock does not know.
    Unknown,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub kind: Kind,
    pub method: String,
    /// Path with query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Recorded {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Recorded>,
    bytes: usize,
    total: usize,
    turns: usize,
}

/// Shared between the server and the test that looks.
#[derive(Default)]
pub struct RequestLog {
    kept: Mutex<Kept>,
    changed: Notify,
    hanging: AtomicUsize,
}

impl RequestLog {
    pub(super) fn record(&self, request: Recorded) {
        if request.kind == Kind::Unknown {
            eprintln!("mock-model: unknown route {} {}", request.method, request.target);
        }
        let mut kept = self.lock();
        kept.total += 1;
        kept.turns += usize::from(request.kind == Kind::Turn);
        kept.bytes += request.body.len();
        kept.requests.push_back(request);
        while kept.requests.len() > KEPT_REQUESTS || kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.requests.pop_front() else { break };
            kept.bytes -= oldest.body.len();
        }
        drop(kept);
        self.changed.notify_waiters();
    }

    /// The requests that are still kept, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.iter().cloned().collect()
    }

    /// The kept requests that are steps of turns.
    pub fn turn_requests(&self) -> Vec<Recorded> {
        self.lock().requests.iter().filter(|request| request.kind == Kind::Turn).cloned().collect()
    }

    /// Requests of any kind since the start, the forgotten ones included.
    pub fn total(&self) -> usize {
        self.lock().total
    }

    /// Steps of turns since the start.
    pub fn turns(&self) -> usize {
        self.lock().turns
    }

    /// Answers that hang open (`HANG`) at this moment.
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// Waits until `holds` is true of this log; asked again after every change.
    ///
    /// # Errors
    /// When `within` passes first.
    pub async fn wait_until(
        &self,
        within: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(within, async {
            loop {
                // Armed before the question, so that a change between the two is not lost.
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        })
        .await
    }

    pub(super) fn hang_begins(&self) {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(super) fn hang_ends(&self) {
        self.hanging.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic elsewhere leaves counts and a queue, which are valid at every step.
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
