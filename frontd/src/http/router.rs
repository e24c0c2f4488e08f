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
//! | `DELETE /v1/sessions/{key}` | forgets one |
//! | `POST /api/chat` | a turn of an AI SDK chat |
//! | `GET /api/chat/{id}/stream` | its run under way, from the beginning |
//! | `POST /api/chat/{id}/stop` | ends that run |
//! | `GET /health`, `GET /ready`, `GET /openapi.json` | operations |

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use hyper::Request;
use hyper::body::Incoming;

use super::error::ApiError;
use super::query::Query;
use super::{Response, guard, routes};
use crate::app::App;

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
    ForgetSession,
    Messages,
    UiChat,
    UiResume,
    UiStop,
    Health,
    Ready,
    OpenApi,
}

/// Path, method, route: what the header says, and `openapi.json`.
const TABLE: [(&str, Method, Route); 21] = [
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
    ("/api/chat", Method::POST, Route::UiChat),
    ("/api/chat/{id}/stream", Method::GET, Route::UiResume),
    ("/api/chat/{id}/stop", Method::POST, Route::UiStop),
    ("/health", Method::GET, Route::Health),
    ("/ready", Method::GET, Route::Ready),
    ("/openapi.json", Method::GET, Route::OpenApi),
];

pub struct Router {
    paths: matchit::Router<Vec<(Method, Route)>>,
}

impl Default for Router {
    fn default() -> Self {
        let mut routes: Vec<(&str, Vec<(Method, Route)>)> = Vec::new();
        for (path, method, route) in TABLE {
            match routes.iter_mut().find(|(known, _)| *known == path) {
                Some((_, methods)) => methods.push((method, route)),
                None => routes.push((path, vec![(method, route)])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, methods) in routes {
            paths.insert(path, methods).expect("the table's paths do not collide");
        }
        Self { paths }
    }
}

impl Router {
    /// Answers one request; every failure becomes a response.
    pub async fn answer(&self, app: &Arc<App>, request: Request<Incoming>) -> Response {
        match self.dispatch(app, request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    async fn dispatch(
        &self,
        app: &Arc<App>,
        request: Request<Incoming>,
    ) -> Result<Response, ApiError> {
        guard::request(app, request.headers())?;
        let (head, body) = request.into_parts();
        // The query is no part of the path.
        let Ok(found) = self.paths.at(head.uri.path()) else {
            let message = format!("no route {}", head.uri.path());
            return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message));
        };
        let Some((_, route)) = found.value.iter().find(|(method, _)| *method == head.method) else {
            return Ok(method_not_allowed(found.value));
        };
        // One part of the path, whatever it holds: a name to compare, never a path of ours.
        let id = found.params.get("id").unwrap_or_default();
        let id = &*percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        let (headers, query) = (&head.headers, Query::of(&head.uri));
        match route {
            Route::ChatCompletions => routes::chat::completions(app, headers, body).await,
            Route::Respond => routes::responses::respond(app, headers, body).await,
            Route::GetResponse => routes::responses::get(app, id).await,
            Route::CancelResponse => routes::responses::cancel(app, id).await,
            Route::Models => Ok(routes::models::list(app)),
            Route::Model => routes::models::one(app, id),
            Route::BeginRun => routes::runs::begin(app, headers, body).await,
            Route::GetRun => routes::runs::get(app, id).await,
            Route::RunEvents => routes::runs::events(app, headers, query, id).await,
            Route::AbortRun => routes::runs::abort(app, id).await,
            Route::Sessions => routes::sessions::list(app, query).await,
            Route::GetSession => routes::sessions::get(app, id).await,
            Route::ForgetSession => routes::sessions::forget(app, id).await,
            Route::Messages => routes::messages::list(app, query, id).await,
            Route::UiChat => routes::ui::chat(app, headers, body).await,
            Route::UiResume => routes::ui::resume(app, id),
            Route::UiStop => routes::ui::stop(app, id).await,
            Route::Health => Ok(routes::ops::health(app)),
            Route::Ready => Ok(routes::ops::ready(app)),
            Route::OpenApi => Ok(routes::ops::openapi()),
        }
    }
}

fn method_not_allowed(allowed: &[(Method, Route)]) -> Response {
    let allowed: Vec<&str> = allowed.iter().map(|(method, _)| method.as_str()).collect();
    let allowed = allowed.join(", ");
    let message = format!("this route answers {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.into_response();
    let allowed = HeaderValue::from_str(&allowed).expect("methods are tokens");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

#[cfg(test)]
mod tests;
