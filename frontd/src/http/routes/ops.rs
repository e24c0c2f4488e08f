//! Is the server up, and can it take work?

use std::time::UNIX_EPOCH;

use http::{HeaderValue, header};
use serde_json::json;

use super::sessions;
use crate::app::{App, LastRead};
use crate::http::error::ApiError;
use crate::http::{Response, full, json, json_bytes};
use crate::metrics::{CONTENT_TYPE, Now};

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

/// `GET /v1/status`: what an administrator wants to know. Names nobody.
///
/// # Errors
/// 500 when the store cannot be read.
pub async fn status(app: &App) -> Result<Response, ApiError> {
    let (stored, principals) = app.store.count().await?;
    let ([waiting, ready, busy], (open, queued)) = (sessions::count(app), app.runs.tally());
    let LastRead { at, error } = app.config.last_read();
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let pool = &app.pool;
    Ok(json(&json!({
        "object": "status",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.began.elapsed().as_secs(),
        "spawnd": app.spawner.is_connected(),
        "processes": {
            "in_use": pool.in_use(), "size": pool.size(), "waiting_for": pool.waiting(),
        },
        "sessions": { "stored": stored, "waiting": waiting, "ready": ready, "busy": busy },
        "runs": { "open": open, "waiting": queued },
        "principals": principals,
        "store": { "bytes": app.store.bytes(), "failing": app.store.is_failing() },
        "configuration": { "read_at": at, "error": error },
    })))
}

/// `GET /metrics`: what the server counts of itself.
pub fn metrics(app: &App) -> Response {
    let (runs_open, readers) = app.runs.count();
    let late_readers = app.late_readers.in_use();
    let text = app.metrics.text(Now {
        runs_open,
        processes: app.pool.in_use(),
        bridge_connections: app.directory.connections(),
        readers: readers + late_readers,
        spawnd_connected: app.spawner.is_connected(),
        spawnd_connects: app.spawner.connects(),
        store_bytes: app.store.bytes(),
        store_queue: app.store.pending(),
        store_failing: app.store.is_failing(),
        audit_lost: app.audit.lost(),
    });
    let mut response = http::Response::new(full(text));
    let openmetrics = HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, openmetrics);
    response
}

/// `GET /openapi.json`: every route, for programs.
pub fn openapi() -> Response {
    json_bytes(bytes::Bytes::from_static(OPENAPI))
}
