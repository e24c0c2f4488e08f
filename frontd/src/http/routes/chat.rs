//! `POST /v1/chat/completions`: reads the request, hands the message to its session, and renders
//! the run as it goes (stream) or when it is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use crate::app::App;
use crate::ask;
use crate::client::Client;
use crate::config::Model;
use crate::http::error::ApiError;
use crate::http::intake::{self, Wanted};
use crate::http::presence::OnDisconnect;
use crate::http::{Response, body, json_bytes, streaming};
use crate::identity::{self, BodyHints};
use crate::render::chat::{self as render, ChatHead, ChatStream};
use crate::render::sse;
use crate::run::{Event, Failure, FailureKind, Logged, Outcome, Reader, RunId, Status};

/// How long the head of a stream waits until claude takes the message, so that errors keep their
/// status. After that an error is a frame: clients repeat a failed status by themselves, and claude
/// may have acted on the message already.
const HEAD_WITHIN: Duration = Duration::from_secs(2);

/// Answers one request.
///
/// # Errors
/// [`ApiError`] with the status that the cause deserves.
pub async fn completions(
    app: &Arc<App>,
    client: &Arc<Client>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let (bytes, room) = body::read(app, client, headers, body).await?;
    let keyed = intake::keyed(client, headers, "chat.completions", &bytes)?;
    let ask = body::parse(bytes, ask::chat::parse).await?;
    let model = choose_model(app, ask.model.as_deref())?;
    let mut identity = identity::identify(&client.principal, headers, &BodyHints::of(&ask))?;
    let ephemeral = intake::ephemeral(app, client, headers, &model, &mut identity)?;
    let default = intake::on_disconnect(app, keyed.is_some());
    let on_disconnect = OnDisconnect::of(headers, default)?;
    let (stream, include_usage, model_id) = (ask.stream, ask.include_usage, model.id.to_string());
    let retries = intake::retries(headers);
    let id = RunId::random();
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
    let entered = intake::enter(app, wanted, on_disconnect).await?;
    drop(room);
    let (found, presence) = entered.into_found();
    let head = ChatHead {
        id: found.id().chat_completion(),
        created: found.created() / 1000,
        model: model_id,
        include_usage,
    };
    let answered = async {
        let reader = found.reader(app, 0)?;
        if stream {
            let (reader, ready) = until_taken(reader).await?;
            let renderer = ChatStream::new(&head, failed);
            let keep_alive = app.config().stream.keep_alive();
            Ok(streaming::response(renderer, reader, ready, keep_alive, presence))
        } else {
            let whole = whole(&head, reader).await;
            drop(presence);
            whole
        }
    };
    found.marked(answered.await)
}

pub fn choose_model(app: &App, asked: Option<&str>) -> Result<Model, ApiError> {
    app.config().models.find(asked).cloned().ok_or_else(|| {
        let message = format!("the model {:?} does not exist here", asked.unwrap_or_default());
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).with_param("model")
    })
}

/// Everything up to the moment when claude has the message, or what [`HEAD_WITHIN`] brings.
///
/// # Errors
/// The failure of a run that ends before.
pub async fn until_taken(mut reader: Reader) -> Result<(Reader, Vec<Arc<Logged>>), ApiError> {
    let (mut ready, mut stored) = (Vec::new(), true);
    let deadline = tokio::time::Instant::now() + HEAD_WITHIN;
    while let Ok(next) = tokio::time::timeout_at(deadline, reader.next()).await {
        let Some(logged) = next? else { break };
        if let Event::Finished(Outcome::Failed { error }) = &logged.event {
            return Err(error.into());
        }
        // One whose beginning is not stored ends at once.
        stored &= logged.event != Event::Status(Status::NotStored);
        let waits = matches!(
            &logged.event,
            Event::Started { .. } | Event::Status(Status::Queued { .. } | Status::Preparing)
        );
        let taken = stored && !waits;
        ready.push(logged);
        if taken {
            break;
        }
    }
    Ok((reader, ready))
}

/// The block that ends the stream of a failed run.
fn failed(failure: &Failure) -> Bytes {
    sse::error(&ApiError::from(failure).object_in_stream())
}

/// Everything of a finished run, as one object.
async fn whole(head: &ChatHead, mut reader: Reader) -> Result<Response, ApiError> {
    let mut replies: Vec<Arc<str>> = Vec::new();
    let mut usage = None;
    while let Some(logged) = reader.next().await? {
        match &logged.event {
            Event::TextDelta { delta } => replies.push(Arc::clone(delta)),
            Event::Usage { usage: seen } => usage = Some(*seen),
            Event::Finished(Outcome::Completed | Outcome::Aborted) => {
                let replies = replies.iter().map(|reply| &**reply);
                return Ok(json_bytes(render::completion(head, replies, usage)));
            }
            Event::Finished(Outcome::Failed { error }) => return Err(error.into()),
            Event::Started { .. }
            | Event::Status(_)
            | Event::CommentaryDelta { .. }
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. } => {}
        }
    }
    Err((&Failure::new(FailureKind::Stopping, "the server is stopping")).into())
}
