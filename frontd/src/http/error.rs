//! Every refusal as an OpenAI error object with the right status: the one map.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Response, find, guard, json};
use crate::ask::BadRequest;
use crate::identity::SessionKey;
use crate::render::sse::{ErrorBody, ErrorObject};
use crate::run::{Failure, FailureKind, RunId};
use crate::session::message::NotTaken;

/// Seconds after which a full server or queue may have room.
const RETRY_AFTER: u32 = 5;
/// Seconds after which the next server may be there.
const NEXT_SERVER: u32 = 1;
/// This server is on its way out.
const STOPPING: &str = "stopping";

/// What a client is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    pub param: Option<String>,
    pub code: &'static str,
    pub again: Again,
    /// Of a reader whose place is gone: the first event that is kept (`x-synthesis-first-id`).
    pub first_id: Option<u64>,
    /// The run that it is about, once there is one.
    pub run: Option<Box<(RunId, SessionKey)>>,
}

/// The `code` of a response's error, for whoever counts and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub &'static str);

/// May the same request do better later? Clients repeat 429 and 5xx by themselves unless told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The status speaks for itself.
    ByStatus,
    After {
        seconds: u32,
    },
    /// `x-should-retry: false`.
    Never,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code,
            again: Again::ByStatus,
            first_id: None,
            run: None,
        }
    }

    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 503: the next server answers.
    pub fn stopping() -> Self {
        let message = "the server is stopping: ask again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, STOPPING, message)
            .with_again(Again::After { seconds: NEXT_SERVER })
    }

    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn with_again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// The run itself has failed, or what was asked of it is refused.
    pub fn about(mut self, id: RunId, key: &SessionKey) -> Self {
        self.run = Some(Box::new((id, key.clone())));
        self
    }

    /// The error object's `type`, by status as the OpenAI API does it.
    pub fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The error object for a frame in a stream. OpenClaw sends a turn again by the error's type
    /// alone: what must not be repeated is called the request's fault.
    pub fn object_in_stream(&self) -> ErrorObject<'_> {
        let kind = match self.again {
            Again::Never => "invalid_request_error",
            Again::ByStatus | Again::After { .. } => self.kind(),
        };
        ErrorObject { kind, ..self.object() }
    }

    /// The error object.
    pub fn object(&self) -> ErrorObject<'_> {
        let (message, param) = (self.message.as_str(), self.param.as_deref());
        ErrorObject { message, kind: self.kind(), param, code: self.code }
    }

    pub fn into_response(self) -> Response {
        let mut response = json(&ErrorBody { error: &self.object() });
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Who is not known here gets no second try on the same connection, and there is none with a
        // server that ends.
        let last = [guard::STRANGER, STOPPING].contains(&self.code);
        if self.status == StatusCode::UNAUTHORIZED || last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some((id, key)) = self.run.as_deref() {
            find::name(headers, *id, key);
        }
        if let Some(first) = self.first_id {
            headers.insert(HeaderName::from_static("x-synthesis-first-id"), first.into());
        }
        match self.again {
            Again::ByStatus => {}
            Again::After { seconds } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Again::Never => {
                let name = HeaderName::from_static("x-should-retry");
                headers.insert(name, HeaderValue::from_static("false"));
            }
        }
        response
    }
}

impl From<BadRequest> for ApiError {
    fn from(bad: BadRequest) -> Self {
        let BadRequest { message, param, code } = bad;
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }
}

impl From<&Failure> for ApiError {
    fn from(failure: &Failure) -> Self {
        let after = Again::After { seconds: RETRY_AFTER };
        let (status, again) = match failure.kind {
            FailureKind::NoSlot => (StatusCode::SERVICE_UNAVAILABLE, after),
            FailureKind::TooManyProcesses => (StatusCode::TOO_MANY_REQUESTS, after),
            FailureKind::CannotStart(_) => (StatusCode::FORBIDDEN, Again::Never),
            // Not 403: OpenClaw then leaves the whole server alone for a minute, for every session.
            FailureKind::WorkspaceNotAllowed => (StatusCode::BAD_REQUEST, Again::Never),
            FailureKind::WorkspaceUnusable => (StatusCode::BAD_REQUEST, Again::Never),
            FailureKind::StartFailed => (StatusCode::BAD_GATEWAY, Again::ByStatus),
            FailureKind::NotReceived => (StatusCode::BAD_GATEWAY, Again::ByStatus),
            // claude may have acted on the message already: only a person may send it again.
            FailureKind::ProcessEnded => (StatusCode::BAD_GATEWAY, Again::Never),
            FailureKind::OutOfMemory => (StatusCode::BAD_GATEWAY, Again::Never),
            FailureKind::ModelError => (StatusCode::BAD_GATEWAY, Again::Never),
            FailureKind::AnswerLost => (StatusCode::BAD_GATEWAY, Again::Never),
            FailureKind::TooLong => (StatusCode::BAD_GATEWAY, Again::Never),
            FailureKind::StoreFull => (StatusCode::INSUFFICIENT_STORAGE, Again::ByStatus),
            FailureKind::Stopping => (StatusCode::SERVICE_UNAVAILABLE, after),
        };
        Self::new(status, failure.kind.code(), &*failure.message).with_again(again)
    }
}

impl From<NotTaken> for ApiError {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::QueueFull => {
                let message = "too many messages wait for this session";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
                    .with_again(Again::After { seconds: RETRY_AFTER })
            }
            NotTaken::OtherWorkspace(lives_in) => {
                let message = format!(
                    "this session lives in {lives_in}: use it there, or start another session"
                );
                Self::new(StatusCode::BAD_REQUEST, "workspace_mismatch", message)
                    .with_param("x-openclaw-workspace")
            }
            NotTaken::OtherUser => {
                let message = "this session ran as another Unix user: forget it, or use another";
                Self::new(StatusCode::CONFLICT, "other_user", message).with_again(Again::Never)
            }
            NotTaken::Store => {
                let message = "the store of conversations cannot be read";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
            }
            NotTaken::StoreFull => {
                let message = "the server cannot store what would come of this: its disk is full";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", message)
            }
        }
    }
}
