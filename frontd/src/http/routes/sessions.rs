//! Sessions: listed, looked at, forgotten. A session's key is a name to compare with those that
//! are known, whatever characters it is made of.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::app::App;
use crate::http::error::{Again, ApiError};
use crate::http::query::Query;
use crate::http::{Response, full, json};
use crate::identity::SessionKey;
use crate::principal;
use crate::session::actor;
use crate::session::message::{Message, NotTaken};
use crate::store::SessionRow;

/// Sessions of one page.
const PAGE: usize = 50;
const BIGGEST_PAGE: usize = 100;
/// How long a client waits until a session is forgotten: its process has 5 s to end by itself.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(30);

/// `GET /v1/sessions`: in the order of their keys.
///
/// # Errors
/// 400 for a query that cannot be used.
pub async fn list(app: &App, query: Query<'_>) -> Result<Response, ApiError> {
    let limit = query.number("limit", &(1..=BIGGEST_PAGE))?.unwrap_or(PAGE);
    let after = query.text("after")?.map(std::borrow::Cow::into_owned);
    // One more, to know whether there are more.
    let rows = app.store.sessions(principal::LOCAL.to_owned(), after.clone(), limit + 1).await?;
    let mut found: BTreeMap<SessionKey, Option<SessionRow>> = BTreeMap::new();
    let alive = Alive::now(app);
    let is_after = |key: &SessionKey| after.as_deref().is_none_or(|after| key.as_str() > after);
    for key in app.directory.keys() {
        // An actor alone is none yet: its message may not be taken.
        let counts = alive.has_process(&key) || !app.runs.of(&key).is_empty();
        if counts && is_after(&key) && key.principal() == principal::LOCAL {
            found.insert(key, None);
        }
    }
    found.extend(rows.into_iter().map(|row| (row.key.clone(), Some(row))));
    let more = found.len() > limit;
    let page = found.iter().take(limit);
    let data: Vec<SessionObject<'_>> =
        page.map(|(key, row)| SessionObject::of(app, &alive, key, row.as_ref(), 0)).collect();
    Ok(json(&json!({ "object": "list", "data": data, "more": more })))
}

/// `GET /v1/sessions/{key}`.
///
/// # Errors
/// 404.
pub async fn get(app: &App, key: &str) -> Result<Response, ApiError> {
    let Known { key, row, latest } = known(app, key).await?;
    Ok(json(&SessionObject::of(app, &Alive::now(app), &key, row.as_ref(), latest)))
}

/// `DELETE /v1/sessions/{key}`: ends its process and forgets the conversation with all its runs.
///
/// # Errors
/// 404; 507 when the store does not take it.
pub async fn forget(app: &Arc<App>, key: &str) -> Result<Response, ApiError> {
    let Known { key, .. } = known(app, key).await?;
    let (done, gone) = oneshot::channel();
    let start = || actor::start(Arc::clone(app), key.clone());
    let told = app
        .directory
        .with_session(&key, start, |inbox| inbox.try_send(Message::Discard(done)).is_ok());
    if !told {
        let message = "the session has too much to do to be told";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
            .with_again(Again::After { seconds: 5 }));
    }
    let status = match tokio::time::timeout(FORGOTTEN_WITHIN, gone).await {
        Ok(Ok(())) if app.store.is_failing() => return Err(NotTaken::StoreFull.into()),
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        // Its process takes its time; what was asked for stands.
        Ok(Err(_)) | Err(_) => StatusCode::ACCEPTED,
    };
    let mut response = http::Response::new(full(Vec::new()));
    *response.status_mut() = status;
    Ok(response)
}

/// A session that is there.
pub struct Known {
    pub key: SessionKey,
    row: Option<SessionRow>,
    /// When its latest stored run began, if it has no conversation. Seconds since 1970.
    latest: u64,
}

/// The session with exactly this key: stored, under way, or one whose claude never started.
///
/// # Errors
/// 404 for one that does not exist or belongs to another principal.
pub async fn known(app: &App, key: &str) -> Result<Known, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "unknown_session", "no such session");
    let key = SessionKey::of_client(principal::LOCAL, key).ok_or_else(unknown)?;
    let row = app.store.session(key.clone()).await?;
    let is_alive = || Alive::now(app).has_process(&key) || !app.runs.of(&key).is_empty();
    if row.is_some() || is_alive() {
        return Ok(Known { key, row, latest: 0 });
    }
    let latest = app.store.runs_of(key.clone(), None, 1).await?.pop().ok_or_else(unknown)?;
    Ok(Known { key, row: None, latest: latest.created / 1000 })
}

/// Who has a process now.
struct Alive(HashSet<SessionKey>);

impl Alive {
    fn now(app: &App) -> Self {
        Self(app.directory.processes().iter().map(|door| door.key.clone()).collect())
    }

    fn has_process(&self, key: &SessionKey) -> bool {
        self.0.contains(key)
    }
}

#[derive(Serialize)]
struct SessionObject<'a> {
    key: &'a str,
    object: &'static str,
    state: State,
    /// Seconds since 1970.
    created_at: u64,
    last_used_at: u64,
    /// Null until its claude was started once.
    workspace: Option<&'a str>,
    user: Option<&'a str>,
    runs_open: usize,
    process: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Its next message starts a process.
    Cold,
    /// A message waits for a process.
    Waiting,
    /// Its process waits for a message.
    Ready,
    /// Its process has something to do.
    Busy,
}

impl<'a> SessionObject<'a> {
    fn of(
        app: &App,
        alive: &Alive,
        key: &'a SessionKey,
        row: Option<&'a SessionRow>,
        latest: u64,
    ) -> Self {
        let (open, process) = (app.runs.of(key), alive.has_process(key));
        let state = match (process, open.is_empty()) {
            (false, true) => State::Cold,
            (false, false) => State::Waiting,
            (true, true) => State::Ready,
            (true, false) => State::Busy,
        };
        let began = open.first().map(|run| run.created() / 1000);
        let used = open.last().map(|run| run.created() / 1000);
        Self {
            key: key.as_str(),
            object: "session",
            state,
            created_at: row.map(|row| row.created).or(began).unwrap_or(latest),
            last_used_at: used.max(row.map(|row| row.last_used)).unwrap_or(latest),
            workspace: row.map(|row| row.workspace.as_str()),
            user: row.map(|row| row.user.as_str()),
            runs_open: open.len(),
            process,
        }
    }
}
