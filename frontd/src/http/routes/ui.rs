//! The AI SDK's chats: `POST /api/chat`, and the two paths by which a page comes back to a run or
//! stops it. The page knows the chat's id alone, so that names the session.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;

use super::chat::{choose_model, until_taken};
use super::runs;
use crate::app::App;
use crate::ask;
use crate::ask::ui::UiAsk;
use crate::client::Client;
use crate::http::error::ApiError;
use crate::http::find::Found;
use crate::http::intake::{self, Wanted};
use crate::http::presence::{OnDisconnect, Presence};
use crate::http::{Response, body, full, streaming};
use crate::identity::{self, SessionKey};
use crate::render::ui_stream::{self, UiStream};
use crate::run::{Keyed, Logged, Reader, RunId};

/// `POST /api/chat`: the answer as a UI message stream.
///
/// # Errors
/// [`ApiError`] when the request cannot be used or its session does not take it.
pub async fn chat(
    app: &Arc<App>,
    client: &Arc<Client>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let (bytes, room) = body::read(app, client, headers, body).await?;
    let given = intake::keyed(client, headers, "ui", &bytes)?;
    let parsed = body::parse(bytes, |bytes| {
        let ui = ask::ui::parse(bytes)?;
        let key = ui.key();
        Ok::<_, ask::BadRequest>((ui, key))
    });
    let (UiAsk { chat, rewinds, ask, .. }, own) = parsed.await?;
    // A page sends a message again under the same id when it does not know whether it arrived.
    let keyed = given.or_else(|| own.map(|fingerprint| of_message(client, fingerprint)));
    let model = choose_model(app, ask.model.as_deref())?;
    let identity = identity::of_ui(&client.principal, headers, &chat)?;
    let on_disconnect = OnDisconnect::of(headers, intake::on_disconnect(app, true))?;
    let (id, retries) = (RunId::random(), intake::retries(headers));
    let wanted = Wanted {
        client: Arc::clone(client),
        id,
        identity,
        model,
        ask,
        keyed,
        ephemeral: false,
        retries,
        previous: None,
        rewinds,
    };
    let entered = intake::enter(app, wanted, on_disconnect).await?;
    drop(room);
    let (found, presence) = entered.into_found();
    let answered = async {
        let (reader, ready) = until_taken(found.reader(app, 0)?).await?;
        Ok(stream(app, found.id(), reader, ready, presence))
    };
    found.marked(answered.await)
}

/// The key of a message that has an id. No header can hold a line feed, so no client's own key is
/// the same.
fn of_message(client: &Client, fingerprint: [u8; 32]) -> Keyed {
    let digits = data_encoding::HEXLOWER.encode(&fingerprint);
    Keyed { principal: client.principal.to_string(), key: format!("ui\n{digits}"), fingerprint }
}

/// `GET /api/chat/{id}/stream`: the chat's run under way from its beginning, or 204.
///
/// # Errors
/// 400 for an id that no chat can have, 429 for one reader too many.
pub fn resume(app: &App, client: &Client, chat: &str) -> Result<Response, ApiError> {
    let Some(run) = app.runs.of(&key(client, chat)?).pop() else { return Ok(nothing()) };
    let found = Found::Live(run);
    let reader = found.reader(app, 0);
    found.marked(reader.map(|reader| stream(app, found.id(), reader, Vec::new(), None)))
}

/// `POST /api/chat/{id}/stop`: asks for the end of everything that the chat waits for, or 204.
///
/// # Errors
/// 400 for an id that no chat can have.
pub async fn stop(app: &Arc<App>, client: &Client, chat: &str) -> Result<Response, ApiError> {
    let mut response = None;
    for run in app.runs.of(&key(client, chat)?) {
        // One that has just ended is what was asked for.
        let found = Found::Live(run);
        if runs::ask_for_the_end(app, &found).await.is_ok() {
            response = Some(found.mark(runs::aborting(&found)));
        }
    }
    Ok(response.unwrap_or_else(nothing))
}

fn key(client: &Client, chat: &str) -> Result<SessionKey, ApiError> {
    Ok(identity::of_ui(&client.principal, &HeaderMap::new(), chat)?.key)
}

fn stream(
    app: &App,
    run: RunId,
    reader: Reader,
    ready: Vec<Arc<Logged>>,
    presence: Option<Presence>,
) -> Response {
    let renderer = UiStream::new(run.answer());
    let keep_alive = app.config().stream.keep_alive();
    let mut response = streaming::response(renderer, reader, ready, keep_alive, presence);
    let (name, value) = ui_stream::HEADER;
    let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
    response.headers_mut().insert(name, value);
    response
}

fn nothing() -> Response {
    let mut response = http::Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
