//! HTTP in and out: reads a request within bounds, records it, writes what [`script`] decided.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use super::log::{Kind, Recorded, RequestLog};
use super::script::{self, Answer, Say};
use super::{request, stream};

/// A conversation of 200,000 tokens is about 1 MB; images may make it much more.
const BODY: usize = 64 * 1024 * 1024;

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn answer(
    log: Arc<RequestLog>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) =
        Limited::new(body, BODY).collect().await.map(http_body_util::Collected::to_bytes)
    else {
        return Ok(json_response(StatusCode::PAYLOAD_TOO_LARGE, &stream::error(413)));
    };
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = parts.uri.path().trim_end_matches('/');
    let route = match (&parts.method, path) {
        (&Method::HEAD, _) | (&Method::GET, "" | "/api/hello") => Route::Hello,
        (&Method::GET, "/v1/models") => Route::Models,
        (&Method::POST, "/v1/messages/count_tokens") => Route::CountTokens,
        (&Method::POST, "/v1/messages") => Route::Messages(script::answer(&json)),
        _ => Route::Unknown,
    };
    log.record(Recorded {
        kind: route.kind(),
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: headers(&parts.headers),
        body,
    });
    Ok(respond(&log, &json, route).await)
}

enum Route {
    Hello,
    Models,
    CountTokens,
    Messages(Answer),
    Unknown,
}

impl Route {
    fn kind(&self) -> Kind {
        match self {
            Self::Messages(answer) if answer.side => Kind::Side,
            Self::Messages(_) => Kind::Turn,
            Self::Hello | Self::Models | Self::CountTokens => Kind::Other,
            Self::Unknown => Kind::Unknown,
        }
    }
}

async fn respond(log: &Arc<RequestLog>, json: &Value, route: Route) -> Response<Body> {
    let model = json["model"].as_str().unwrap_or("mock-model").to_owned();
    match route {
        Route::Hello => json_response(StatusCode::OK, &json!({"message": "hello"})),
        Route::Models => json_response(
            StatusCode::OK,
            &json!({"data": [{"type": "model", "id": model, "display_name": model,
                "created_at": "2026-01-01T00:00:00Z"}], "has_more": false}),
        ),
        Route::CountTokens => {
            let tokens = 100 + request::read(json).characters / 4;
            json_response(StatusCode::OK, &json!({"input_tokens": tokens}))
        }
        Route::Messages(answer) => {
            tokio::time::sleep(answer.wait).await;
            messages(log, json, &model, &answer.say)
        }
        Route::Unknown => json_response(StatusCode::NOT_FOUND, &stream::error(404)),
    }
}

fn messages(log: &Arc<RequestLog>, json: &Value, model: &str, say: &Say) -> Response<Body> {
    let envelope =
        stream::Envelope { model: model.to_owned(), characters: request::read(json).characters };
    match say {
        Say::Error { status } => {
            let code = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = json_response(code, &stream::error(*status));
            // Without it the CLI tries ten times, for minutes, before it gives up.
            let no = header::HeaderValue::from_static("false");
            response.headers_mut().insert("x-should-retry", no);
            response
        }
        Say::Hang | Say::Text(_) | Say::Call { .. } if json["stream"] == true => {
            let events = stream::events(&envelope, say).into_iter().map(Bytes::from).collect();
            let open = matches!(say, Say::Hang).then(|| OpenAnswer::new(log));
            let body = BodyExt::boxed(StreamBody::new(Events { events, open }));
            response(StatusCode::OK, "text/event-stream; charset=utf-8", body)
        }
        Say::Hang | Say::Text(_) | Say::Call { .. } => {
            json_response(StatusCode::OK, &stream::whole(&envelope, say))
        }
    }
}

/// The events of one answer, one frame each; an open one then waits until its reader goes.
struct Events {
    events: std::collections::VecDeque<Bytes>,
    open: Option<OpenAnswer>,
}

impl futures_util::Stream for Events {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(Frame::data(event)))),
            // Never woken: hyper drops the body when the connection ends.
            None if self.open.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// Counts an answer that hangs open, for as long as it does.
struct OpenAnswer(Arc<RequestLog>);

impl OpenAnswer {
    fn new(log: &Arc<RequestLog>) -> Self {
        log.hang_begins();
        Self(Arc::clone(log))
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.hang_ends();
    }
}

fn headers(map: &http::HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let body = BodyExt::boxed(Full::new(Bytes::from(value.to_string())));
    response(status, "application/json", body)
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    let id = format!("req_{}", uuid::Uuid::new_v4().simple());
    if let Ok(id) = header::HeaderValue::from_str(&id) {
        response.headers_mut().insert("request-id", id);
    }
    response
}
