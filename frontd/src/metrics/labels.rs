//! What may stand in a label: words of ours, and the names of a bounded number of users. Never a
//! session, a run, a path, or anything else that a client chose.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use proto::spawn::ExitCause;

use crate::run::Outcome as RunOutcome;

/// Users that are told apart; each has a line for every state of a session.
const USERS: usize = 100;
/// The rest of them; a user who is called so counts among them.
const OTHER: &str = "other";

/// A word out of a closed set.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                self.word().encode(encoder)
            }
        }
    };
}

words! {
    /// The first digit of a status.
    Class {
        Informational => "1xx",
        Success => "2xx",
        Redirection => "3xx",
        Client => "4xx",
        Server => "5xx",
    }
}

words! {
    Outcome { Completed => "completed", Aborted => "aborted", Failed => "failed" }
}

words! {
    /// How a process ended.
    Cause { Exit => "exit", Failure => "failure", Signal => "signal", Oom => "oom", Unknown => "unknown" }
}

words! {
    /// Why a request was not served.
    Rejected {
        Auth => "auth",
        Rate => "rate",
        Limits => "limits",
        Host => "host",
        QueueFull => "queue_full",
        Slot => "slot",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    /// As the router's table has it.
    pub method: &'static str,
    pub route: &'static str,
    pub status: Class,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    pub method: &'static str,
    pub route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfOutcome {
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCause {
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfReason {
    pub reason: Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Session {
    pub state: &'static str,
    pub user: Arc<str>,
}

impl Class {
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::Client,
            500.. => Self::Server,
        }
    }
}

impl Outcome {
    pub fn of(outcome: &RunOutcome) -> Self {
        match outcome {
            RunOutcome::Completed => Self::Completed,
            RunOutcome::Aborted => Self::Aborted,
            RunOutcome::Failed { .. } => Self::Failed,
        }
    }
}

impl Cause {
    pub fn of(cause: ExitCause) -> Self {
        match cause {
            ExitCause::Code { code: 0 } => Self::Exit,
            ExitCause::Code { .. } => Self::Failure,
            ExitCause::Signal { .. } => Self::Signal,
            ExitCause::Oom {} => Self::Oom,
            ExitCause::Unknown {} => Self::Unknown,
        }
    }
}

impl Rejected {
    /// Why a response is a rejection, if it is one: its status and the code of its error. A run
    /// that found no slot is counted where it ends, for its reader may be in a stream by then.
    pub fn of(status: StatusCode, code: &str) -> Option<Self> {
        match (status, code) {
            (StatusCode::UNAUTHORIZED, _) | (_, "not_your_server" | "scope") => Some(Self::Auth),
            (_, "foreign_host" | "foreign_origin") => Some(Self::Host),
            (_, "queue_full") => Some(Self::QueueFull),
            (_, "rate_limit_exceeded") => Some(Self::Rate),
            (
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                | StatusCode::INSUFFICIENT_STORAGE,
                _,
            ) => Some(Self::Limits),
            _ => None,
        }
    }
}

/// The users that have a label of their own: the first that come.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashSet<Arc<str>>>);

impl Users {
    pub(super) fn label(&self, user: &str) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(user) {
            return Arc::clone(known);
        }
        if known.len() >= USERS {
            return OTHER.into();
        }
        let user: Arc<str> = user.into();
        known.insert(Arc::clone(&user));
        user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_users_have_a_label_of_their_own() {
        let users = Users::default();
        let labels: HashSet<_> = (0..10_000).map(|n| users.label(&format!("user{n}"))).collect();
        assert_eq!(labels.len(), USERS + 1);
        assert_eq!(&*users.label("user7"), "user7");
        assert_eq!(&*users.label("user9999"), OTHER);
    }

    #[test]
    fn a_rejection_has_one_of_few_reasons() {
        for (status, code, reason) in [
            (401, "invalid_api_key", Some(Rejected::Auth)),
            (403, "not_your_server", Some(Rejected::Auth)),
            (403, "foreign_origin", Some(Rejected::Host)),
            (429, "queue_full", Some(Rejected::QueueFull)),
            (429, "rate_limit_exceeded", Some(Rejected::Rate)),
            (429, "too_many_runs", Some(Rejected::Limits)),
            (403, "scope", Some(Rejected::Auth)),
            (429, "too_many_readers", Some(Rejected::Limits)),
            (413, "body_too_large", Some(Rejected::Limits)),
            (507, "store_full", Some(Rejected::Limits)),
            (404, "unknown_run", None),
            (400, "anything", None),
            (503, "no_slot", None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Rejected::of(status, code), reason, "{status} {code}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in
            [(100, "1xx"), (204, "2xx"), (304, "3xx"), (429, "4xx"), (599, "5xx")]
        {
            assert_eq!(Class::of(StatusCode::from_u16(status).unwrap()).word(), class);
        }
    }
}
