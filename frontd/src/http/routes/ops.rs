//! Is the server up, and can it take work?

use serde_json::json;

use crate::app::App;
use crate::http::{Response, json, json_bytes};

/// Kept by hand; the router's test holds it against the table of routes.
pub const OPENAPI: &[u8] = include_bytes!("../../../openapi.json");

/// `GET /health`: this process answers.
pub fn health(app: &App) -> Response {
    json(&json!({
        "ok": true,
        "processes": app.pool.in_use(),
        "conns": app.directory.connections(),
    }))
}

/// `GET /ready`: spawnd is connected, so a new session can start.
pub fn ready(app: &App) -> Response {
    let connected = app.spawner.is_connected();
    let mut response = json(&json!({ "ready": connected }));
    if !connected {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// `GET /openapi.json`: every route, for programs.
pub fn openapi() -> Response {
    json_bytes(bytes::Bytes::from_static(OPENAPI))
}
