//! Runs by their id: begun, looked at, read event by event, aborted.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use proto::bridge::TokenUsage;
use serde::Serialize;
use serde_json::json;

use super::chat::choose_model;
use crate::app::App;
use crate::ask;
use crate::ask::run::RunAsk;
use crate::client::Client;
use crate::http::error::ApiError;
use crate::http::find::{self, Found};
use crate::http::intake::{self, Entered, Wanted};
use crate::http::presence::OnDisconnect;
use crate::http::query::{self, Query};
use crate::http::{Response, body, json, streaming};
use crate::identity::{self, BodyHints};
use crate::render::run_events::RunEvents;
use crate::run::log::Look;
use crate::run::{Event, Failure, Outcome, ReadError, Run, RunId};
use crate::session::machine::Input;
use crate::session::message::{Message, NotTaken};
use crate::store::RunRow;

/// `POST /v1/runs`: begins a run that no connection holds up. Answers once its beginning is stored.
///
/// # Errors
/// [`ApiError`] when the request cannot be used or its session does not take it.
pub async fn begin(
    app: &Arc<App>,
    client: &Arc<Client>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let (bytes, room) = body::read(app, client, headers, body).await?;
    let keyed = intake::keyed(client, headers, "runs", &bytes)?;
    let RunAsk { ask, session, workspace } = body::parse(bytes, ask::run::parse).await?;
    let model = choose_model(app, ask.model.as_deref())?;
    let hints = BodyHints { session: session.as_deref(), ..BodyHints::of(&ask) };
    let mut identity = identity::identify(&client.principal, headers, &hints)?;
    if let (None, Some(folder)) = (&identity.workspace, &workspace) {
        identity.workspace = Some(identity::workspace_of("workspace", folder)?);
    }
    let ephemeral = intake::ephemeral(app, client, headers, &model, &mut identity)?;
    let (id, retries) = (RunId::random(), intake::retries(headers));
    let wanted = Wanted {
        client: Arc::clone(client),
        id,
        identity,
        model,
        ask,
        keyed,
        ephemeral,
        retries,
        previous: None,
        rewinds: false,
    };
    let entered = intake::enter(app, wanted, OnDisconnect::Continue).await?;
    let status = match &entered {
        Entered::New(_) => StatusCode::CREATED,
        Entered::Known(_) => StatusCode::OK,
    };
    drop(room);
    let (found, _presence) = entered.into_found();
    let begun = begun(app, &found, status).await;
    found.marked(begun)
}

async fn begun(app: &App, found: &Found, status: StatusCode) -> Result<Response, ApiError> {
    // It is seen once it is stored: from then on it can be found, whatever becomes of this server.
    found.reader(app, 0)?.next().await?;
    if let (Found::Live(run), StatusCode::CREATED) = (found, status)
        && !run.is_stored()
    {
        return Err(NotTaken::StoreFull.into());
    }
    let mut response = describe(app, found).await?;
    *response.status_mut() = status;
    let place = format!("/v1/runs/{}", found.id());
    let place = HeaderValue::from_str(&place).expect("an id is letters and digits");
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

/// `GET /v1/runs/{id}`.
///
/// # Errors
/// 404.
pub async fn get(app: &App, client: &Client, id: &str) -> Result<Response, ApiError> {
    let found = find::run(app, client, id).await?;
    found.marked(describe(app, &found).await)
}

/// `GET /v1/runs/{id}/events`: from behind `Last-Event-ID` or `?after=` on, to the end of the run.
///
/// # Errors
/// 400 for a place that is no number, 404, 410 for one before what is kept, 429 for one reader too
/// many.
pub async fn events(
    app: &App,
    client: &Client,
    headers: &HeaderMap,
    query: Query<'_>,
    id: &str,
) -> Result<Response, ApiError> {
    let after = place(headers, query)?;
    let found = find::run(app, client, id).await?;
    let read = || {
        if let Found::Stored(row) = &found
            && after.saturating_add(1) < row.first_seq
        {
            return Err(ReadError::Gone { first: row.first_seq }.into());
        }
        let reader = found.reader(app, after)?;
        let keep_alive = app.config().stream.keep_alive();
        Ok(streaming::response(RunEvents, reader, Vec::new(), keep_alive, None))
    };
    found.marked(read())
}

/// Behind which event a reader goes on. The header is what a browser sends by itself when it comes
/// back, so it is the later of the two.
fn place(headers: &HeaderMap, query: Query<'_>) -> Result<u64, ApiError> {
    const HEADER: &str = "last-event-id";
    let after = query.number("after", &(0..=u64::MAX))?;
    let Some(value) = headers.get(HEADER) else { return Ok(after.unwrap_or(0)) };
    value.to_str().ok().and_then(query::number).ok_or_else(|| {
        let message = format!("the header `{HEADER}` must be a number");
        ApiError::bad_request("invalid_header", message).with_param(HEADER)
    })
}

/// `POST /v1/runs/{id}/abort`: asks for the end; the run tells when it has ended.
///
/// # Errors
/// 404, or 409 for a run that is over.
pub async fn abort(app: &Arc<App>, client: &Client, id: &str) -> Result<Response, ApiError> {
    let found = find::run(app, client, id).await?;
    let asked = ask_for_the_end(app, &found).await;
    found.marked(asked.map(|()| aborting(&found)))
}

/// 202: the end was asked for.
pub fn aborting(found: &Found) -> Response {
    let mut response =
        json(&json!({ "id": found.id().to_string(), "object": "run", "status": "aborting" }));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// Tells the run's session to abort it.
///
/// # Errors
/// 409 for a run that is over.
pub async fn ask_for_the_end(app: &App, found: &Found) -> Result<(), ApiError> {
    let over = || ApiError::new(StatusCode::CONFLICT, "run_finished", "the run is over already");
    let Found::Live(run) = found else { return Err(over()) };
    if run.is_finished() {
        return Err(over());
    }
    let inbox = app.directory.session(run.key()).ok_or_else(over)?;
    inbox.send(Message::Input(Input::Abort(run.id()))).await.map_err(|_| over())
}

/// A run as clients see it.
#[derive(Serialize)]
struct RunObject<'a> {
    id: String,
    object: &'static str,
    session: &'a str,
    model: &'a str,
    status: &'static str,
    /// Seconds since 1970.
    created_at: u64,
    finished_at: Option<u64>,
    error: Option<&'a Failure>,
    /// Null while it is not known.
    usage: Option<TokenUsage>,
}

async fn describe(app: &App, found: &Found) -> Result<Response, ApiError> {
    let run = match found {
        Found::Stored(row) => return Ok(json(&of_row(row))),
        Found::Live(run) => run,
    };
    let end = match run.look(run.visible()) {
        Look::Here(logged) => Some(logged),
        Look::Stored | Look::NotYet | Look::Over => None,
    };
    let end = end.as_ref().and_then(|last| {
        if let Event::Finished(outcome) = &last.event { Some((outcome, last.at)) } else { None }
    });
    // Once it is over, the store knows it best.
    if end.is_some()
        && let Ok(Some(row)) = app.store.run(run.id()).await
        && row.finished.is_some()
    {
        return Ok(json(&of_row(&row)));
    }
    let (status, error) = match end {
        None => (if is_queued(app, run).await? { "queued" } else { "running" }, None),
        Some((outcome, _)) => of_outcome(outcome),
    };
    Ok(json(&RunObject {
        id: run.id().to_string(),
        object: "run",
        session: run.key().as_str(),
        model: run.model(),
        status,
        created_at: run.created() / 1000,
        finished_at: end.map(|(_, at)| at / 1000),
        error,
        usage: None,
    }))
}

fn of_row(row: &RunRow) -> RunObject<'_> {
    let (status, error) = match &row.outcome {
        None if row.pushed => ("running", None),
        None => ("queued", None),
        Some(outcome) => of_outcome(outcome),
    };
    RunObject {
        id: row.id.to_string(),
        object: "run",
        session: row.key.as_str(),
        model: &row.model,
        status,
        created_at: row.created / 1000,
        finished_at: row.finished.map(|at| at / 1000),
        error,
        usage: row.usage,
    }
}

fn of_outcome(outcome: &Outcome) -> (&'static str, Option<&Failure>) {
    match outcome {
        Outcome::Completed => ("completed", None),
        Outcome::Aborted => ("aborted", None),
        Outcome::Failed { error } => ("failed", Some(error)),
    }
}

/// Does its message still wait for claude? The first events tell.
async fn is_queued(app: &App, run: &Run) -> Result<bool, ApiError> {
    for seq in 1..=run.visible() {
        match run.look(seq) {
            Look::Here(logged) if logged.event.waits() => {}
            Look::Here(_) => return Ok(false),
            // It began before this server did, or has said much since.
            Look::Stored => {
                let row = app.store.run(run.id()).await?;
                return Ok(row.is_some_and(|row| !row.pushed));
            }
            Look::NotYet | Look::Over => break,
        }
    }
    Ok(true)
}
