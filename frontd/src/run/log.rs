//! The log of one run and its readers. Writers append; every reader has its own place and sees
//! the same events; a slow reader holds nobody back.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use super::event::{Event, Outcome};
use super::failure::{Failure, FailureKind};

/// Bytes that one run's log holds: 31 replies of the greatest length.
const RUN_BYTES: usize = 16 * 1024 * 1024;
/// What an event costs beside its text.
const EVENT: usize = 64;

/// Names a run to its clients; 122 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(Uuid);

impl RunId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// As the store keeps it.
    pub(crate) fn bytes(&self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    pub(crate) fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Reads `run_…` and the `chatcmpl-…` that a chat completion shows for the same run.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("run_").or_else(|| text.strip_prefix("chatcmpl-"))?;
        if digits.len() != 32 {
            return None;
        }
        Uuid::try_parse(digits).ok().map(Self)
    }

    /// The id of a chat completion that shows this run.
    pub fn chat_completion(&self) -> String {
        format!("chatcmpl-{}", self.0.simple())
    }

    /// The id of the message that began this run, as claude sees it.
    pub fn message_id(&self) -> proto::ids::MessageId {
        proto::ids::MessageId::new(self.0.simple().to_string()).expect("32 hexadecimal digits")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run_{}", self.0.simple())
    }
}

/// One run: an append-only list of events, closed by [`Event::Finished`].
#[derive(Debug)]
pub struct Run {
    id: RunId,
    log: Mutex<Log>,
    appended: Notify,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    bytes: usize,
    finished: bool,
}

impl Run {
    pub fn new(id: RunId) -> Arc<Self> {
        Arc::new(Self { id, log: Mutex::default(), appended: Notify::new() })
    }

    pub fn id(&self) -> RunId {
        self.id
    }

    /// Appends unless the run is finished; a run that outgrows its bound fails with that.
    pub fn append(&self, event: Event) {
        {
            let mut log = self.lock();
            if log.finished {
                return;
            }
            log.bytes += EVENT;
            if let Event::TextDelta { delta: text } = &event {
                log.bytes += text.len();
            }
            let event = if log.bytes > RUN_BYTES {
                let message = "the answer is longer than a run may hold";
                Event::Finished(Outcome::Failed {
                    error: Failure::new(FailureKind::TooLong, message),
                })
            } else {
                event
            };
            log.finished = matches!(event, Event::Finished(_));
            log.events.push(event);
        }
        self.appended.notify_waiters();
    }

    pub fn finish(&self, outcome: Outcome) {
        self.append(Event::Finished(outcome));
    }

    pub fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// A reader from the first event on.
    pub fn read(self: &Arc<Self>) -> Reader {
        Reader { run: Arc::clone(self), next: 0 }
    }

    fn get(&self, index: usize) -> Option<Event> {
        self.lock().events.get(index).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic elsewhere cannot leave the log half written: each change is one push.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in a run.
#[derive(Debug)]
pub struct Reader {
    run: Arc<Run>,
    next: usize,
}

impl Reader {
    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.run.get(self.next)?;
        self.next += 1;
        Some(event)
    }

    /// The next event; waits for it. `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let run = Arc::clone(&self.run);
        loop {
            let appended = run.appended.notified();
            tokio::pin!(appended);
            // Registered before the look, so that an append between the two is not missed.
            appended.as_mut().enable();
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if run.is_finished() {
                return None;
            }
            appended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_both_forms_and_no_other() {
        let id = RunId::random();
        assert_eq!(RunId::parse(&id.to_string()), Some(id));
        assert_eq!(RunId::parse(&id.chat_completion()), Some(id));
        assert_eq!(RunId::parse("run_../../x"), None);
        assert_eq!(RunId::parse(""), None);
    }

    #[tokio::test]
    async fn late_and_live_readers_see_the_same_and_nothing_follows_the_end() {
        let run = Run::new(RunId::random());
        let mut live = run.read();
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(event) = live.next().await {
                seen.push(event);
            }
            seen
        });
        tokio::task::yield_now().await;
        run.append(Event::TextDelta { delta: "one".into() });
        run.finish(Outcome::Completed);
        run.append(Event::TextDelta { delta: "late".into() });
        let mut late = run.read();
        let mut seen = Vec::new();
        while let Some(event) = late.next().await {
            seen.push(event);
        }
        assert_eq!(
            seen,
            [Event::TextDelta { delta: "one".into() }, Event::Finished(Outcome::Completed)]
        );
        assert_eq!(reading.await.unwrap(), seen);
    }

    #[test]
    fn events_without_text_are_bounded_too() {
        let run = Run::new(RunId::random());
        for _ in 0..=RUN_BYTES / EVENT {
            run.append(Event::Usage { usage: proto::bridge::TokenUsage::default() });
        }
        assert!(run.is_finished());
    }

    #[test]
    fn a_run_over_its_bound_fails() {
        let run = Run::new(RunId::random());
        let text: Arc<str> = "x".repeat(proto::limits::MESSAGE_TEXT).into();
        for _ in 0..33 {
            run.append(Event::TextDelta { delta: Arc::clone(&text) });
        }
        assert!(run.is_finished());
    }
}
