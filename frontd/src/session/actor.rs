//! The task that owns one session: it feeds the machine, does what the machine says, and holds
//! the session's process. Nothing else touches them.

mod act;
mod books;
mod effects;
mod restore;
mod submit;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use proto::ids::{Instructions, ModelName, SessionId};
use proto::spawn::{ExitCause, RefusalCode, Signal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::machine::{Action, FromProcess, Input, Limits, Machine};
use super::message::Message;
use super::pool::Slot;
use super::process::{Link, Process};
use super::recall;
use crate::alarm::Alarm;
use crate::app::App;
use crate::ask::Said;
use crate::client::Runner;
use crate::identity::SessionKey;
use crate::run::{Event, Failure, FailureKind, Outcome, RunId};
use crate::spawner::Started;
use crate::store::{Change, Conversation};
use crate::terminal::drain::Terminal;
use effects::Effects;
pub use restore::take_over;
use submit::Active;

/// Messages that may wait for one actor; senders on the bridge wait, which slows their channel.
const INBOX: usize = 256;
/// Steps whose changes are not committed yet; the session waits for the store before the next.
const OUTSTANDING: usize = 64;

/// Starts the actor of `key` and returns its inbox.
pub fn start(app: Arc<App>, key: SessionKey) -> mpsc::Sender<Message> {
    let (actor, inbox) = new(app, key);
    let sender = actor.own.clone();
    tokio::spawn(actor.live(inbox));
    sender
}

fn new(app: Arc<App>, key: SessionKey) -> (Actor, mpsc::Receiver<Message>) {
    let (sender, inbox) = mpsc::channel(INBOX);
    let config = app.config();
    let limits = Limits {
        queue: config.limits.queue_per_session,
        start: config.limits.start_timeout(),
        idle: config.limits.idle(),
        hooks: config.session.hooks,
    };
    let actor = Actor {
        app,
        key,
        own: sender,
        machine: Machine::new(limits),
        conversation: None,
        seen: Vec::new(),
        recall: Vec::new(),
        unused: false,
        model: None,
        instructions: None,
        runner: None,
        process: None,
        slot: None,
        runs: HashMap::new(),
        actions: Vec::new(),
        effects: Effects::default(),
        room: Arc::new(Semaphore::new(OUTSTANDING)),
        discard: None,
        halt: false,
        idle: false,
        early_exit: None,
        alarm: Alarm::default(),
        books: books::OfSession::default(),
    };
    (actor, inbox)
}

struct Actor {
    app: Arc<App>,
    key: SessionKey,
    own: mpsc::Sender<Message>,
    machine: Machine,
    /// Loaded from the store, or new and not yet stored.
    conversation: Option<Conversation>,
    /// What its claude has seen of the person: hashes of messages, in order.
    seen: Vec<u64>,
    /// The conversation so far, for a claude that has lost it: given with the next message.
    recall: Vec<Said>,
    /// The conversation was begun anew for a message that claude has not been given yet.
    unused: bool,
    /// As the latest message asked.
    model: Option<ModelName>,
    instructions: Option<Instructions>,
    runner: Option<Arc<Runner>>,
    process: Option<Process>,
    slot: Option<Slot>,
    runs: HashMap<RunId, Active>,
    /// The machine's buffer, kept for its capacity.
    actions: Vec<Action>,
    effects: Effects,
    room: Arc<Semaphore>,
    /// The session is to be forgotten once its process is gone, and who waits for that.
    discard: Option<Vec<oneshot::Sender<()>>>,
    /// A process that is being started is not wanted any more.
    halt: bool,
    /// What the pool was told.
    idle: bool,
    /// Of a process whose start is not known yet.
    early_exit: Option<(SessionId, ExitCause)>,
    alarm: Alarm,
    books: books::OfSession,
}

impl Actor {
    async fn live(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            if self.machine.is_over() && self.app.directory.retire(&self.key, &inbox) {
                return;
            }
            // The store is behind: what happens next waits, and with it whoever tells of it.
            drop(self.room.acquire().await);
            self.alarm.set(self.machine.deadline());
            // Cancel-safe: a queue and a timer.
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = self.alarm.rings() => self.step(Input::Tick),
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Submit(submission) => self.submit(*submission).await,
            Message::Input(input) => {
                if let Input::Of(id, FromProcess::Registered { .. }) = &input
                    && let Some(process) = self.process.as_ref().filter(|process| process.id == *id)
                    && let Some(terminal) = &process.terminal
                {
                    terminal.stop_answering();
                }
                if let Input::Abort(run) = &input {
                    self.note_abort(*run);
                }
                self.step(input);
            }
            Message::Slot(Ok(slot)) => {
                self.slot = Some(slot);
                self.step(Input::SlotGranted);
            }
            Message::Slot(Err(why)) => self.step(Input::SlotDenied(why)),
            Message::Spawned { process, result } => self.spawned(process, result).await,
            Message::Adopted { process, leader } => self.adopted(process, leader),
            Message::Exited { process, cause } => self.exited(process, cause).await,
            Message::Connected { process, link } => self.connected(&process, link),
            Message::Disconnected { process, number } => self.disconnected(process, number),
            Message::Attach { process, link, taken } => self.attach(process, link, taken).await,
            Message::Unstored(run) => self.unstored(run),
            Message::Stop => {
                self.halt = true;
                for run in self.runs.keys() {
                    self.note_abort(*run);
                }
                self.step(Input::Discard);
            }
            Message::Discard(done) => {
                self.discard.get_or_insert_default().push(done);
                self.step(Input::Discard);
            }
            Message::Shutdown => self.shut_down(),
            Message::Leave => self.leave(),
        }
    }

    fn step(&mut self, input: Input) {
        let now = Instant::now();
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.handle(input, now, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
        if self.discard.is_some() && self.machine.is_over() {
            self.forget();
        }
        self.effects.flush(&self.app, &self.room);
        if (self.discard.is_some() || self.halt) && self.machine.is_idle() {
            self.halt = false;
            return self.step(Input::Evict);
        }
        self.tell_pool(now);
        self.note_state();
    }

    /// Nothing of the session is kept.
    fn forget(&mut self) {
        self.conversation = None;
        self.seen.clear();
        self.recall.clear();
        self.effects.changes.push(Change::ForgetSession(self.key.clone()));
        let told = self.discard.take().unwrap_or_default();
        self.effects.then(move || {
            for done in told {
                // Whoever asked may have gone meanwhile.
                let _ = done.send(());
            }
        });
    }

    fn tell_pool(&mut self, now: Instant) {
        let idle = self.machine.is_idle();
        if idle != self.idle {
            self.idle = idle;
            if idle {
                self.app.pool.now_idle(&self.key, &self.own, now);
            } else {
                self.app.pool.now_busy(&self.key);
            }
        }
    }

    // ---- messages -------------------------------------------------------------------------

    async fn spawned(&mut self, id: SessionId, result: Result<Started, (RefusalCode, String)>) {
        let said = match result {
            Ok(started) => {
                self.note_started();
                let resumed = started.resumed;
                tracing::info!(session = %id, pid = started.pid, resumed, "started");
                match self.open_terminal(&id, started.leader) {
                    Ok(()) => {
                        self.remember(resumed).await;
                        FromProcess::Started
                    }
                    Err(error) => {
                        // Unseen it must not live; its exit fails the start.
                        self.app.spawner.signal(id.clone(), Signal::Kill);
                        tracing::error!(%error, session = %id, "terminal");
                        FromProcess::Started
                    }
                }
            }
            Err((code, message)) => {
                self.app.directory.remove_door(&id);
                self.effects.changes.push(Change::ProcessGone(id.clone()));
                self.process = None;
                FromProcess::Refused { code, message }
            }
        };
        self.step(Input::Of(id.clone(), said));
        if self.machine.is_over() {
            // A conversation that never started is not bound to its workspace; a stored one is
            // found again.
            self.conversation = None;
        }
        if let Some((process, cause)) = self.early_exit.take_if(|(process, _)| *process == id) {
            self.exited(process, cause).await;
        }
    }

    /// A process that an earlier frontd started.
    fn adopted(&mut self, id: SessionId, leader: OwnedFd) {
        if let Err(error) = self.open_terminal(&id, leader) {
            // Undrained it would stop for good once its terminal is full.
            self.app.spawner.signal(id.clone(), Signal::Kill);
            tracing::error!(%error, session = %id, "terminal");
        }
        self.note_adopted(&id);
        self.step(Input::Of(id, FromProcess::Adopted));
        if let Some(terminal) = self.process.as_mut().and_then(|process| process.terminal.as_mut())
        {
            if !self.machine.may_ask() {
                terminal.stop_answering();
            }
            terminal.redraw();
        }
    }

    fn open_terminal(&mut self, id: &SessionId, leader: OwnedFd) -> std::io::Result<()> {
        let Some(process) = self.process.as_mut().filter(|process| process.id == *id) else {
            return Ok(());
        };
        let (inbox, session) = (self.own.clone(), id.clone());
        let report = move |screen| {
            let said = FromProcess::UnknownDialog { screen };
            // A full inbox belongs to a session with other troubles; its start deadline remains.
            let _ = inbox.try_send(Message::Input(Input::Of(session, said)));
        };
        let site = &self.app.site;
        let terminal = Terminal::open(leader, site.terminal, site.policy_set_key, report)?;
        process.terminal = Some(terminal);
        Ok(())
    }

    /// Makes the conversation durable once it has a process, and finds what that has forgotten.
    async fn remember(&mut self, resumed: bool) {
        let Some(conversation) = self.conversation.clone() else { return };
        self.effects.changes.push(Change::Conversation(conversation));
        if !resumed && !self.seen.is_empty() {
            tracing::warn!(session = %self.key, "the CLI has lost the conversation: it is told what we know of it");
            let open: Vec<RunId> = self.runs.keys().copied().collect();
            self.recall = recall::of(&self.app.store, &self.key, &open).await;
        }
    }

    async fn exited(&mut self, id: SessionId, cause: ExitCause) {
        if self.machine.is_spawning(&id) {
            // It overtook the answer to the spawn, which brings the terminal and its last words.
            self.early_exit = Some((id, cause));
            return;
        }
        self.note_exit(&id, cause);
        let screen = match &mut self.process {
            Some(Process { id: own, terminal: Some(terminal), .. }) if *own == id => {
                terminal.last_words().await
            }
            Some(_) | None => String::new(),
        };
        self.step(Input::Of(id, FromProcess::Exited { cause, screen }));
    }

    fn connected(&mut self, id: &SessionId, link: Link) {
        let Some(process) = self.process.as_mut().filter(|process| process.id == *id) else {
            return;
        };
        process.link = Some(link);
        if let Some(pending) = self.machine.unreceived().cloned() {
            self.push(&pending);
            self.effects.flush(&self.app, &self.room);
        }
    }

    /// The channel may come back, as long as its process lives.
    fn disconnected(&mut self, id: SessionId, number: u64) {
        let Some(process) = self.process.as_mut().filter(|process| process.id == id) else {
            return;
        };
        let Some(link) = process.link.take_if(|link| link.number == number) else { return };
        let inbox = self.own.clone();
        if self.machine.is_attached() {
            self.step(Input::Of(id, FromProcess::ChannelGone));
            return;
        }
        let directory = Arc::clone(&self.app.directory);
        tokio::spawn(async move {
            link.await_death().await;
            let back = directory.door(&id).is_none_or(|door| door.lock_occupant().is_some());
            if !back {
                let gone = Input::Of(id, FromProcess::ChannelGone);
                let _ = inbox.send(Message::Input(gone)).await;
            }
        });
    }

    /// Only a session that never had a process of ours: a stored conversation had one.
    async fn attach(&mut self, id: SessionId, link: Link, taken: oneshot::Sender<bool>) {
        let unknown = matches!(self.app.store.conversation(self.key.clone()).await, Ok(None));
        let accepted = unknown && self.machine.accepts_attachment();
        let _ = taken.send(accepted);
        if accepted {
            let mut process = Process::new(id.clone());
            process.link = Some(link);
            self.process = Some(process);
            self.step(Input::Attached(id));
        }
    }

    /// Runs go on without this frontd; who reads them here hears no more.
    fn leave(&mut self) {
        for active in self.runs.values() {
            active.run.leave();
        }
    }

    fn shut_down(&mut self) {
        let failure = Failure::new(FailureKind::Stopping, "the server is stopping");
        let open: Vec<RunId> = self.runs.keys().copied().collect();
        for id in open {
            let error = failure.clone();
            self.record(id, Event::Finished(Outcome::Failed { error }));
        }
        self.effects.flush(&self.app, &self.room);
    }
}
