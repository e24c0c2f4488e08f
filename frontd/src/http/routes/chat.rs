//! `POST /v1/chat/completions`: reads the request, hands the message to its session, and renders
//! the run as it goes (stream) or when it is over.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Incoming;
use proto::bridge::TokenUsage;
use proto::ids::{AbsolutePath, ModelName};
use proto::limits;
use tokio::sync::oneshot;

use crate::app::App;
use crate::ask::{self, Ask};
use crate::config::Model;
use crate::http::error::{Again, ApiError};
use crate::http::{Body, Response, json_bytes};
use crate::identity::{self, BodyHints, Identity, SessionKey};
use crate::principal;
use crate::render::chat::{self as render, ChatHead, Chunks};
use crate::render::sse;
use crate::run::{Event, Outcome, Reader, Run};
use crate::session::actor;
use crate::session::machine::Input;
use crate::session::message::{Message, NotTaken, Submission};

/// How long the head of a stream waits until claude takes the message, so that errors keep their
/// status. After that an error is a frame: clients repeat a failed status by themselves, and claude
/// may have acted on the message already.
const HEAD_WITHIN: Duration = Duration::from_secs(2);
/// KiB of bodies that may be on their way at once: eight of the greatest by default.
pub const BODIES: u32 = 256 * 1024;
/// How long a body waits for that room, and how long it may take to arrive.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a body that is parsed on a thread of its own: 1 MiB takes some 10 ms.
const LARGE: usize = 1 << 20;
/// What a frame needs beside the message's text.
const FRAME_OVERHEAD: usize = 4096;

/// Answers one request.
///
/// # Errors
/// [`ApiError`] with the status that the cause deserves.
pub async fn completions(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let body = read(app, headers, body).await?;
    let request = parse(body).await?;
    let model = choose_model(app, request.model.as_deref())?;
    let hints = BodyHints::of(&request);
    let identity = identity::identify(principal::LOCAL, headers, &hints)?;
    let content = request.new.text;
    if !request.new.files.is_empty() {
        let message = "files are not taken yet";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported_content", message));
    }
    check_size(&content)?;
    let workspace = choose_workspace(app, &identity);

    let run = app.runs.begin(identity.key.clone());
    let presence =
        Presence { app: Arc::clone(app), key: identity.key.clone(), run: Arc::clone(&run) };
    submit(
        app,
        &identity,
        &run,
        content.into(),
        workspace,
        app.config.claude_model_of(model).cloned(),
    )
    .await?;
    let head = ChatHead {
        id: run.id().chat_completion(),
        created: time::OffsetDateTime::now_utc().unix_timestamp().unsigned_abs(),
        model: model.id.to_string(),
        include_usage: request.include_usage,
    };
    let reader = run.read();
    if request.stream {
        stream(app, &head, reader, presence).await
    } else {
        whole(&head, reader, presence).await
    }
}

async fn read(app: &App, headers: &HeaderMap, body: Incoming) -> Result<Bytes, ApiError> {
    let limit = app.config.limits.body_max_bytes;
    let too_large = || {
        let message = format!("the body is over the limit of {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    // A chunked body may become as large as any.
    let size = announced.and_then(|length| length.parse::<usize>().ok()).unwrap_or(limit);
    if size > limit {
        return Err(too_large());
    }
    let kibibytes = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX).min(BODIES);
    let room = tokio::time::timeout(ROOM_WITHIN, app.bodies.acquire_many(kibibytes)).await;
    let Ok(Ok(_room)) = room else {
        let message = "too many large requests arrive at once";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", message)
            .with_again(Again::After { seconds: 5 }));
    };
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            let message = "the body did not arrive whole";
            Err(ApiError::new(StatusCode::BAD_REQUEST, "broken_body", message))
        }
        Err(_) => {
            let message = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
                .with_again(Again::Never))
        }
    }
}

/// Parses here, or beside the one thread that serves everybody when it would take long.
async fn parse(body: Bytes) -> Result<Ask, ApiError> {
    if body.len() <= LARGE {
        return Ok(ask::chat::parse(&body)?);
    }
    let parsing = tokio::task::spawn_blocking(move || ask::chat::parse(&body));
    let failed = |_| {
        let message = "the request could not be read";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "parse_failed", message)
    };
    Ok(parsing.await.map_err(failed)??)
}

fn choose_model<'a>(app: &'a App, asked: Option<&str>) -> Result<&'a Model, ApiError> {
    app.config.models.find(asked).ok_or_else(|| {
        let message = format!("the model {:?} does not exist here", asked.unwrap_or_default());
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).with_param("model")
    })
}

fn check_size(content: &str) -> Result<(), ApiError> {
    let escaped = serde_json::to_string(content).map_or(usize::MAX, |text| text.len());
    if content.len() <= limits::MESSAGE_TEXT && escaped <= limits::BRIDGE_FRAME - FRAME_OVERHEAD {
        return Ok(());
    }
    let message = format!("the message is over the limit of {} bytes", limits::MESSAGE_TEXT);
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", message)
        .with_param("messages"))
}

/// The header's folder, else the agent's; `None` leaves a known session where it lives.
fn choose_workspace(app: &App, identity: &Identity) -> Option<AbsolutePath> {
    let of_agent = || app.config.agents.get(identity.agent.as_ref()?);
    identity.workspace.clone().or_else(|| of_agent().cloned())
}

async fn submit(
    app: &Arc<App>,
    identity: &Identity,
    run: &Arc<Run>,
    content: Arc<str>,
    workspace: Option<AbsolutePath>,
    model: Option<ModelName>,
) -> Result<(), ApiError> {
    let (taken, answer) = oneshot::channel();
    let submission = Submission {
        run: Arc::clone(run),
        content,
        chat_id: identity.chat_id.as_str().into(),
        workspace,
        model,
        taken,
    };
    let start = || actor::start(Arc::clone(app), identity.key.clone());
    let sent = app.directory.with_session(&identity.key, start, |inbox| {
        inbox.try_send(Message::Submit(submission)).is_ok()
    });
    let verdict =
        if sent { answer.await.unwrap_or(Err(NotTaken::Store)) } else { Err(NotTaken::QueueFull) };
    verdict.map_err(|not_taken| {
        app.runs.end(run.id());
        not_taken.into()
    })
}

/// The client's side of a run. When it is dropped before the end, the client has left: a message
/// that still waits gives up its place.
struct Presence {
    app: Arc<App>,
    key: SessionKey,
    run: Arc<Run>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.run.is_finished()
            && let Some(inbox) = self.app.directory.session(&self.key)
        {
            // A full inbox: the turn will be run for nobody, which is no harm.
            let _ = inbox.try_send(Message::Input(Input::Leave(self.run.id())));
        }
    }
}

/// Everything of a finished run, as one object.
async fn whole(
    head: &ChatHead,
    mut reader: Reader,
    presence: Presence,
) -> Result<Response, ApiError> {
    let mut replies: Vec<Arc<str>> = Vec::new();
    let mut usage = None;
    while let Some(event) = reader.next().await {
        match event {
            Event::Started { .. }
            | Event::Status(_)
            | Event::CommentaryDelta { .. }
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. } => {}
            Event::TextDelta { delta: text } => replies.push(text),
            Event::Usage { usage: seen } => usage = Some(seen),
            Event::Finished(Outcome::Completed | Outcome::Aborted) => break,
            Event::Finished(Outcome::Failed { error: failure }) => return Err((&failure).into()),
        }
    }
    drop(presence);
    Ok(json_bytes(render::completion(head, replies.iter().map(|reply| &**reply), usage)))
}

async fn stream(
    app: &App,
    head: &ChatHead,
    mut reader: Reader,
    presence: Presence,
) -> Result<Response, ApiError> {
    let mut ready = VecDeque::new();
    match tokio::time::timeout(HEAD_WITHIN, reader.next()).await {
        Ok(Some(Event::Finished(Outcome::Failed { error: failure }))) => {
            return Err((&failure).into());
        }
        Ok(Some(event)) => ready.push_back(event),
        Ok(None) | Err(_) => {}
    }
    let streaming = Streaming {
        chunks: Chunks::new(head),
        reader,
        ready,
        _presence: presence,
        keep_alive: app.config.stream.keep_alive(),
        replies: 0,
        usage: None,
        place: Place::Head,
    };
    let frames = futures_util::stream::unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), streaming))
    });
    let body: Body = StreamBody::new(frames).boxed_unsync();
    let mut response = http::Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sse::CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A streamed response under way.
struct Streaming {
    chunks: Chunks,
    reader: Reader,
    /// Read already, not rendered yet.
    ready: VecDeque<Event>,
    /// Dropped with the response: the client has left, or has everything.
    _presence: Presence,
    keep_alive: Duration,
    replies: usize,
    /// As far as it is known.
    usage: Option<TokenUsage>,
    place: Place,
}

enum Place {
    Head,
    Middle,
    End,
}

impl Streaming {
    /// The next bytes: everything that is there, in one piece, so that it is one write.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        match self.place {
            Place::End => return None,
            Place::Head => {
                self.place = Place::Middle;
                out.extend_from_slice(&self.chunks.first());
            }
            Place::Middle => {}
        }
        loop {
            while let Some(event) = self.ready.pop_front().or_else(|| self.reader.try_next()) {
                self.render(event, &mut out);
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            match tokio::time::timeout(self.keep_alive, self.reader.next()).await {
                Ok(event) => self.ready.push_back(event?),
                Err(_) => return Some(self.chunks.keep_alive()),
            }
        }
    }

    fn render(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Started { .. }
            | Event::Status(_)
            | Event::CommentaryDelta { .. }
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. } => {}
            Event::TextDelta { delta: text } => {
                out.extend_from_slice(&self.chunks.reply(self.replies, &text));
                self.replies += 1;
            }
            Event::Usage { usage } => self.usage = Some(usage),
            Event::Finished(Outcome::Completed | Outcome::Aborted) => {
                self.place = Place::End;
                out.extend_from_slice(&self.chunks.finish());
                out.extend(
                    self.usage.and_then(|usage| self.chunks.usage(usage)).unwrap_or_default(),
                );
                out.extend_from_slice(&sse::DONE);
            }
            Event::Finished(Outcome::Failed { error: failure }) => {
                self.place = Place::End;
                out.extend_from_slice(&sse::error(&ApiError::from(&failure).object_in_stream()));
            }
        }
    }
}
