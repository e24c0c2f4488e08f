//! The routes.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions`, `POST /chat/completions` | an answer of the session's claude |
//! | `POST /v1/responses` | likewise, as a response |
//! | `GET /v1/responses/{id}`, `POST /v1/responses/{id}/cancel` | a response that began before |
//! | `GET /v1/models`, `GET /v1/models/{id}` | the configured models |
//! | `POST /v1/runs`, `GET /v1/runs/{id}` | a run, begun or looked at |
//! | `GET /v1/runs/{id}/events` | its events, numbered, to the end |
//! | `POST /v1/runs/{id}/abort` | ends a run |
//! | `GET /v1/sessions`, `GET /v1/sessions/{key}` | the sessions |
//! | `GET /v1/sessions/{key}/messages` | what was said in one |
//! | `POST /v1/sessions/{key}/stop` | ends one's runs and its process |
//! | `DELETE /v1/sessions/{key}` | forgets one |
//! | `POST /api/chat` | a turn of an AI SDK chat |
//! | `GET /api/chat/{id}/stream` | its run under way, from the beginning |
//! | `POST /api/chat/{id}/stop` | ends that run |
//! | `GET /v1/status` | what an administrator wants to know of the server |
//! | `GET /health`, `GET /ready`, `GET /metrics`, `GET /openapi.json` | operations |
//!
//! `HEAD` is answered wherever `GET` is.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode, header};
use hyper::Request;
use hyper::body::Incoming;

use super::error::ApiError;
use super::peer::Peer;
use super::query::Query;
use super::request_id::RequestId;
use super::visit::Visit;
use super::{Response, cors, guard, routes};
use crate::app::{Access, App};
use crate::client::Scopes;
use crate::quota::{self, Standing};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    ChatCompletions,
    Respond,
    GetResponse,
    CancelResponse,
    Models,
    Model,
    BeginRun,
    GetRun,
    RunEvents,
    AbortRun,
    Sessions,
    GetSession,
    StopSession,
    ForgetSession,
    Messages,
    UiChat,
    UiResume,
    UiStop,
    Status,
    Health,
    Ready,
    Metrics,
    OpenApi,
}

/// What a client must be allowed for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: whoever reaches the server may ask, known or not.
    Nothing,
    Chat,
    /// Either is enough: a client sees its own sessions, an administrator everybody's.
    ChatOrAdmin,
    Admin,
    Metrics,
}

impl Route {
    fn need(self) -> Need {
        match self {
            Self::Health | Self::Ready | Self::OpenApi => Need::Nothing,
            Self::Metrics => Need::Metrics,
            Self::Sessions | Self::GetSession | Self::StopSession => Need::ChatOrAdmin,
            Self::Status => Need::Admin,
            Self::ChatCompletions
            | Self::Respond
            | Self::GetResponse
            | Self::CancelResponse
            | Self::Models
            | Self::Model
            | Self::BeginRun
            | Self::GetRun
            | Self::RunEvents
            | Self::AbortRun
            | Self::ForgetSession
            | Self::Messages
            | Self::UiChat
            | Self::UiResume
            | Self::UiStop => Need::Chat,
        }
    }

    /// Is it on record who asks? What watches the server asks all the time and learns nothing of
    /// anybody.
    fn is_recorded(self) -> bool {
        match self {
            Self::Health | Self::Ready | Self::Metrics | Self::OpenApi => false,
            Self::Models | Self::Model => false,
            Self::ChatCompletions
            | Self::Respond
            | Self::GetResponse
            | Self::CancelResponse
            | Self::BeginRun
            | Self::GetRun
            | Self::RunEvents
            | Self::AbortRun
            | Self::Sessions
            | Self::GetSession
            | Self::StopSession
            | Self::Status
            | Self::ForgetSession
            | Self::Messages
            | Self::UiChat
            | Self::UiResume
            | Self::UiStop => true,
        }
    }
}

impl Need {
    fn is_met(self, Scopes { chat, admin, metrics }: Scopes) -> bool {
        match self {
            Self::Nothing => true,
            Self::Chat => chat,
            Self::ChatOrAdmin => chat || admin,
            Self::Admin => admin,
            Self::Metrics => metrics,
        }
    }
}

type Row = (&'static str, Method, Route);

/// Path, method, route: what the header says, and `openapi.json`.
static TABLE: [Row; 24] = [
    ("/v1/chat/completions", Method::POST, Route::ChatCompletions),
    ("/chat/completions", Method::POST, Route::ChatCompletions),
    ("/v1/responses", Method::POST, Route::Respond),
    ("/v1/responses/{id}", Method::GET, Route::GetResponse),
    ("/v1/responses/{id}/cancel", Method::POST, Route::CancelResponse),
    ("/v1/models", Method::GET, Route::Models),
    ("/v1/models/{*id}", Method::GET, Route::Model),
    ("/v1/runs", Method::POST, Route::BeginRun),
    ("/v1/runs/{id}", Method::GET, Route::GetRun),
    ("/v1/runs/{id}/events", Method::GET, Route::RunEvents),
    ("/v1/runs/{id}/abort", Method::POST, Route::AbortRun),
    ("/v1/sessions", Method::GET, Route::Sessions),
    ("/v1/sessions/{id}", Method::GET, Route::GetSession),
    ("/v1/sessions/{id}", Method::DELETE, Route::ForgetSession),
    ("/v1/sessions/{id}/messages", Method::GET, Route::Messages),
    ("/v1/sessions/{id}/stop", Method::POST, Route::StopSession),
    ("/api/chat", Method::POST, Route::UiChat),
    ("/api/chat/{id}/stream", Method::GET, Route::UiResume),
    ("/api/chat/{id}/stop", Method::POST, Route::UiStop),
    ("/v1/status", Method::GET, Route::Status),
    ("/health", Method::GET, Route::Health),
    ("/ready", Method::GET, Route::Ready),
    ("/metrics", Method::GET, Route::Metrics),
    ("/openapi.json", Method::GET, Route::OpenApi),
];

pub struct Router {
    paths: matchit::Router<Vec<&'static Row>>,
}

impl Default for Router {
    fn default() -> Self {
        let mut routes: Vec<(&str, Vec<&Row>)> = Vec::new();
        for row in &TABLE {
            match routes.iter_mut().find(|(known, _)| *known == row.0) {
                Some((_, rows)) => rows.push(row),
                None => routes.push((row.0, vec![row])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, rows) in routes {
            paths.insert(path, rows).expect("the table's paths do not collide");
        }
        Self { paths }
    }
}

impl Router {
    /// Answers one request; every failure becomes a response.
    pub async fn answer(
        &self,
        app: &Arc<App>,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Response {
        let visit = Visit::new(RequestId::of(request.headers()), peer.origin());
        let origin = cors::origin(&app.config().cors, request.headers());
        let answering = async {
            let mut standing = None;
            let answered = self.dispatch(app, peer, request, &visit, &mut standing).await;
            let mut response = answered.unwrap_or_else(ApiError::into_response);
            if let Some(standing) = standing {
                standing.write(response.headers_mut());
            }
            if let Some(origin) = origin {
                cors::mark(response.headers_mut(), origin);
            }
            response
        };
        visit.answer(app, answering).await
    }

    async fn dispatch(
        &self,
        app: &Arc<App>,
        peer: &Peer,
        request: Request<Incoming>,
        visit: &Visit,
        standing: &mut Option<Standing>,
    ) -> Result<Response, ApiError> {
        guard::request(app, request.headers())?;
        if app.is_stopping() {
            return Err(ApiError::stopping());
        }
        // It carries no token.
        if let Some(response) = cors::preflight(&request).filter(|_| has_origin(&request)) {
            return Ok(response);
        }
        let (head, body) = request.into_parts();
        // The query is no part of the path.
        let Ok(found) = self.paths.at(head.uri.path()) else {
            let message = format!("no route {}", head.uri.path());
            return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message));
        };
        // What is asked for by HEAD is answered as by GET; hyper leaves the body out.
        let asked = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let Some((path, method, route)) =
            found.value.iter().find(|(_, method, _)| *method == asked)
        else {
            return Ok(method_not_allowed(found.value));
        };
        // One part of the path, whatever it holds: a name to compare, never a path of ours.
        let id = found.params.get("id").unwrap_or_default();
        let id = &*percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        visit.goes_to(method, shown(path), route.is_recorded(), id);
        let client = match (&app.site.access, route.need()) {
            // Whoever watches over the server needs no name, and no spawnd that gives one.
            (Access::Required, Need::Nothing) => Arc::default(),
            (Access::Required | Access::Local { .. }, need) => {
                let client = peer.client(app, &head.headers).await?;
                if !need.is_met(client.scopes) {
                    return Err(guard::not_allowed());
                }
                client
            }
        };
        let client = &client;
        visit.is_of(&client.principal);
        if matches!(app.site.access, Access::Required) && route.need() != Need::Nothing {
            let limit = app.config().principals.requests_per_minute;
            match app.quotas.take(&client.principal, limit, Instant::now()) {
                Ok(left) => *standing = Some(left),
                Err((none, wait)) => {
                    *standing = Some(none);
                    return Err(quota::too_many_requests(wait));
                }
            }
        }
        let (headers, query) = (&head.headers, Query::of(&head.uri));
        match route {
            Route::ChatCompletions => routes::chat::completions(app, client, headers, body).await,
            Route::Respond => routes::responses::respond(app, client, headers, body).await,
            Route::GetResponse => routes::responses::get(app, client, id).await,
            Route::CancelResponse => routes::responses::cancel(app, client, id).await,
            Route::Models => Ok(routes::models::list(app)),
            Route::Model => routes::models::one(app, id),
            Route::BeginRun => routes::runs::begin(app, client, headers, body).await,
            Route::GetRun => routes::runs::get(app, client, id).await,
            Route::RunEvents => routes::runs::events(app, client, headers, query, id).await,
            Route::AbortRun => routes::runs::abort(app, client, id).await,
            Route::Sessions => routes::sessions::list(app, client, query).await,
            Route::GetSession => routes::sessions::get(app, client, id).await,
            Route::StopSession => routes::sessions::stop(app, client, id).await,
            Route::Status => routes::ops::status(app).await,
            Route::ForgetSession => routes::sessions::forget(app, client, id).await,
            Route::Messages => routes::messages::list(app, client, query, id).await,
            Route::UiChat => routes::ui::chat(app, client, headers, body).await,
            Route::UiResume => routes::ui::resume(app, client, id),
            Route::UiStop => routes::ui::stop(app, client, id).await,
            Route::Health => Ok(routes::ops::health(app)),
            Route::Ready => Ok(routes::ops::ready(app)),
            Route::Metrics => Ok(routes::ops::metrics(app)),
            Route::OpenApi => Ok(routes::ops::openapi()),
        }
    }
}

fn has_origin(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(header::ORIGIN)
}

/// The path as clients know it.
fn shown(path: &'static str) -> &'static str {
    match path {
        "/v1/models/{*id}" => "/v1/models/{id}",
        path => path,
    }
}

fn method_not_allowed(allowed: &[&Row]) -> Response {
    let mut methods: Vec<&str> = allowed.iter().map(|(_, method, _)| method.as_str()).collect();
    if methods.contains(&Method::GET.as_str()) {
        methods.push(Method::HEAD.as_str());
    }
    let allowed = methods.join(", ");
    let message = format!("this route answers {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.into_response();
    let allowed = HeaderValue::from_str(&allowed).expect("methods are tokens");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

#[cfg(test)]
mod tests;
