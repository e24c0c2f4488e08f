//! Runs by their id, for whom they belong to: under way or stored.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Response;
use super::error::{Again, ApiError};
use crate::app::App;
use crate::client::Client;
use crate::identity::SessionKey;
use crate::run::{ReadError, Reader, Run, RunId};
use crate::store::RunRow;

/// Readers of runs that are over at once: each may hold a page of some 512 KiB.
pub const LATE_READERS: usize = 512;
/// Those of one principal's runs, where there are many.
pub const LATE_READERS_EACH: usize = LATE_READERS / 4;

/// A run that is there.
#[derive(Debug, Clone)]
pub enum Found {
    Live(Arc<Run>),
    Stored(Box<RunRow>),
}

/// The run with this id, in any form that a client was shown.
///
/// # Errors
/// 404 for one that does not exist or belongs to another principal.
pub async fn run(app: &App, client: &Client, id: &str) -> Result<Found, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "unknown_run", "no such run");
    let id = RunId::parse(id).ok_or_else(unknown)?;
    let found = match app.runs.find(id) {
        Some(run) => Found::Live(run),
        None => Found::Stored(Box::new(app.store.run(id).await?.ok_or_else(unknown)?)),
    };
    if found.key().is_of(&client.principal) { Ok(found) } else { Err(unknown()) }
}

impl Found {
    pub fn id(&self) -> RunId {
        match self {
            Self::Live(run) => run.id(),
            Self::Stored(row) => row.id,
        }
    }

    pub fn key(&self) -> &SessionKey {
        match self {
            Self::Live(run) => run.key(),
            Self::Stored(row) => &row.key,
        }
    }

    /// Milliseconds since 1970.
    pub fn created(&self) -> u64 {
        match self {
            Self::Live(run) => run.created(),
            Self::Stored(row) => row.created,
        }
    }

    /// Names the run and its session in the response, so that the client finds both again.
    pub fn mark(&self, mut response: Response) -> Response {
        name(response.headers_mut(), self.id(), self.key());
        response
    }

    /// The same, of an answer or of the error instead.
    ///
    /// # Errors
    /// The one that came in.
    pub fn marked(&self, answered: Result<Response, ApiError>) -> Result<Response, ApiError> {
        match answered {
            Ok(response) => Ok(self.mark(response)),
            Err(error) => Err(error.about(self.id(), self.key())),
        }
    }

    /// A reader from behind event `after` on.
    ///
    /// # Errors
    /// 429 when the run has as many readers as it may.
    pub fn reader(&self, app: &App, after: u64) -> Result<Reader, ApiError> {
        match self {
            Self::Live(run) => {
                let seat = run.seat(app.config().limits.readers_per_run).ok_or_else(|| {
                    let message = "this run has as many readers as it may have";
                    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_readers", message)
                        .with_again(Again::After { seconds: 5 })
                })?;
                Ok(Reader::live(Arc::clone(run), seat, app.store.clone(), after))
            }
            Self::Stored(row) => {
                let owner = self.key().principal();
                let seat = app.late_readers.try_acquire(owner).ok_or_else(|| {
                    let message = "too many runs that are over are being read";
                    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_readers", message)
                        .with_again(Again::After { seconds: 5 })
                })?;
                Ok(Reader::stored(row, app.store.clone(), after).with_seat(seat))
            }
        }
    }
}

/// Names a run and its session in the head of a response.
pub fn name(headers: &mut HeaderMap, id: RunId, key: &SessionKey) {
    let names = [("x-synthesis-run", &*id.to_string()), ("x-synthesis-session", key.as_str())];
    for (name, value) in names {
        // Both are printable ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone { first } => {
                let message = format!(
                    "the events before {first} are no longer kept: read on with ?after={}",
                    first.saturating_sub(1)
                );
                let gone = Self::new(StatusCode::GONE, "events_gone", message);
                Self { first_id: Some(first), ..gone }
            }
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<crate::store::StoreError> for ApiError {
    fn from(error: crate::store::StoreError) -> Self {
        tracing::error!(error = %crate::spawner::chain(&error), "store");
        let message = "the store cannot be read";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
    }
}
