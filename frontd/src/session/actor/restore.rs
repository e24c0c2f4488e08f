//! The actor of a session that an earlier frontd had.

use std::sync::Arc;
use std::time::Instant;

use proto::ids::ConversationId;

use super::books::OfRun;
use super::submit::Active;
use super::{Actor, new};
use crate::app::App;
use crate::identity::{self, SessionKey};
use crate::run::{Event, Failure, FailureKind, Outcome};
use crate::session::directory::Door;
use crate::session::machine::{Input, Left, Machine};
use crate::session::process::Process;
use crate::session::restore::{OpenRun, Restored};
use crate::session::turn::Prompt;
use crate::store::{Change, Conversation};

/// Starts the actor of a session that an earlier frontd had.
pub fn take_over(app: &Arc<App>, key: SessionKey, restored: Restored) {
    let (actor, inbox) = new(Arc::clone(app), key.clone());
    let own = actor.own.clone();
    app.directory.with_session(&key, || own, |_| ());
    // Before anybody is let in: the door is there when its channel comes back.
    let actor = actor.restored(restored);
    tokio::spawn(actor.live(inbox));
}

impl Actor {
    fn restored(mut self, restored: Restored) -> Self {
        let Restored { conversation, process, open, broken } = restored;
        if identity::is_one_off(&self.key) {
            self.discard.get_or_insert_default();
        }
        if let Some((conversation, seen)) = conversation {
            (self.conversation, self.seen) = (Some(conversation), seen);
        }
        for run in broken {
            let end = lost("the server cannot go on with this run");
            self.note_broken(&run, &end);
            self.effects.append(&run, end);
        }
        for OpenRun { run, prompt, pushed, answer, .. } in &open {
            let (run, prompt) = (Arc::clone(run), Arc::clone(prompt));
            run.set_pushed(*pushed);
            let on = process.as_ref().filter(|_| *pushed).map(|process| process.id.clone());
            let books = OfRun::new(&self.app.metrics, &run, &prompt, None, on);
            let active = Active::new(run, true, *pushed, prompt, books);
            let active = Active { answer: answer.clone(), ..active };
            self.runs.insert(active.run.id(), active);
        }
        let mut queue = Vec::new();
        let mut turn = None;
        for open in open {
            if !open.pushed {
                queue.push(open.pending());
            } else if process.is_some() && turn.is_none() {
                turn = Some(open.turn());
            } else {
                // claude may have acted on it: nobody but the person may send it again.
                self.record(open.run.id(), lost("the server ended during the turn"));
            }
        }
        if let Some(first) = queue.first() {
            (self.model, self.instructions) =
                (first.prompt.model.clone(), first.prompt.instructions.clone());
            self.runner = Some(Arc::clone(&first.prompt.runner));
        }
        match process {
            Some(row) => {
                let renewed = queue.first().and_then(|first| {
                    self.follow(row.conversation, &first.prompt).then_some(first.run)
                });
                let door = Door::again(&row, self.own.clone());
                self.app.directory.add_door(Arc::new(door));
                self.process = Some(Process::new(row.id.clone()));
                self.slot = Some(self.app.pool.adopt(self.key.principal()));
                // Whether this is its first turn is not known: in doubt it is not.
                let left = Left { process: row.id, turn, queue, turns: 2, renewed };
                let limits = self.machine.limits().clone();
                self.machine = Machine::adopt(limits, left, Instant::now());
            }
            None => {
                for pending in queue {
                    let Prompt { runner, workspace, .. } = &*pending.prompt;
                    self.ensure_conversation(runner, workspace);
                    self.step(Input::Submit(pending));
                }
            }
        }
        self.effects.flush(&self.app, &self.room);
        self.note_state();
        self
    }

    /// The process was started for a conversation that was not stored yet: the first of its key,
    /// or a fresh one. Tells whether that is so.
    fn follow(&mut self, id: ConversationId, prompt: &Prompt) -> bool {
        if self.conversation.as_ref().is_some_and(|known| known.id == id) {
            return false;
        }
        let (key, user) = (self.key.clone(), prompt.runner.user.clone());
        let fresh = || Conversation::new(key, user, prompt.workspace.clone());
        let conversation = Conversation { id, ..self.conversation.take().unwrap_or_else(fresh) };
        self.seen.clear();
        self.effects.changes.push(Change::Conversation(conversation.clone()));
        self.conversation = Some(conversation);
        true
    }
}

fn lost(message: &str) -> Event {
    let error = Failure::new(FailureKind::ProcessEnded, message);
    Event::Finished(Outcome::Failed { error })
}
