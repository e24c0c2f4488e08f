//! Request bodies: read within bounds of size, time and what all requests together may hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::error::{Again, ApiError};
use crate::app::App;

/// KiB of bodies that may be on their way at once: eight of the greatest by default.
pub const ROOM: u32 = 256 * 1024;
/// How long a body waits for that room, and how long it may take to arrive.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a body that is parsed on a thread of its own: 1 MiB takes some 10 ms.
const LARGE: usize = 1 << 20;

/// Reads the whole body. The permit is its room, to be kept until the session has the message.
///
/// # Errors
/// [`ApiError`] for one that is too large, too slow or cut.
pub async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
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
    let kibibytes = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX).min(ROOM);
    let room = Arc::clone(&app.bodies).acquire_many_owned(kibibytes);
    let Ok(Ok(room)) = tokio::time::timeout(ROOM_WITHIN, room).await else {
        let message = "too many large requests arrive at once";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", message)
            .with_again(Again::After { seconds: 5 }));
    };
    match tokio::time::timeout(BODY_WITHIN, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok((body.to_bytes(), room)),
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
///
/// # Errors
/// Those of `parse`.
pub async fn parse<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    body: Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    if body.len() <= LARGE {
        return parse(&body).map_err(Into::into);
    }
    let failed = |_| {
        let message = "the request could not be read";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "parse_failed", message)
    };
    tokio::task::spawn_blocking(move || parse(&body)).await.map_err(failed)?.map_err(Into::into)
}
