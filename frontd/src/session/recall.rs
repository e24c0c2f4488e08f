//! What a session knows of its own conversation, for a claude that has lost it.

use crate::ask::{Said, Speaker};
use crate::identity::SessionKey;
use crate::run::{Event, Reader, RunId};
use crate::store::{RunRow, StoreError, StoreHandle};

/// Runs that are looked back at.
const RUNS: usize = 64;
/// Bytes of what is told; [`context`](crate::ask::context) bounds what claude is given.
const BYTES: usize = 256 * 1024;

/// The latest of the session's runs as a conversation, without those that are `open`. Empty when
/// nothing is kept.
pub async fn of(store: &StoreHandle, key: &SessionKey, open: &[RunId]) -> Vec<Said> {
    let runs = store.runs_of(key.clone(), None, RUNS).await.unwrap_or_default();
    let mut told: Vec<Said> = Vec::new();
    let mut bytes = 0;
    for row in runs.iter().filter(|row| row.pushed && !open.contains(&row.id)) {
        let Exchange { person, assistant, .. } = exchange(store, row).await;
        bytes += person.len() + assistant.len();
        if bytes > BYTES {
            break;
        }
        // From the newest to the oldest, turned round below.
        told.push(Said { who: Speaker::Assistant, text: assistant });
        told.push(Said { who: Speaker::Person, text: person });
    }
    told.retain(|said| !said.text.is_empty());
    told.reverse();
    told
}

/// The conversation that led to this run, with it, as far as it is kept: from each run to the one
/// that it continued by name, else to the one before it in its session.
pub async fn up_to(store: &StoreHandle, run: RunRow) -> Result<Vec<Said>, StoreError> {
    let mut told: Vec<Said> = Vec::new();
    let (mut bytes, mut next) = (0, Some(run));
    for _ in 0..RUNS {
        let Some(row) = next.take() else { break };
        let Exchange { person, assistant, previous } = exchange(store, &row).await;
        bytes += person.len() + assistant.len();
        if bytes > BYTES {
            break;
        }
        if row.pushed {
            told.push(Said { who: Speaker::Assistant, text: assistant });
            told.push(Said { who: Speaker::Person, text: person });
        }
        next = match previous {
            Some(previous) => store.run(previous).await?,
            None => store.runs_of(row.key.clone(), Some(row.number), 1).await?.pop(),
        };
        // A run of somebody else is none of this conversation, whatever its name.
        next = next.filter(|next| next.key.principal() == row.key.principal());
    }
    told.retain(|said| !said.text.is_empty());
    told.reverse();
    Ok(told)
}

struct Exchange {
    person: String,
    assistant: String,
    /// What the run continues.
    previous: Option<RunId>,
}

/// What was said and what was answered.
async fn exchange(store: &StoreHandle, row: &RunRow) -> Exchange {
    let (mut person, mut assistant, mut previous) = (String::new(), String::new(), None);
    let mut reader = Reader::stored(row, store.clone(), 0);
    while let Ok(Some(logged)) = reader.next().await {
        if let Event::Started { message } = &logged.event {
            person.push_str(&message.text);
            previous = message.previous_response_id.as_deref().and_then(RunId::parse);
        } else if let Event::TextDelta { delta } = &logged.event {
            if !assistant.is_empty() {
                assistant.push_str("\n\n");
            }
            assistant.push_str(delta);
        }
        if person.len() + assistant.len() > BYTES {
            break;
        }
    }
    Exchange { person, assistant, previous }
}
