//! From a request to a run: a new one that its session has taken, or the one that the request
//! began before.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use proto::ids::{AbsolutePath, Instructions};
use proto::limits;
use tokio::sync::oneshot;

use super::error::{Again, ApiError};
use super::find::Found;
use super::presence::{OnDisconnect, Presence};
use super::visit;
use crate::app::{Access, App};
use crate::ask::{self, Ask, retry};
use crate::client::Client;
use crate::config::{Model, SystemText};
use crate::identity::{self, Identity};
use crate::quota;
use crate::run::{Begun, Event, Keyed, Run, RunId};
use crate::session::actor;
use crate::session::message::{Message, NotTaken, Submission};
use crate::store::RunRow;

/// How long after a run's end a client that lost the connection may ask again without a key:
/// OpenClaw gives up after 90 s.
const AGAIN_WITHIN_MS: u64 = 120_000;
/// Bytes of an `Idempotency-Key`.
const KEY: usize = 255;

/// Headers that say which conversation is meant.
const NAMES: [&str; 7] = [
    "x-synthesis-session",
    "x-openclaw-agent-id",
    "x-openclaw-chat-id",
    "x-session-affinity",
    "session_id",
    "x-openclaw-workspace",
    "x-synthesis-ephemeral",
];

/// A request, read and judged as far as it can be without its session.
pub struct Wanted {
    pub client: Arc<Client>,
    /// What the run is called if it is a new one.
    pub id: RunId,
    pub identity: Identity,
    pub model: Model,
    pub ask: Ask,
    pub keyed: Option<Keyed>,
    /// The session is for this request alone.
    pub ephemeral: bool,
    /// How often the client says that it sent this before.
    pub retries: u32,
    /// The run that this one continues, if the client named it.
    pub previous: Option<RunId>,
    /// The client takes back what followed the message before, which is meant, no repetition.
    pub rewinds: bool,
}

/// The run of a request.
pub enum Entered {
    New(Presence),
    /// It began before.
    Known(Found),
}

impl Entered {
    /// The run, and the client's side of one that is new.
    pub fn into_found(self) -> (Found, Option<Presence>) {
        match self {
            Self::New(presence) => (Found::Live(Arc::clone(presence.run())), Some(presence)),
            Self::Known(found) => (found, None),
        }
    }
}

/// The key that the client gave in its header, for this very request to this API.
///
/// # Errors
/// 400 for one that is empty, too long or not printable.
pub fn keyed(
    client: &Client,
    headers: &HeaderMap,
    api: &str,
    body: &[u8],
) -> Result<Option<Keyed>, ApiError> {
    const HEADER: &str = "idempotency-key";
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    // Whose conversation it is for counts as what it says.
    let named = NAMES.into_iter().map(|name| headers.get(name).map_or(&b""[..], |v| v.as_bytes()));
    // A tab is a header's, and no printable character.
    let usable = |text: &&str| !text.is_empty() && text.len() <= KEY && !text.contains('\t');
    match value.to_str().ok().filter(usable) {
        Some(key) => Ok(Some(Keyed {
            principal: client.principal.to_string(),
            key: key.to_owned(),
            fingerprint: ask::fingerprint::of_parts(
                [api.as_bytes()].into_iter().chain(named).chain([body]),
            ),
        })),
        None => {
            let message = format!("`{HEADER}` must have 1 to {KEY} printable characters");
            Err(ApiError::bad_request("invalid_header", message).with_param(HEADER))
        }
    }
}

/// How often the official clients say that they sent this before.
pub fn retries(headers: &HeaderMap) -> u32 {
    let count = headers.get("x-stainless-retry-count").and_then(|count| count.to_str().ok());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Does the request want a session of its own, by header or by its model? Gives it one if so.
///
/// # Errors
/// 400 for a header that is neither `true` nor `false`.
pub fn ephemeral(
    app: &App,
    client: &Client,
    headers: &HeaderMap,
    model: &Model,
    identity: &mut Identity,
) -> Result<bool, ApiError> {
    const HEADER: &str = "x-synthesis-ephemeral";
    let ephemeral = match headers.get(HEADER).map(http::HeaderValue::as_bytes) {
        None => app.config().session.ephemeral_models.contains(&model.id),
        Some(b"true") => true,
        Some(b"false") => false,
        Some(_) => {
            let message = format!("the header `{HEADER}` must be `true` or `false`");
            return Err(ApiError::bad_request("invalid_header", message).with_param(HEADER));
        }
    };
    if ephemeral {
        identity.key = identity::one_off(&client.principal);
    }
    Ok(ephemeral)
}

/// The default for a request: who gave a key will come back for the answer.
pub fn on_disconnect(app: &App, keyed: bool) -> OnDisconnect {
    match app.config().session.on_disconnect {
        crate::config::OnDisconnect::Cancel => OnDisconnect::Cancel,
        crate::config::OnDisconnect::Continue if keyed => OnDisconnect::Continue,
        crate::config::OnDisconnect::Continue => OnDisconnect::LeaveQueue,
    }
}

/// Finds the run that the request began before, or begins one.
///
/// # Errors
/// [`ApiError`] when the session does not take it, or its key belongs to another request.
pub async fn enter(
    app: &Arc<App>,
    wanted: Wanted,
    on_disconnect: OnDisconnect,
) -> Result<Entered, ApiError> {
    let entered = find_or_begin(app, wanted, on_disconnect).await?;
    match &entered {
        Entered::New(presence) => visit::admitted(app, presence.run().id(), presence.run().key()),
        Entered::Known(found) => visit::admitted(app, found.id(), found.key()),
    }
    Ok(entered)
}

async fn find_or_begin(
    app: &Arc<App>,
    wanted: Wanted,
    on_disconnect: OnDisconnect,
) -> Result<Entered, ApiError> {
    check_size(&wanted.ask.new.text)?;
    if let Some(found) = before(app, &wanted).await? {
        return Ok(Entered::Known(found));
    }
    if matches!(app.site.access, Access::Required) {
        quota::runs(&app.runs, &wanted.client.principal, &app.config().principals)?;
    }
    let limit = app.config().store.run_bytes();
    let (key, model) = (wanted.identity.key.clone(), wanted.model.id.as_str());
    let run = Run::new(wanted.id, key, model.into(), limit);
    match app.runs.begin(&run, wanted.keyed.as_ref()) {
        Begun::New => {}
        Begun::Known { run, fingerprint } => {
            check_fingerprint(wanted.keyed.as_ref(), fingerprint)?;
            return Ok(Entered::Known(Found::Live(run)));
        }
    }
    // From here on the client may leave at any wait: the run must not stay behind.
    let mut presence = Presence::new(app, &run, on_disconnect);
    // Once more, so that the key cannot begin a second run between the question and the beginning.
    if let Some(row) = stored(app, wanted.keyed.as_ref()).await? {
        return Ok(Entered::Known(of_row(app, row)));
    }
    submit(app, &mut presence, wanted).await?;
    Ok(Entered::New(presence))
}

/// The run that the request began before, if it did; nothing is begun.
///
/// # Errors
/// [`ApiError`] when the store cannot be read, or the key belongs to another request.
pub async fn before(app: &App, wanted: &Wanted) -> Result<Option<Found>, ApiError> {
    if let Some(keyed) = &wanted.keyed
        && let Some((run, fingerprint)) = app.runs.keyed(keyed)
    {
        check_fingerprint(Some(keyed), fingerprint)?;
        return Ok(Some(Found::Live(run)));
    }
    match stored(app, wanted.keyed.as_ref()).await? {
        Some(row) => Ok(Some(of_row(app, row))),
        None => repeated(app, wanted).await,
    }
}

/// A run of an earlier frontd is under way without its key.
fn of_row(app: &App, row: RunRow) -> Found {
    app.runs.find(row.id).map_or_else(|| Found::Stored(Box::new(row)), Found::Live)
}

/// The key's run, if the store has one that counts.
async fn stored(app: &App, keyed: Option<&Keyed>) -> Result<Option<RunRow>, ApiError> {
    let Some(keyed) = keyed else { return Ok(None) };
    let found = app.store.keyed(keyed.principal.clone(), keyed.key.clone()).await?;
    let Some((row, fingerprint)) = found else { return Ok(None) };
    check_fingerprint(Some(keyed), fingerprint)?;
    Ok(counts(&row).then_some(row))
}

fn check_fingerprint(keyed: Option<&Keyed>, known: [u8; 32]) -> Result<(), ApiError> {
    if keyed.is_none_or(|keyed| keyed.fingerprint == known) {
        return Ok(());
    }
    let message = "this key belongs to another request";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message))
}

/// A run that failed before claude had its message is no answer: the retry is a fresh attempt.
fn counts(row: &RunRow) -> bool {
    row.pushed || row.finished.is_none() || row.outcome == Some(crate::run::Outcome::Completed)
}

/// The session's latest run, if this request is the same one over again: some clients repeat a
/// request whose connection they lost, in other words.
async fn repeated(app: &App, wanted: &Wanted) -> Result<Option<Found>, ApiError> {
    let key = &wanted.identity.key;
    // Most requests say that they are new: nothing is looked up for them.
    let may_repeat = wanted.retries > 0 || wanted.ask.new.again();
    if wanted.rewinds || wanted.keyed.is_some() || !may_repeat {
        return Ok(None);
    }
    let latest = match app.runs.of(key).pop() {
        Some(run) => Found::Live(run),
        None => match app.store.runs_of(key.clone(), None, 1).await?.pop() {
            Some(row) => Found::Stored(Box::new(row)),
            None => return Ok(None),
        },
    };
    if let Found::Stored(row) = &latest {
        let ended = row.finished.unwrap_or(u64::MAX);
        if !counts(row) || crate::run::log::now().saturating_sub(ended) > AGAIN_WITHIN_MS {
            return Ok(None);
        }
    }
    let said = first_words(app, &latest).await;
    let repeats = said.is_some_and(|said| retry::repeats(&wanted.ask, &said, wanted.retries));
    Ok(repeats.then_some(latest))
}

/// What the run's message said.
async fn first_words(app: &App, found: &Found) -> Option<Arc<str>> {
    let mut reader = found.reader(app, 0).ok()?;
    let first = reader.next().await.ok()??;
    let Event::Started { message } = &first.event else { return None };
    Some(Arc::clone(&message.text))
}

async fn submit(
    app: &Arc<App>,
    presence: &mut Presence,
    mut wanted: Wanted,
) -> Result<(), ApiError> {
    let runner = wanted.client.runner.clone().ok_or_else(no_runner)?;
    let instructions = instructions(app, wanted.ask.instructions.take())?;
    let workspace = choose_workspace(app, &wanted.identity);
    let (taken, answer) = oneshot::channel();
    let submission = Submission {
        runner,
        run: Arc::clone(presence.run()),
        keyed: wanted.keyed,
        ask: wanted.ask,
        previous: wanted.previous,
        rewinds: wanted.rewinds,
        ephemeral: wanted.ephemeral,
        instructions,
        chat_id: wanted.identity.chat_id.as_str().into(),
        workspace,
        model: app.config().claude_model_of(&wanted.model).cloned(),
        asked: visit::asked(),
        taken,
    };
    let key = &wanted.identity.key;
    let start = || actor::start(Arc::clone(app), key.clone());
    let sent = app.directory.with_session(key, start, |inbox| {
        inbox.try_send(Message::Submit(Box::new(submission))).is_ok()
    });
    if !sent {
        return Err(NotTaken::QueueFull.into());
    }
    presence.submitted();
    let verdict = answer.await.unwrap_or(Err(NotTaken::Store));
    verdict.map_err(|not_taken| {
        presence.give_up();
        not_taken.into()
    })
}

fn no_runner() -> ApiError {
    let message = "this client has no Unix user that sessions could run as";
    ApiError::new(StatusCode::FORBIDDEN, "no_session_user", message).with_again(Again::Never)
}

/// System and developer text, whole or not at all.
fn instructions(app: &App, text: Option<String>) -> Result<Option<Instructions>, ApiError> {
    let text = match app.config().session.system_text {
        SystemText::Ignore => None,
        SystemText::Append => text,
    };
    text.map(Instructions::new).transpose().map_err(|invalid| {
        let message = format!("system and developer text ({invalid}): see session.system_text");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "instructions_too_large", message)
    })
}

fn check_size(content: &str) -> Result<(), ApiError> {
    if content.len() <= limits::MESSAGE_TEXT && ask::context::room(content).is_some() {
        return Ok(());
    }
    let message = format!("the message is over the limit of {} bytes", limits::MESSAGE_TEXT);
    Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", message)
        .with_param("messages"))
}

/// The header's folder, else the agent's; `None` leaves a known session where it lives.
fn choose_workspace(app: &App, identity: &Identity) -> Option<AbsolutePath> {
    let of_agent = || app.config().agents.get(identity.agent.as_ref()?).cloned();
    identity.workspace.clone().or_else(of_agent)
}
