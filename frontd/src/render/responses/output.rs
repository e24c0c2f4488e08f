//! What a response says so far, as the API's items: which event opens, goes on with or closes one.

use std::sync::Arc;

use proto::bridge::TokenUsage;

use crate::run::{Event, Outcome};

/// Stands between two replies: they are paragraphs, not one word.
const BETWEEN: &str = "\n\n";

/// The items of one response and how it ended. The texts are the log's own, not copies.
#[derive(Debug)]
pub(super) struct Output {
    /// What ids of items have in common with the response's.
    suffix: String,
    pub(super) items: Vec<Item>,
    replied: bool,
    between: Arc<str>,
    /// As far as it is known.
    pub(super) usage: Option<TokenUsage>,
    pub(super) outcome: Option<Outcome>,
}

/// Only the last item can be open.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) pieces: Vec<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Commentary of the claude message that is named.
    Reasoning(Arc<str>),
    Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Complete,
    /// Open when the run failed or was aborted.
    Cut,
}

/// What an event did, in this order. Numbers are indexes of items.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) closed: Option<usize>,
    pub(super) opened: Option<usize>,
    pub(super) added: Option<Added>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) item: usize,
    /// The first new piece.
    pub(super) from: usize,
}

impl Output {
    pub(super) fn new(response_id: &str) -> Self {
        let suffix = response_id.strip_prefix("resp_").unwrap_or(response_id).to_owned();
        let between = BETWEEN.into();
        Self { suffix, items: Vec::new(), replied: false, between, usage: None, outcome: None }
    }

    pub(super) fn accept(&mut self, event: &Event) -> Change {
        match event {
            Event::Started { .. }
            | Event::Status(_)
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. } => Change::default(),
            Event::CommentaryDelta { id, delta } => {
                self.add(Kind::Reasoning(Arc::clone(id)), [None, Some(delta)])
            }
            Event::TextDelta { delta } => {
                let between = self.replied.then(|| Arc::clone(&self.between));
                self.replied = true;
                self.add(Kind::Message, [between.as_ref(), Some(delta)])
            }
            Event::Usage { usage } => {
                self.usage = Some(*usage);
                Change::default()
            }
            Event::Finished(outcome) => {
                self.outcome = Some(outcome.clone());
                let state = match outcome {
                    Outcome::Completed => State::Complete,
                    Outcome::Aborted | Outcome::Failed { .. } => State::Cut,
                };
                Change { closed: self.close(state), ..Change::default() }
            }
        }
    }

    fn add(&mut self, kind: Kind, pieces: [Option<&Arc<str>>; 2]) -> Change {
        let mut change = Change::default();
        let goes_on = |item: &Item| item.state == State::Open && item.kind == kind;
        if !self.items.last().is_some_and(goes_on) {
            change.closed = self.close(State::Complete);
            change.opened = Some(self.items.len());
            let prefix = match kind {
                Kind::Reasoning(_) => "rs",
                Kind::Message => "msg",
            };
            let id = format!("{prefix}_{}_{}", self.suffix, self.items.len());
            self.items.push(Item { id, kind, state: State::Open, pieces: Vec::new() });
        }
        let index = self.items.len() - 1;
        if let Some(item) = self.items.last_mut() {
            change.added = Some(Added { item: index, from: item.pieces.len() });
            item.pieces.extend(pieces.into_iter().flatten().cloned());
        }
        change
    }

    fn close(&mut self, state: State) -> Option<usize> {
        let last = self.items.last_mut().filter(|item| item.state == State::Open)?;
        last.state = state;
        Some(self.items.len() - 1)
    }
}
