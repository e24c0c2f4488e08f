//! The routes.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions`, `POST /chat/completions` | an answer of the session's claude |
//! | `GET /v1/models`, `GET /v1/models/{id}` | the configured models |
//! | `POST /v1/runs/{id}/abort` | ends a run |
//! | `GET /health`, `GET /ready` | operations |

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use hyper::Request;
use hyper::body::Incoming;

use super::error::ApiError;
use super::{Response, guard, routes};
use crate::app::App;

#[derive(Debug, Clone, Copy)]
enum Route {
    ChatCompletions,
    Models,
    Model,
    AbortRun,
    Health,
    Ready,
}

/// Path, method, route: what the header says.
const TABLE: [(&str, Method, Route); 7] = [
    ("/v1/chat/completions", Method::POST, Route::ChatCompletions),
    ("/chat/completions", Method::POST, Route::ChatCompletions),
    ("/v1/models", Method::GET, Route::Models),
    ("/v1/models/{*id}", Method::GET, Route::Model),
    ("/v1/runs/{id}/abort", Method::POST, Route::AbortRun),
    ("/health", Method::GET, Route::Health),
    ("/ready", Method::GET, Route::Ready),
];

pub struct Router {
    paths: matchit::Router<(Method, Route)>,
}

impl Default for Router {
    fn default() -> Self {
        let mut paths = matchit::Router::new();
        for (path, method, route) in TABLE {
            paths.insert(path, (method, route)).expect("the table's paths do not collide");
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
        let (method, route) = found.value;
        let id = found.params.get("id").unwrap_or_default();
        let id = &*percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        if head.method != *method {
            return Ok(method_not_allowed(method));
        }
        match route {
            Route::ChatCompletions => routes::chat::completions(app, &head.headers, body).await,
            Route::Models => Ok(routes::models::list(app)),
            Route::Model => routes::models::one(app, id),
            Route::AbortRun => routes::runs::abort(app, id).await,
            Route::Health => Ok(routes::ops::health(app)),
            Route::Ready => Ok(routes::ops::ready(app)),
        }
    }
}

fn method_not_allowed(allowed: &Method) -> Response {
    let message = format!("this route answers {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.into_response();
    let allowed = HeaderValue::from_str(allowed.as_str()).expect("a method is a token");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
