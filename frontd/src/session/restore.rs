//! What an earlier frontd left: its processes, which may be alive, and runs that are not over.
//! Their sessions are set up again before anybody is let in; spawnd then says which processes
//! live, and their channels come back by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::actor;
use super::turn;
use super::turn::{Attempt, Pending, Phase, Prompt, Turn};
use crate::app::App;
use crate::identity::SessionKey;
use crate::run::{Event, Reader, Run, Status};
use crate::spawner::chain;
use crate::store::{Conversation, ProcessRow, RunRow, StoreError};

/// One session of an earlier frontd.
pub struct Restored {
    pub conversation: Option<(Conversation, Vec<u64>)>,
    pub process: Option<ProcessRow>,
    /// In the order in which they began.
    pub open: Vec<OpenRun>,
    /// Runs that nobody can go on with.
    pub broken: Vec<Arc<Run>>,
}

/// A run that is not over.
pub struct OpenRun {
    pub run: Arc<Run>,
    pub prompt: Arc<Prompt>,
    pub pushed: bool,
    /// Replies so far.
    pub replies: u32,
    /// Something shows that claude has the message.
    pub received: bool,
    /// An abort was asked for.
    pub aborting: bool,
    /// The message is, or was, pushed for the second and last time.
    pub retried: bool,
    /// The answer so far.
    pub answer: String,
}

impl OpenRun {
    pub fn pending(&self) -> Pending {
        let attempt = if self.retried { Attempt::Second } else { Attempt::First };
        Pending { attempt, ..Pending::new(self.run.id(), Arc::clone(&self.prompt)) }
    }

    /// As the turn of a process that may still be at it.
    pub fn turn(&self) -> Turn {
        let phase = match (self.aborting, self.received) {
            (true, _) => Phase::Aborting { presses: 0 },
            (false, true) => Phase::Working,
            (false, false) => Phase::Pushed,
        };
        Turn { phase, replies: self.replies, ..Turn::new(self.pending()) }
    }
}

/// Sets every session up again.
///
/// # Errors
/// When the store cannot be read.
pub async fn all(app: &Arc<App>) -> Result<(), StoreError> {
    let mut sessions: BTreeMap<String, (SessionKey, Restored)> = BTreeMap::new();
    let entry = |key: &SessionKey| {
        let (open, broken) = (Vec::new(), Vec::new());
        let empty = Restored { conversation: None, process: None, open, broken };
        (key.clone(), empty)
    };
    for process in app.store.processes().await? {
        let (_, restored) =
            sessions.entry(process.key.to_string()).or_insert_with(|| entry(&process.key));
        restored.process = Some(process);
    }
    for row in app.store.unfinished().await? {
        let key = row.key.clone();
        let (_, restored) = sessions.entry(key.to_string()).or_insert_with(|| entry(&key));
        match open(app, row).await {
            Ok(open) => restored.open.push(open),
            Err(broken) => restored.broken.push(broken),
        }
    }
    for (key, mut restored) in sessions.into_values() {
        restored.conversation = app.store.conversation(key.clone()).await?;
        tracing::info!(
            session = %key,
            process = restored.process.as_ref().map(|process| process.id.to_string()),
            runs = restored.open.len(),
            "taking over"
        );
        actor::take_over(app, key, restored);
    }
    Ok(())
}

/// The run as it stands in its log; `Err` for one that cannot be gone on with.
async fn open(app: &Arc<App>, row: RunRow) -> Result<OpenRun, Arc<Run>> {
    let limit = app.config().store.run_bytes();
    let bytes = usize::try_from(row.bytes).unwrap_or(usize::MAX);
    let (id, key, model) = (row.id, row.key.clone(), row.model.as_str().into());
    let run = Run::again(id, key, model, row.created, limit, row.last_seq, bytes);
    app.runs.begin(&run, None);
    let prompt = row.prompt.as_deref().and_then(|prompt| serde_json::from_str(prompt).ok());
    let Some(prompt) = prompt else {
        tracing::error!(run = %row.id, "the stored prompt of a run is not one of ours");
        return Err(run);
    };
    let (mut replies, mut received, mut aborting, mut retried) = (0, false, false, false);
    let mut answer = String::new();
    let mut reader = Reader::stored(&row, app.store.clone(), 0);
    loop {
        let logged = match reader.next().await {
            Ok(Some(logged)) => logged,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(run = %row.id, error = %chain(&error), "a run's log cannot be read");
                return Err(run);
            }
        };
        match &logged.event {
            Event::TextDelta { delta } => {
                turn::add_paragraph(&mut answer, delta);
                replies += 1;
                received = true;
            }
            Event::Status(Status::Aborting) => aborting = true,
            Event::Status(Status::Compacting | Status::WaitingForPermission | Status::Working)
            | Event::CommentaryDelta { .. }
            | Event::Media { .. }
            | Event::ToolInput { .. }
            | Event::ToolOutput { .. }
            | Event::PermissionRequested { .. }
            | Event::PermissionResolved { .. }
            | Event::Usage { .. } => received = true,
            // Once more, to a fresh process.
            Event::Status(Status::Retrying) => (received, retried) = (false, true),
            Event::Started { .. }
            | Event::Status(
                Status::Queued { .. } | Status::Preparing | Status::Pushed | Status::NotStored,
            )
            | Event::Finished(_) => {}
        }
    }
    let pushed = row.pushed;
    Ok(OpenRun { run, prompt, pushed, replies, received, aborting, retried, answer })
}
