//! The Responses API: `POST /v1/responses`, and a response that began before by its id.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use super::chat::{choose_model, until_taken};
use super::runs;
use crate::app::App;
use crate::ask;
use crate::ask::responses::ResponsesAsk;
use crate::client::Client;
use crate::http::error::ApiError;
use crate::http::find::{self, Found};
use crate::http::intake::{self, Entered, Wanted};
use crate::http::presence::OnDisconnect;
use crate::http::{Response, body, json_bytes, streaming};
use crate::identity::{self, BodyHints};
use crate::render::responses::{ResponseHead, ResponseStream, Whole};
use crate::run::{Event, Outcome, Reader, RunId};
use crate::session::recall;
use crate::store::RunRow;

/// How long a cancelled response may take to end before it is shown as it is: claude is asked
/// twice to let go, then its process is stopped.
const CANCELLED_WITHIN: Duration = Duration::from_secs(15);

/// Runs among which the latest that claude was told of is looked for.
const LOOKED_BACK: usize = 16;

/// `POST /v1/responses`.
///
/// # Errors
/// [`ApiError`] with the status that the cause deserves.
pub async fn respond(
    app: &Arc<App>,
    client: &Arc<Client>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let (bytes, room) = body::read(app, client, headers, body).await?;
    let keyed = intake::keyed(client, headers, "responses", &bytes)?;
    let parsed = body::parse(bytes, ask::responses::parse).await?;
    let ResponsesAsk { ask, previous, conversation, background } = parsed;
    let model = choose_model(app, ask.model.as_deref())?;
    let id = RunId::random();
    let name = id.to_string();
    let hints = BodyHints {
        conversation: conversation.as_deref(),
        response: Some(&name),
        ..BodyHints::of(&ask)
    };
    let mut identity = identity::identify(&client.principal, headers, &hints)?;
    let ephemeral = intake::ephemeral(app, client, headers, &model, &mut identity)?;
    let known = match &previous {
        Some(previous) => Some(find_response(app, client, previous).await?),
        None => None,
    };
    if let Some(known) = &known {
        if ephemeral {
            // The conversation that it continues would be forgotten with it.
            let message = "an ephemeral response continues no other";
            return Err(
                ApiError::bad_request("invalid_value", message).with_param("previous_response_id")
            );
        }
        // It says which conversation is meant more closely than anything else can.
        identity.key = known.key().clone();
    }
    let default = intake::on_disconnect(app, keyed.is_some() || background);
    let on_disconnect = OnDisconnect::of(headers, default)?;
    let (stream, retries) = (ask.stream, intake::retries(headers));
    let previous_run = known.as_ref().map(Found::id);
    let mut wanted = Wanted {
        client: Arc::clone(client),
        id,
        identity,
        model,
        ask,
        keyed,
        ephemeral,
        retries,
        previous: previous_run,
        rewinds: false,
    };
    let entered = match intake::before(app, &wanted).await? {
        Some(found) => Entered::Known(found),
        None => {
            if let Some(known) = &known
                && !is_latest(app, known).await?
            {
                // claude's own conversation is beyond it: another one begins, which is told all
                // that led to it.
                let told = recall::up_to(&app.store, over(app, known).await?).await?;
                wanted.ask.put_before(told);
                wanted.rewinds = true;
            }
            intake::enter(app, wanted, on_disconnect).await?
        }
    };
    drop(room);
    let (found, presence) = entered.into_found();
    let head = ResponseHead { previous, ..head(&found) };
    let answered = async {
        let reader = found.reader(app, 0)?;
        if stream {
            let (reader, ready) = until_taken(reader).await?;
            let keep_alive = app.config().stream.keep_alive();
            let renderer = ResponseStream::new(head);
            Ok(streaming::response(renderer, reader, ready, keep_alive, presence))
        } else if background {
            so_far(head, &found, reader).await
        } else {
            let whole = answered(head, reader).await;
            drop(presence);
            whole
        }
    };
    found.marked(answered.await)
}

/// `GET /v1/responses/{id}`: as far as it went.
///
/// # Errors
/// 404.
pub async fn get(app: &App, client: &Client, id: &str) -> Result<Response, ApiError> {
    let found = find_response(app, client, id).await?;
    shown(app, &found).await
}

/// `POST /v1/responses/{id}/cancel`: ends it, and shows what there is of it. One that is over is
/// shown as it is.
///
/// # Errors
/// 404.
pub async fn cancel(app: &App, client: &Client, id: &str) -> Result<Response, ApiError> {
    let found = find_response(app, client, id).await?;
    if runs::ask_for_the_end(app, &found).await.is_ok() {
        let end = async {
            let Ok(mut reader) = found.reader(app, 0) else { return };
            while let Ok(Some(_)) = reader.next().await {}
        };
        // What it has become by then is what is shown.
        let _ = tokio::time::timeout(CANCELLED_WITHIN, end).await;
    }
    shown(app, &found).await
}

async fn shown(app: &App, found: &Found) -> Result<Response, ApiError> {
    let shown = async { so_far(head(found), found, found.reader(app, 0)?).await };
    found.marked(shown.await)
}

/// The run that a client knows as the response with this id.
async fn find_response(app: &App, client: &Client, id: &str) -> Result<Found, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "unknown_response", "no such response");
    if !id.starts_with("resp_") {
        return Err(unknown());
    }
    match find::run(app, client, id).await {
        Err(error) if error.status == StatusCode::NOT_FOUND => Err(unknown()),
        found => found,
    }
}

/// Does claude's conversation stand where this run has left it? A run that claude was never told of
/// moved nothing.
async fn is_latest(app: &App, run: &Found) -> Result<bool, ApiError> {
    let key = run.key();
    if let Some(open) = app.runs.of(key).pop() {
        return Ok(open.id() == run.id());
    }
    let rows = app.store.runs_of(key.clone(), None, LOOKED_BACK).await?;
    let latest = rows.iter().find(|row| row.pushed).map(|row| row.id);
    Ok(latest.is_none_or(|latest| latest == run.id()))
}

/// The run as it is stored, if it is over.
async fn over(app: &App, found: &Found) -> Result<RunRow, ApiError> {
    let row = app.store.run(found.id()).await?.filter(|row| row.finished.is_some());
    row.ok_or_else(|| {
        let message = "this response is not over, and others of its conversation come after it";
        ApiError::bad_request("response_in_progress", message).with_param("previous_response_id")
    })
}

fn head(found: &Found) -> ResponseHead {
    let model = match found {
        Found::Live(run) => run.model().to_string(),
        Found::Stored(row) => row.model.clone(),
    };
    let (id, created) = (found.id().response(), found.created() / 1000);
    ResponseHead { id, created, model, previous: None }
}

/// The object when the run is over; one that failed is an error.
async fn answered(head: ResponseHead, mut reader: Reader) -> Result<Response, ApiError> {
    let mut whole = Whole::new(head);
    while let Some(logged) = reader.next().await? {
        if let Event::Finished(Outcome::Failed { error }) = &logged.event {
            return Err(error.into());
        }
        whole.event(&logged.event);
    }
    Ok(json_bytes(whole.render()))
}

/// The object as it is now; waits for nothing but the run's beginning.
async fn so_far(
    head: ResponseHead,
    found: &Found,
    mut reader: Reader,
) -> Result<Response, ApiError> {
    let mut whole = Whole::new(head);
    while let Some(logged) = reader.next().await? {
        whole.event(&logged.event);
        let last = match found {
            Found::Live(run) => run.visible(),
            Found::Stored(row) => row.last_seq,
        };
        if logged.seq >= last {
            break;
        }
    }
    Ok(json_bytes(whole.render()))
}
