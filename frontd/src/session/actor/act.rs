//! What the machine asks for, done.

use std::sync::Arc;

use proto::bridge::FromFrontd;
use proto::ids::{Secret, SessionId};
use proto::spawn::{RefusalCode, Spawn};
use tokio::sync::mpsc;

use super::Actor;
use super::effects::Appended;
use crate::run::{Event, Failure, FailureKind, Outcome, RunId, Status};
use crate::session::directory::Door;
use crate::session::machine::{Action, Input};
use crate::session::message::Message;
use crate::session::process::{Process, inbound};
use crate::session::turn::{self, Pending};
use crate::store::{Change, Conversation, SEEN};

impl Actor {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::AcquireSlot => {
                let (app, inbox) = (Arc::clone(&self.app), self.own.clone());
                let key = self.key.clone();
                tokio::spawn(async move {
                    let wait = app.config().limits.slot_wait();
                    let slot = app.pool.acquire(key.principal(), wait).await;
                    let _ = inbox.send(Message::Slot(slot)).await;
                });
            }
            Action::ReleaseSlot => self.slot = None,
            Action::Spawn(id) => {
                self.note_spawn();
                self.spawn(id);
            }
            Action::Signal(id, signal) => self.app.spawner.signal(id, signal),
            Action::Detach(_) => self.process = None,
            Action::Push(pending) => self.push(&pending),
            Action::Renew => self.renew(),
            Action::AwaitIdle => {
                if let Some(process) = &mut self.process {
                    process.send(FromFrontd::AwaitIdle {});
                }
            }
            Action::Ack { process, seq, refused } => {
                if let Some(door) = self.app.directory.door(&process) {
                    self.effects.ack(door, seq, refused);
                }
            }
            Action::PressEsc => {
                if let Some(Process { terminal: Some(terminal), .. }) = &self.process {
                    terminal.press_esc();
                }
            }
            Action::Run(id, event) => self.record(id, event),
            Action::Exact(run, usage) => {
                self.note_usage(run, &usage);
                self.effects.changes.push(Change::Usage { run, usage });
            }
            Action::Forget(id) => {
                self.app.directory.remove_door(&id);
                self.process.take_if(|process| process.id == id);
                self.effects.changes.push(Change::ProcessGone(id.clone()));
                self.app.spawner.forget(id);
            }
        }
    }

    pub(super) fn record(&mut self, id: RunId, event: Event) {
        self.note_event(id, &event);
        let Some(active) = self.runs.get_mut(&id) else { return };
        let retrying = event == Event::Status(Status::Retrying);
        if retrying || event == Event::Status(Status::Pushed) {
            // A run that is tried again waits, and if this server ends now, for the next one.
            let pushed = !retrying;
            active.pushed = pushed;
            active.run.set_pushed(pushed);
            self.unused &= !pushed;
            self.effects.changes.push(Change::Progress { run: id, pushed, prompt: None });
        }
        if let Event::TextDelta { delta } = &event {
            turn::add_paragraph(&mut active.answer, delta);
        }
        let end = if let Event::Finished(outcome) = &event { Some(outcome) } else { None };
        let saw_it = active.pushed && end.is_none_or(claude_saw_it);
        let is_end = end.is_some();
        let outcome = match self.effects.append(&active.run, event) {
            Some(Appended::Open) => return,
            Some(Appended::Over(outcome)) => Some(outcome),
            None => None,
        };
        if outcome.is_some() && !is_end {
            // The run outgrew its bound: claude need not go on with it.
            self.later(Input::Abort(id));
        }
        let Some(active) = self.runs.remove(&id) else { return };
        if let Some(outcome) = &outcome {
            self.note_end(&active, outcome);
        }
        if saw_it {
            self.recall.clear();
            let hashes = active.seen();
            self.seen.extend_from_slice(&hashes);
            // As the store: the latest count.
            self.seen.drain(..self.seen.len().saturating_sub(SEEN));
            self.effects.changes.push(Change::Seen { key: self.key.clone(), hashes });
        }
    }

    /// Tells the machine something once this step is done.
    fn later(&self, input: Input) {
        let inbox = self.own.clone();
        tokio::spawn(async move { inbox.send(Message::Input(input)).await });
    }

    /// Its beginning could not be stored: nobody could find it again, so it is not run.
    pub(super) fn unstored(&mut self, id: RunId) {
        let message = "the server cannot store what would come of this: its disk is full";
        let error = Failure::new(FailureKind::StoreFull, message);
        self.record(id, Event::Finished(Outcome::Failed { error }));
        self.step(Input::Abort(id));
    }

    pub(super) fn push(&mut self, pending: &Pending) {
        let Some(process) = &mut self.process else { return };
        let frame = inbound(pending, &self.recall);
        let keyed = self.runs.get(&pending.run).is_some_and(|active| active.keyed);
        // channel asks for files at once, and they must be there.
        let waits = keyed || !pending.prompt.files.is_empty();
        match process.frames() {
            Some(frames) if waits => self.effects.send(frames.clone(), frame),
            Some(_) | None => process.send(frame),
        }
    }

    /// The conversation begins anew, where it lived.
    fn renew(&mut self) {
        if let Some(old) = self.conversation.take() {
            self.conversation = Some(Conversation::new(old.key, old.user, old.workspace));
            self.seen.clear();
            self.recall.clear();
            self.unused = true;
        }
    }

    fn spawn(&mut self, id: SessionId) {
        let (Some(conversation), Some(runner)) = (&self.conversation, &self.runner) else {
            // submit() has both before the machine hears of the message.
            unreachable_conversation(&self.own, id);
            return;
        };
        let (site, config, secret) = (&self.app.site, self.app.config(), Secret::random());
        let inbox = self.own.clone();
        let (key, conversation_id) = (self.key.clone(), conversation.id);
        let door = Door::new(id.clone(), key, conversation_id, runner.uid, &secret, inbox.clone());
        self.effects.changes.push(Change::ProcessUp(door.row()));
        self.app.directory.add_door(Arc::new(door));
        self.process = Some(Process::new(id.clone()));
        let spawn = Spawn {
            session: id.clone(),
            conversation: conversation.id,
            user: runner.user.clone(),
            proof: runner.proof.clone(),
            workspace: conversation.workspace.clone(),
            permission_mode: config.session.permission_mode,
            model: self.model.clone(),
            instructions: self.instructions.clone(),
            terminal: site.terminal,
            // What the machine expects of it.
            hooks: self.machine.has_hooks(),
            secret,
        };
        let spawner = self.app.spawner.clone();
        let patience = config.limits.start_timeout();
        let asking = async move {
            let result = match tokio::time::timeout(patience, spawner.spawn(spawn)).await {
                Ok(result) => result,
                Err(_) => Err((RefusalCode::StartFailed, String::from("spawnd does not answer"))),
            };
            let _ = inbox.send(Message::Spawned { process: id, result }).await;
        };
        // A process that the next server did not know would be in the conversation's way.
        let runtime = tokio::runtime::Handle::current();
        self.effects.then(move || drop(runtime.spawn(asking)));
    }
}

/// A run that ended like this left its message in claude's memory.
fn claude_saw_it(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Completed | Outcome::Aborted => true,
        Outcome::Failed { error } => error.kind != FailureKind::NotReceived,
    }
}

/// A machine that spawns without a conversation would be a fault of ours: refuse, do not panic.
fn unreachable_conversation(inbox: &mpsc::Sender<Message>, process: SessionId) {
    let result = Err((RefusalCode::StartFailed, String::from("no conversation")));
    let _ = inbox.try_send(Message::Spawned { process, result });
}
