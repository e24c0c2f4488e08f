//! One request on its way through the server: what it is called, where it goes and who sent it;
//! and what is counted and recorded of it when it is answered, or taken by a session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{Method, StatusCode};
use tracing::Instrument;

use super::Response;
use super::error::Code;
use super::request_id::{HEADER, RequestId};
use crate::app::App;
use crate::audit::{Cause, Entry, Kind, Peer};
use crate::identity::SessionKey;
use crate::run::RunId;

tokio::task_local! {
    /// Of the request that this task is answering.
    static VISIT: Arc<Visit>;
}

pub struct Visit {
    id: RequestId,
    peer: Peer,
    since: Instant,
    place: OnceLock<Place>,
    principal: OnceLock<Arc<str>>,
    /// It is on record as let in.
    admitted: AtomicBool,
}

/// Where a request goes.
struct Place {
    method: &'static str,
    /// As the table of routes has it.
    route: &'static str,
    /// Is it recorded who asks?
    recorded: bool,
    /// What the path names: a session or a run, or the client's own idea of one.
    target: String,
}

impl Visit {
    pub fn new(id: RequestId, peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            since: Instant::now(),
            place: OnceLock::new(),
            principal: OnceLock::new(),
            admitted: AtomicBool::new(false),
        })
    }

    /// The route is known.
    pub fn goes_to(
        &self,
        method: &'static Method,
        route: &'static str,
        recorded: bool,
        target: &str,
    ) {
        let (method, target) = (method.as_str(), target.to_owned());
        let _once = self.place.set(Place { method, route, recorded, target });
        let span = tracing::Span::current();
        span.record("method", method);
        span.record("route", route);
    }

    /// The client is known.
    pub fn is_of(&self, principal: &Arc<str>) {
        if !principal.is_empty() {
            let _once = self.principal.set(Arc::clone(principal));
            tracing::Span::current().record("principal", &**principal);
        }
    }

    /// Answers the request within its visit, and does the books.
    pub async fn answer(
        self: &Arc<Self>,
        app: &App,
        answer: impl Future<Output = Response>,
    ) -> Response {
        use tracing::field::Empty;
        let span = tracing::info_span!(
            target: crate::logging::SPANS,
            "request",
            id = self.id.as_str(),
            method = Empty,
            route = Empty,
            principal = Empty,
            status = Empty,
        );
        let mut response = VISIT.scope(Arc::clone(self), answer).instrument(span.clone()).await;
        span.record("status", response.status().as_u16());
        response.headers_mut().insert(HEADER, self.id.header());
        let code = response.extensions().get::<Code>().map_or("", |code| code.0);
        self.count(app, response.status(), code);
        self.record(app, &response, code);
        response
    }

    fn count(&self, app: &App, status: StatusCode, code: &str) {
        // Any path may be asked for: those without a route are one.
        let place = self.place.get();
        let (method, route) = place.map_or(("none", "none"), |place| (place.method, place.route));
        app.metrics.answered(method, route, status, code, self.since.elapsed());
    }

    fn record(&self, app: &App, response: &Response, code: &str) {
        let status = response.status();
        let place = self.place.get();
        if self.admitted.load(Ordering::Relaxed) {
            // How the turn ended is its own entry.
            return;
        }
        let is_stranger = status == StatusCode::UNAUTHORIZED || code == "not_your_server";
        let (kind, message) = match status.as_u16() {
            _ if is_stranger => (Kind::Authentication, "a client did not prove who it is"),
            400.. => (Kind::Refused, "a request was refused"),
            _ if place.is_some_and(|place| place.recorded) => {
                (Kind::Admitted, "a request was admitted")
            }
            _ => return,
        };
        let entry = || {
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let target =
                place.map(|place| place.target.as_str()).filter(|target| !target.is_empty());
            let run = target.and_then(RunId::parse).map(|run| run.to_string());
            let is_session = place.is_some_and(|place| place.route.starts_with("/v1/sessions/"));
            let entry = self
                .entry(kind, message)
                .with("SYNTHESIS_STATUS", status.as_u16())
                .with_some("SYNTHESIS_RUN", header("x-synthesis-run").or(run.as_deref()))
                .with_some(
                    "SYNTHESIS_KEY",
                    header("x-synthesis-session").or(target.filter(|_| is_session)),
                );
            if code.is_empty() { entry } else { entry.reason(code) }
        };
        let is_reading = place.is_some_and(|place| place.method == "GET");
        if kind == Kind::Admitted && !is_reading {
            app.audit.write(entry());
        } else {
            app.audit.caused(self.cause(), kind, entry);
        }
    }

    /// Who is to blame for a flood: the client, if it is known.
    fn cause(&self) -> Cause {
        let principal = self.principal.get().cloned();
        principal.map_or(Cause::Peer(self.peer), Cause::Principal)
    }

    fn entry(&self, kind: Kind, message: &str) -> Entry {
        let place = self.place.get();
        let route = place.map(|place| format!("{} {}", place.method, place.route));
        Entry::new(kind, message)
            .client(self.peer)
            .with("SYNTHESIS_REQUEST", &self.id)
            .with("SYNTHESIS_ROUTE", route.as_deref().unwrap_or("none"))
            .with_some("SYNTHESIS_PRINCIPAL", self.principal.get())
    }
}

/// By which request something was asked for.
pub struct Asked {
    pub id: Option<RequestId>,
    pub span: tracing::Span,
}

/// The request that this task is answering.
pub fn asked() -> Asked {
    let id = VISIT.try_with(|visit| visit.id.clone()).ok();
    Asked { id, span: tracing::Span::current() }
}

/// The request that this task is answering belongs to this run, which a session has taken.
pub fn admitted(app: &App, run: RunId, key: &SessionKey) {
    let Ok(visit) = VISIT.try_with(Arc::clone) else { return };
    visit.admitted.store(true, Ordering::Relaxed);
    let entry = visit.entry(Kind::Admitted, "a request was admitted");
    let entry = entry.with("SYNTHESIS_RUN", run);
    app.audit.write(entry.with("SYNTHESIS_KEY", key.as_str()));
}
