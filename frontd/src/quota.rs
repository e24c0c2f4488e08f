//! What one client may use of a server that many share: requests a minute, and runs at once. Its
//! processes are counted by the pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::Principals;
use crate::http::error::{Again, ApiError};
use crate::run::Runs;

/// Clients whose requests are counted. Beyond, those that have used nothing of late are forgotten,
/// which changes nothing for them.
const KNOWN: usize = 4096;
/// When a run ends nobody knows; a client that is told to wait shall not come at once.
const RUNS_AGAIN: u32 = 5;
const MINUTE: f64 = 60.0;

/// The requests of each client: a bucket that holds a minute's worth and fills evenly.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<Arc<str>, Bucket>>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Where a client stands, as clients of the OpenAI API read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    limit: u32,
    remaining: u32,
    /// Until all of it is there again.
    reset: Duration,
}

impl Quotas {
    /// Counts a request.
    ///
    /// # Errors
    /// How long it is until there is room for one.
    pub fn take(
        &self,
        principal: &Arc<str>,
        limit: u32,
        now: Instant,
    ) -> Result<Standing, (Standing, Duration)> {
        let most = f64::from(limit);
        let mut buckets = self.lock();
        if buckets.len() >= KNOWN && !buckets.contains_key(principal) {
            buckets.retain(|_, bucket| bucket.level(most, now) < most);
        }
        let full = || Bucket { left: most, at: now };
        let bucket = buckets.entry(Arc::clone(principal)).or_insert_with(full);
        (bucket.left, bucket.at) = (bucket.level(most, now), now);
        let enough = bucket.left >= 1.0;
        if enough {
            bucket.left -= 1.0;
        }
        let until = |level: f64| Duration::from_secs_f64((level - bucket.left) * MINUTE / most);
        let standing = Standing {
            limit,
            // Rounded down, and never below nothing.
            remaining: bucket.left as u32,
            reset: until(most),
        };
        if enough { Ok(standing) } else { Err((standing, until(1.0))) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn level(&self, most: f64, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * most / MINUTE).min(most)
    }
}

impl Standing {
    pub fn write(self, headers: &mut HeaderMap) {
        let reset = format!("{:.3}s", self.reset.as_secs_f64());
        let values = [
            ("x-ratelimit-limit-requests", HeaderValue::from(self.limit)),
            ("x-ratelimit-remaining-requests", HeaderValue::from(self.remaining)),
            (
                "x-ratelimit-reset-requests",
                HeaderValue::from_str(&reset).expect("digits and a point"),
            ),
        ];
        for (name, value) in values {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// 429 for a request too many.
pub fn too_many_requests(after: Duration) -> ApiError {
    let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let message = "this client has used up its requests for now";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
        .with_again(Again::After { seconds })
}

/// May the client begin one more run?
///
/// # Errors
/// 429.
pub fn runs(runs: &Runs, principal: &str, limits: &Principals) -> Result<(), ApiError> {
    let (open, waiting) = runs.count_of(principal);
    let message = if open >= limits.runs {
        "this client has as many runs as it may have at once"
    } else if waiting >= limits.queue {
        "this client has as many messages waiting as it may have"
    } else {
        return Ok(());
    };
    Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_runs", message)
        .with_again(Again::After { seconds: RUNS_AGAIN }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_requests_come_at_once_and_then_evenly() {
        let (quotas, al, now) = (Quotas::default(), Arc::from("al"), Instant::now());
        for left in (0..60).rev() {
            assert_eq!(quotas.take(&al, 60, now).unwrap().remaining, left);
        }
        let (standing, wait) = quotas.take(&al, 60, now).unwrap_err();
        assert_eq!((standing.remaining, wait), (0, Duration::from_secs(1)));
        assert_eq!(standing.reset, Duration::from_secs(60));
        assert!(quotas.take(&al, 60, now + Duration::from_millis(999)).is_err());
        assert!(quotas.take(&al, 60, now + Duration::from_secs(1)).is_ok());
        assert!(quotas.take(&Arc::from("bo"), 60, now).is_ok(), "another's is another's");
        let later = now + Duration::from_secs(3600);
        assert_eq!(quotas.take(&al, 60, later).unwrap().remaining, 59);
    }

    #[test]
    fn clients_beyond_the_bound_push_out_those_that_use_nothing() {
        let (quotas, now) = (Quotas::default(), Instant::now());
        let busy = Arc::from("busy");
        for n in 0..KNOWN {
            quotas.take(&Arc::from(n.to_string()), 60, now).unwrap();
        }
        let later = now + Duration::from_secs(60);
        while quotas.take(&busy, 60, later).is_ok() {}
        quotas.take(&Arc::from("new"), 60, later).unwrap();
        assert_eq!(quotas.lock().len(), 2);
        assert!(quotas.take(&busy, 60, later).is_err());
    }
}
