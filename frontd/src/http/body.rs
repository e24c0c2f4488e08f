//! Request bodies: read within bounds of size, time and what all requests together may hold.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::error::{Again, ApiError};
use crate::app::App;
use crate::client::Client;
use crate::shares::Share;

/// KiB of bodies that may be on their way at once: eight of the greatest by default.
pub const ROOM: usize = 256 * 1024;
/// KiB of one principal's, where there are many.
pub const ROOM_EACH: usize = ROOM / 4;
/// KiB for which a body that does not say its size has room at first, and then again and again.
const PIECE: u32 = 1024;
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
    client: &Client,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Bytes, Share), ApiError> {
    let limit = app.config().limits.body_max_bytes;
    let too_large = || {
        let message = format!("the body is over the limit of {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let size = announced.and_then(|length| length.parse::<usize>().ok());
    if size.is_some_and(|size| size > limit) {
        return Err(too_large());
    }
    let units = |bytes: usize| u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
    // One that does not say how large it is gets room as it comes.
    let mut room = room(app, client, size.map_or(PIECE, units)).await?;
    let mut has_room_for = size.unwrap_or(PIECE as usize * 1024);
    let mut body = Limited::new(body, limit);
    let mut whole = BytesMut::new();
    let end = tokio::time::Instant::now() + BODY_WITHIN;
    loop {
        match tokio::time::timeout_at(end, body.frame()).await {
            Ok(None) => return Ok((whole.freeze(), room)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > has_room_for {
                    room.merge(self::room(app, client, PIECE).await?);
                    has_room_for += PIECE as usize * 1024;
                }
                whole.extend_from_slice(&data);
            }
            Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large());
            }
            Ok(Some(Err(_))) => {
                let message = "the body did not arrive whole";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "broken_body", message));
            }
            Err(_) => {
                let message = "the body did not arrive in time";
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
                    .with_again(Again::Never));
            }
        }
    }
}

/// So many KiB, which the client may have to wait for.
async fn room(app: &App, client: &Client, kibibytes: u32) -> Result<Share, ApiError> {
    let room = app.bodies.acquire(&client.principal, kibibytes);
    match tokio::time::timeout(ROOM_WITHIN, room).await {
        Ok(Some(room)) => Ok(room),
        Ok(None) | Err(_) => {
            let message = "too many large requests arrive at once";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", message)
                .with_again(Again::After { seconds: 5 }))
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
