//! Sessions: listed, looked at, stopped, forgotten. A session's key is a name to compare with those that
//! are known, whatever characters it is made of.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::app::App;
use crate::client::Client;
use crate::http::error::{Again, ApiError};
use crate::http::query::Query;
use crate::http::{Response, full, guard, json};
use crate::identity::SessionKey;
use crate::session::actor;
use crate::session::message::{Message, NotTaken};
use crate::store::SessionRow;

/// Sessions of one page.
const PAGE: usize = 50;
const BIGGEST_PAGE: usize = 100;
/// How long a client waits until a session is forgotten: its process has 5 s to end by itself.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(30);

/// `GET /v1/sessions`: in the order of their keys; the client's own, or an administrator's view of
/// everybody's. Who is both sees its own unless it asks for all.
///
/// # Errors
/// 400 for a query that cannot be used, 403 for all when one may not see them.
pub async fn list(app: &App, client: &Client, query: Query<'_>) -> Result<Response, ApiError> {
    let all = query.flag("all")?.unwrap_or(!client.scopes.chat);
    if all && !client.scopes.admin {
        return Err(guard::not_allowed());
    }
    let whose = (!all).then(|| client.principal.to_string());
    let limit = query.number("limit", &(1..=BIGGEST_PAGE))?.unwrap_or(PAGE);
    let after = query.text("after")?.map(std::borrow::Cow::into_owned);
    // One more, to know whether there are more.
    let rows = app.store.sessions(whose, after.clone(), limit + 1).await?;
    let mut found: BTreeMap<SessionKey, Option<SessionRow>> = BTreeMap::new();
    let alive = Alive::now(app);
    let is_after = |key: &SessionKey| after.as_deref().is_none_or(|after| key.as_str() > after);
    for key in app.directory.keys() {
        // An actor alone is none yet: its message may not be taken.
        let counts = alive.has_process(&key) || !app.runs.of(&key).is_empty();
        if counts && is_after(&key) && (all || key.is_of(&client.principal)) {
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
pub async fn get(app: &App, client: &Client, key: &str) -> Result<Response, ApiError> {
    let Known { key, row, latest } = seen(app, client, key).await?;
    Ok(json(&SessionObject::of(app, &Alive::now(app), &key, row.as_ref(), latest)))
}

/// `POST /v1/sessions/{key}/stop`: aborts its runs and ends its process. The conversation stays: its
/// next message resumes it.
///
/// # Errors
/// 404.
pub async fn stop(app: &App, client: &Client, key: &str) -> Result<Response, ApiError> {
    let Known { key, .. } = seen(app, client, key).await?;
    // Without an actor there is nothing to stop.
    if let Some(inbox) = app.directory.session(&key)
        && inbox.try_send(Message::Stop).is_err_and(|error| is_full(&error))
    {
        return Err(too_busy());
    }
    tracing::info!(session = %key, by = %client.principal, "a session is stopped");
    let mut response = json(&json!({ "key": key.as_str(), "object": "session", "stopping": true }));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn is_full(error: &TrySendError<Message>) -> bool {
    matches!(error, TrySendError::Full(_))
}

fn too_busy() -> ApiError {
    let message = "the session has too much to do to be told";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
        .with_again(Again::After { seconds: 5 })
}

/// `DELETE /v1/sessions/{key}`: ends its process and forgets the conversation with all its runs.
///
/// # Errors
/// 404; 507 when the store does not take it.
pub async fn forget(app: &Arc<App>, client: &Client, key: &str) -> Result<Response, ApiError> {
    let Known { key, .. } = known(app, client, key).await?;
    let (done, gone) = oneshot::channel();
    let start = || actor::start(Arc::clone(app), key.clone());
    let told = app
        .directory
        .with_session(&key, start, |inbox| inbox.try_send(Message::Discard(done)).is_ok());
    if !told {
        return Err(too_busy());
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

/// The client's session with exactly this key: stored, under way, or one whose claude never started.
///
/// # Errors
/// 404 for one that does not exist or belongs to another principal.
pub async fn known(app: &App, client: &Client, key: &str) -> Result<Known, ApiError> {
    find(app, SessionKey::of_client(&client.principal, key)).await
}

/// Likewise, or for an administrator anybody's: to be looked at and stopped, not read.
async fn seen(app: &App, client: &Client, key: &str) -> Result<Known, ApiError> {
    let of_anybody = || SessionKey::of_anybody(key).filter(|_| client.scopes.admin);
    let own = SessionKey::of_client(&client.principal, key);
    find(app, own.filter(|_| client.scopes.chat).or_else(of_anybody)).await
}

async fn find(app: &App, key: Option<SessionKey>) -> Result<Known, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "unknown_session", "no such session");
    let key = key.ok_or_else(unknown)?;
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
    principal: String,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its next message starts a process.
    Cold,
    /// A message waits for a process.
    Waiting,
    /// Its process waits for a message.
    Ready,
    /// Its process has something to do.
    Busy,
}

impl State {
    fn of(process: bool, open: bool) -> Self {
        match (process, open) {
            (false, false) => Self::Cold,
            (false, true) => Self::Waiting,
            (true, false) => Self::Ready,
            (true, true) => Self::Busy,
        }
    }
}

/// How many sessions that are not cold are in which state: waiting, ready, busy.
pub fn count(app: &App) -> [usize; 3] {
    let (alive, open) = (Alive::now(app), app.runs.keys());
    let busy = alive.0.intersection(&open).count();
    [open.len() - busy, alive.0.len() - busy, busy]
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
        let state = State::of(process, !open.is_empty());
        let began = open.first().map(|run| run.created() / 1000);
        let used = open.last().map(|run| run.created() / 1000);
        Self {
            key: key.as_str(),
            object: "session",
            principal: key.principal_name(),
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
