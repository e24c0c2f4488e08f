//! The HTTP side: [`server`] accepts, [`guard`] judges who and from where, [`router`] finds the
//! route, [`routes`] answer, [`error`] maps every failure to its status.

pub mod body;
pub mod busy;
pub mod cors;
pub mod error;
pub mod find;
pub mod guard;
pub mod intake;
pub mod peer;
pub mod presence;
pub mod query;
pub mod request_id;
pub mod router;
pub mod routes;
pub mod server;
pub mod streaming;
pub mod visit;

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Response = http::Response<Body>;

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A JSON response with status 200.
pub fn json(value: &impl serde::Serialize) -> Response {
    json_bytes(serde_json::to_vec(value).expect("response types have string keys"))
}

/// Likewise, of JSON that is encoded already.
pub fn json_bytes(bytes: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(bytes));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
