//! What is counted and recorded of a session and its runs. Nothing here decides anything.

use std::time::{Duration, Instant};

use proto::bridge::TokenUsage;
use proto::ids::SessionId;
use proto::spawn::ExitCause;

use super::Actor;
use super::submit::Active;
use crate::audit::{Entry, Kind, redact};
use crate::http::request_id::RequestId;
use crate::http::visit::Asked;
use crate::logging::SPANS;
use crate::metrics::{Metrics, Session, Waiting};
use crate::run::log::now;
use crate::run::{Event, FailureKind, Outcome, Run, RunId, Status};
use crate::session::turn::Prompt;

/// Bytes of a message or an answer that are on record, if any are.
const CONTENT: usize = 4096;

/// Of one run.
pub(super) struct OfRun {
    request: Option<RequestId>,
    /// While it waits.
    waiting: Option<Waiting>,
    /// The process that was given the message last.
    process: Option<SessionId>,
    usage: Option<TokenUsage>,
    span: tracing::Span,
}

impl OfRun {
    /// `asked`: by which request, unless an earlier frontd took it. `process`: that has it already.
    pub(super) fn new(
        metrics: &Metrics,
        run: &Run,
        prompt: &Prompt,
        asked: Option<Asked>,
        process: Option<SessionId>,
    ) -> Self {
        let span = tracing::info_span!(
            target: SPANS,
            parent: None,
            "run",
            id = %run.id(),
            principal = run.key().principal(),
            user = prompt.runner.user.as_str(),
            model = &**run.model(),
            outcome = tracing::field::Empty,
            error = tracing::field::Empty,
        );
        let request = asked.and_then(|asked| {
            // A run outlives its request: not its child.
            span.follows_from(&asked.span);
            asked.id
        });
        let waiting = process.is_none().then(|| metrics.wait());
        Self { request, waiting, process, usage: None, span }
    }
}

/// Of one session.
#[derive(Default)]
pub(super) struct OfSession {
    /// Once it is known whose it is.
    state: Option<Session>,
    /// spawnd was asked for the process that is on its way.
    asked: Option<Instant>,
    /// The process runs, and takes no messages yet.
    started: Option<Instant>,
}

impl Actor {
    /// A step is done.
    pub(super) fn note_state(&mut self) {
        let state = self.machine.state_name();
        match state {
            "ready" | "busy" => {
                if let Some(started) = self.books.started.take() {
                    self.app.metrics.ready(started.elapsed());
                }
            }
            "starting" => {}
            _ => self.books.started = None,
        }
        let user = self.conversation.as_ref().map(|conversation| &conversation.user);
        if self.books.state.is_none()
            && let Some(user) = user
        {
            self.books.state = Some(self.app.metrics.session(user.as_str()));
        }
        if let Some(known) = &mut self.books.state {
            known.is((state != "cold").then_some(state));
        }
    }

    pub(super) fn note_spawn(&mut self) {
        self.books.asked = Some(Instant::now());
    }

    pub(super) fn note_started(&mut self) {
        if let Some(asked) = self.books.asked.take() {
            self.app.metrics.spawned(asked.elapsed());
        }
        self.books.started = Some(Instant::now());
    }

    pub(super) fn note_adopted(&self, process: &SessionId) {
        self.app.metrics.adopted();
        let entry = Entry::new(Kind::Adopted, "a process of an earlier frontd was taken over");
        self.app.audit.write(self.with_session(entry, Some(process)));
    }

    pub(super) fn note_exit(&self, process: &SessionId, cause: ExitCause) {
        if self.process.as_ref().is_some_and(|own| own.id == *process) {
            self.app.metrics.exited(cause);
        }
    }

    /// Somebody wants the run's end.
    pub(super) fn note_abort(&self, id: RunId) {
        if let Some(active) = self.runs.get(&id) {
            self.app.audit.write(self.about(Kind::Abort, "a run is to end", active));
        }
    }

    /// The run's log has one more event. Before its end is noted.
    pub(super) fn note_event(&mut self, id: RunId, event: &Event) {
        let process = self.process.as_ref().map(|process| process.id.clone());
        let Some(active) = self.runs.get_mut(&id) else { return };
        let books = &mut active.books;
        match event {
            Event::Status(Status::Pushed) => {
                books.process = process;
                let waited = books.waiting.take().map(Waiting::served);
                self.note_turn_start(id, waited.unwrap_or_default());
            }
            Event::Status(Status::Retrying) => books.waiting = Some(self.app.metrics.wait()),
            Event::Usage { usage } => books.usage = Some(*usage),
            Event::ToolInput { name, input, .. } => self.note_tool(id, name, input.get()),
            Event::Started { .. }
            | Event::Status(
                Status::Queued { .. }
                | Status::Preparing
                | Status::Compacting
                | Status::Working
                | Status::WaitingForPermission
                | Status::Aborting
                | Status::NotStored,
            )
            | Event::CommentaryDelta { .. }
            | Event::TextDelta { .. }
            | Event::Media { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. }
            | Event::Finished(_) => {}
        }
    }

    /// The run is over.
    pub(super) fn note_end(&self, active: &Active, outcome: &Outcome) {
        self.app.metrics.finished(outcome);
        let (word, code) = match outcome {
            Outcome::Completed => ("completed", None),
            Outcome::Aborted => ("aborted", None),
            Outcome::Failed { error } => ("failed", Some(error.kind.code())),
        };
        active.books.span.record("outcome", word);
        if let Some(code) = code {
            active.books.span.record("error", code);
        }
        let mut entry = self
            .about(Kind::TurnEnd, "a turn ended", active)
            .with("SYNTHESIS_OUTCOME", word)
            .with("SYNTHESIS_DURATION_MS", now().saturating_sub(active.run.created()));
        if let Some(usage) = &active.books.usage {
            // The session's own word within an entry of frontd's.
            entry = tokens(entry, usage).with("SYNTHESIS_USAGE_WITNESS", "session");
        }
        let entry = self.with_content(entry, &active.answer);
        self.app.audit.write(match code {
            Some(code) => entry.reason(code),
            None => entry,
        });
    }

    /// A run of an earlier frontd that nobody can go on with.
    pub(super) fn note_broken(&self, run: &Run, end: &Event) {
        let Event::Finished(outcome) = end else { return };
        self.app.metrics.finished(outcome);
        let entry = Entry::new(Kind::TurnEnd, "a turn ended").with("SYNTHESIS_RUN", run.id());
        let entry = self.with_session(entry, None).with("SYNTHESIS_OUTCOME", "failed");
        let since = now().saturating_sub(run.created());
        let entry = entry.with("SYNTHESIS_DURATION_MS", since);
        self.app.audit.write(entry.reason(FailureKind::ProcessEnded.code()));
    }

    /// All tokens of a run that may be over.
    pub(super) fn note_usage(&self, run: RunId, usage: &TokenUsage) {
        let process = self.process.as_ref().map(|process| &process.id);
        let entry = Entry::new(Kind::Usage, "tokens of a turn").with("SYNTHESIS_RUN", run);
        self.app.audit.write(tokens(self.with_session(entry, process), usage));
    }

    fn note_turn_start(&self, id: RunId, waited: Duration) {
        let Some(active) = self.runs.get(&id) else { return };
        let entry = self
            .about(Kind::TurnStart, "claude was given a message", active)
            .with("SYNTHESIS_WORKSPACE", &active.prompt.workspace)
            .with("SYNTHESIS_WAITED_MS", waited.as_millis());
        self.app.audit.write(self.with_content(entry, &active.prompt.content));
    }

    fn note_tool(&self, id: RunId, name: &str, input: &str) {
        let config = self.app.config();
        let (true, Some(active)) = (config.audit.tools, self.runs.get(&id)) else { return };
        let entry = self.about(Kind::Tool, "claude called a tool", active);
        let entry = entry.with("SYNTHESIS_TOOL", name);
        let most = config.audit.tool_preview_bytes;
        let preview = (most > 0).then(|| redact::preview(input, most));
        self.app.audit.write(entry.with_some("SYNTHESIS_PREVIEW", preview));
    }

    fn about(&self, kind: Kind, message: &str, active: &Active) -> Entry {
        let OfRun { request, process, .. } = &active.books;
        let entry = Entry::new(kind, message)
            .with("SYNTHESIS_RUN", active.run.id())
            .with_some("SYNTHESIS_REQUEST", request.as_ref());
        self.with_session(entry, process.as_ref())
    }

    /// Whose it is, and which process.
    fn with_session(&self, entry: Entry, process: Option<&SessionId>) -> Entry {
        let conversation = self.conversation.as_ref();
        entry
            .with("SYNTHESIS_PRINCIPAL", self.key.principal())
            .with_some("SYNTHESIS_USER", conversation.map(|conversation| &conversation.user))
            .with("SYNTHESIS_KEY", self.key.as_str())
            .with_some("SYNTHESIS_SESSION", process)
            .with_some("SYNTHESIS_CONVERSATION", conversation.map(|conversation| conversation.id))
    }

    fn with_content(&self, entry: Entry, text: &str) -> Entry {
        if !self.app.config().audit.content {
            return entry;
        }
        let end = text.floor_char_boundary(CONTENT.min(text.len()));
        entry.with("SYNTHESIS_CONTENT", text.get(..end).unwrap_or_default())
    }
}

fn tokens(entry: Entry, usage: &TokenUsage) -> Entry {
    entry
        .with("SYNTHESIS_INPUT_TOKENS", usage.input_tokens)
        .with("SYNTHESIS_OUTPUT_TOKENS", usage.output_tokens)
        .with("SYNTHESIS_CACHE_READ_TOKENS", usage.cache_read_input_tokens)
        .with("SYNTHESIS_CACHE_CREATION_TOKENS", usage.cache_creation_input_tokens)
}
