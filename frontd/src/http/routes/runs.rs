//! Runs by their id.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::{Response, json};
use crate::run::RunId;
use crate::session::machine::Input;
use crate::session::message::Message;

/// `POST /v1/runs/{id}/abort`: asks for the end; the run tells when it has ended.
///
/// # Errors
/// 404 for a run that is not under way.
pub async fn abort(app: &Arc<App>, id: &str) -> Result<Response, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "unknown_run", "no such run under way");
    let run = RunId::parse(id).ok_or_else(unknown)?;
    let (key, _) = app.runs.find(run).ok_or_else(unknown)?;
    let inbox = app.directory.session(&key).ok_or_else(unknown)?;
    inbox.send(Message::Input(Input::Abort(run))).await.map_err(|_| unknown())?;
    let mut response =
        json(&json!({ "id": run.to_string(), "object": "run", "status": "aborting" }));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
