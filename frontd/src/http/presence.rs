//! The client's side of a run: what becomes of the run when the client leaves before its end.

use std::sync::Arc;

use http::HeaderMap;

use super::error::ApiError;
use crate::app::App;
use crate::run::Run;
use crate::session::machine::Input;
use crate::session::message::Message;

/// The header by which a request says it for itself.
pub const HEADER: &str = "x-synthesis-on-disconnect";

/// What a closed connection means for its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The run goes on and stays readable.
    Continue,
    /// A message that still waits gives up its place; after that the run goes on. For requests
    /// that nobody could ask for again.
    LeaveQueue,
    /// The run is aborted.
    Cancel,
}

impl OnDisconnect {
    /// The header's word, else `default`.
    ///
    /// # Errors
    /// 400 for another word.
    pub fn of(headers: &HeaderMap, default: Self) -> Result<Self, ApiError> {
        let Some(value) = headers.get(HEADER) else { return Ok(default) };
        match value.as_bytes() {
            b"continue" => Ok(Self::Continue),
            b"cancel" => Ok(Self::Cancel),
            _ => {
                let message = format!("the header `{HEADER}` must be `continue` or `cancel`");
                Err(ApiError::bad_request("invalid_header", message).with_param(HEADER))
            }
        }
    }
}

/// Dropped with the response, or with the request before there is one.
pub struct Presence {
    app: Arc<App>,
    run: Arc<Run>,
    on_disconnect: OnDisconnect,
    /// The session has the message, or will have.
    submitted: bool,
}

impl Presence {
    pub fn new(app: &Arc<App>, run: &Arc<Run>, on_disconnect: OnDisconnect) -> Self {
        let (app, run) = (Arc::clone(app), Arc::clone(run));
        Self { app, run, on_disconnect, submitted: false }
    }

    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub fn submitted(&mut self) {
        self.submitted = true;
    }

    /// The run never begins; who attached to it by its key meanwhile must ask again.
    pub fn give_up(&self) {
        self.run.leave();
        self.app.runs.end(self.run.id());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.submitted {
            return self.give_up();
        }
        let input = match self.on_disconnect {
            OnDisconnect::Continue => return,
            OnDisconnect::LeaveQueue => Input::Leave(self.run.id()),
            OnDisconnect::Cancel => Input::Abort(self.run.id()),
        };
        // It was this server that hung up.
        if self.run.is_finished() || self.run.is_left() {
            return;
        }
        if let Some(inbox) = self.app.directory.session(self.run.key())
            && let Err(full) = inbox.try_send(Message::Input(input))
        {
            tokio::spawn(async move { inbox.send(full.into_inner()).await });
        }
    }
}
