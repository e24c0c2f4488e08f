//! The configured models, as the OpenAI API lists them.

use http::StatusCode;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::{Response, json_bytes};
use crate::render::chat as render;

/// The API wants a date of creation; a configured name has none.
const CREATED: u64 = 0;

/// `GET /v1/models`
pub fn list(app: &App) -> Response {
    json_bytes(render::models(app.config().models.ids(), CREATED))
}

/// `GET /v1/models/{id}`
///
/// # Errors
/// 404 for a model that is not configured.
pub fn one(app: &App, id: &str) -> Result<Response, ApiError> {
    match app.config().models.find(Some(id)) {
        Some(model) => Ok(json_bytes(render::model(model.id.as_str(), CREATED))),
        None => {
            let message = format!("the model {id:?} does not exist here");
            Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message)
                .with_param("model"))
        }
    }
}
