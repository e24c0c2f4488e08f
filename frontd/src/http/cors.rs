//! Pages of other sites that the configuration lets in (Fetch Standard, CORS protocol).

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::Request;

use super::{Response, full};
use crate::config::Cors;

/// What a page may set, beside what it may always.
const ASKED: &str = "authorization, content-type, idempotency-key, last-event-id, x-request-id, \
    x-synthesis-session, x-synthesis-ephemeral, x-synthesis-on-disconnect, x-openclaw-agent-id, \
    x-openclaw-chat-id, x-openclaw-workspace, x-session-affinity, session_id, \
    x-stainless-retry-count";
/// What it may read of a response.
const SHOWN: &str = "x-request-id, x-synthesis-run, x-synthesis-session, x-synthesis-first-id, \
    x-should-retry, retry-after, location, x-ratelimit-limit-requests, \
    x-ratelimit-remaining-requests, x-ratelimit-reset-requests";
const METHODS: &str = "GET, POST, DELETE";
/// Seconds for which a browser need not ask again.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The request's origin, if it is one of those that are let in.
pub fn origin(cors: &Cors, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    let known = |allowed: &String| allowed.as_bytes() == origin.as_bytes();
    cors.allowed_origins.iter().any(known).then(|| origin.clone())
}

/// The answer to a browser that asks before it sends.
pub fn preflight<B>(request: &Request<B>) -> Option<Response> {
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    asks.then(|| {
        let mut response = http::Response::new(full(Vec::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, ASKED);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        response
    })
}

/// Lets the page read the response.
pub fn mark(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_origin_that_is_configured_to_the_letter_is_let_in() {
        let cors = Cors { allowed_origins: vec!["https://chat.example.org".to_owned()] };
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ORIGIN, HeaderValue::from_static(value));
            }
            origin(&cors, &headers).is_some()
        };
        assert!(of(&["https://chat.example.org"]));
        for foreign in [
            "http://chat.example.org",
            "https://chat.example.org.evil.net",
            "https://chat.example.org:8443",
            "https://CHAT.example.org",
            "null",
        ] {
            assert!(!of(&[foreign]), "{foreign}");
        }
        assert!(!of(&[]) && !of(&["https://chat.example.org", "https://evil.net"]));
    }
}
