//! What one step of a session leaves to do outside of it: changes for the store and, once they
//! are committed, events for readers, acknowledgements for channel, a message for claude.

use std::sync::Arc;

use proto::bridge::{FromFrontd, ReplyRefusal};
use proto::ids::Seq;
use tokio::sync::{Semaphore, mpsc};

use crate::app::App;
use crate::run::{Event, Outcome, Run, RunId};
use crate::session::directory::Door;
use crate::session::message::Message;
use crate::store::{Batch, Change, NewRun};

#[derive(Default)]
pub(super) struct Effects {
    pub changes: Vec<Change>,
    /// What readers see once it is committed: from the first to the last new event of each run.
    fresh: Vec<(Arc<Run>, u64, u64)>,
    over: Vec<RunId>,
    acks: Vec<Ack>,
    frames: Vec<(mpsc::Sender<FromFrontd>, FromFrontd)>,
    then: Vec<Box<dyn FnOnce() + Send>>,
    /// Runs that begin, and who is told of those whose beginning is not stored.
    begun: Vec<(RunId, mpsc::Sender<Message>)>,
}

struct Ack {
    door: Arc<Door>,
    seq: Seq,
    refused: Option<ReplyRefusal>,
}

impl Effects {
    /// Appends the event to its run. `None` when the run is over already.
    pub(super) fn append(&mut self, run: &Arc<Run>, event: Event) -> Option<Appended> {
        let logged = run.append(event)?;
        let (seq, at) = (logged.seq, logged.at);
        let end =
            if let Event::Finished(outcome) = &logged.event { Some(outcome.clone()) } else { None };
        match self.fresh.iter_mut().find(|(known, ..)| known.id() == run.id()) {
            Some((_, _, last)) => *last = seq,
            None => self.fresh.push((Arc::clone(run), seq, seq)),
        }
        self.changes.push(Change::Append { run: run.id(), logged });
        let Some(outcome) = end else { return Some(Appended::Open) };
        self.changes.push(Change::End { run: run.id(), outcome: outcome.clone(), at });
        self.over.push(run.id());
        Some(Appended::Over(outcome))
    }

    pub(super) fn begin(&mut self, run: NewRun, inbox: mpsc::Sender<Message>) {
        self.begun.push((run.id, inbox));
        self.changes.push(Change::Begin(Box::new(run)));
    }

    /// Tells channel that the event is held, once it is.
    pub(super) fn ack(&mut self, door: Arc<Door>, seq: Seq, refused: Option<ReplyRefusal>) {
        self.acks.push(Ack { door, seq, refused });
    }

    /// Sends the frame once what it is about is committed.
    pub(super) fn send(&mut self, to: mpsc::Sender<FromFrontd>, frame: FromFrontd) {
        self.frames.push((to, frame));
    }

    /// Does this once everything is committed; it must not block.
    pub(super) fn then(&mut self, then: impl FnOnce() + Send + 'static) {
        self.then.push(Box::new(then));
    }

    /// Hands everything over. `room` bounds what one session has outstanding: whoever asks for
    /// more waits for it.
    pub(super) fn flush(&mut self, app: &Arc<App>, room: &Arc<Semaphore>) {
        let mut effects = std::mem::take(self);
        // The last change of each process's place: the ones before it are history.
        if let Some(ack) = effects.acks.last()
            && !effects.changes.is_empty()
        {
            let (process, seq) = (ack.door.process.clone(), ack.seq);
            effects.changes.push(Change::ProcessSeq { process, seq });
        }
        if effects.changes.is_empty() && effects.acks.is_empty() && effects.frames.is_empty() {
            return;
        }
        // Whatever is outstanding holds the room: in its turn, or at once.
        if effects.changes.is_empty() && Arc::strong_count(room) == 1 {
            effects.done(app, true);
            return;
        }
        let held = (Arc::clone(room), Arc::clone(room).try_acquire_owned().ok());
        let changes = std::mem::take(&mut effects.changes);
        let app_of_done = Arc::clone(app);
        let done = move |result: Result<(), _>| {
            let app = Arc::clone(&app_of_done);
            app_of_done.landing.land(move || {
                effects.done(&app, result.is_ok());
                drop(held);
            });
        };
        app.store.write(Batch { changes, done: Some(Box::new(done)) });
    }

    fn done(self, app: &App, stored: bool) {
        for (run, from, to) in &self.fresh {
            if stored { run.publish(*to) } else { run.not_stored(*from) }
        }
        for run in self.over {
            app.runs.end(run);
        }
        for Ack { door, seq, refused } in self.acks {
            door.acknowledge(seq, refused);
        }
        let frames = if stored || self.begun.is_empty() { self.frames } else { Vec::new() };
        for (run, inbox) in self.begun {
            // A full inbox: the run goes on in memory, as those that were begun before.
            let _told = !stored && inbox.try_send(Message::Unstored(run)).is_ok();
        }
        for (to, frame) in frames {
            // A connection that takes nothing more is being replaced, and its successor asks.
            let _ = to.try_send(frame);
        }
        for then in self.then {
            then();
        }
    }
}

/// What an event made of its run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    Open,
    /// And how it ended.
    Over(Outcome),
}
