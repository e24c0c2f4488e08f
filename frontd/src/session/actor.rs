//! The task that owns one session: it feeds the machine, does what the machine says, and holds
//! the session's process. Nothing else touches them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use proto::bridge::FromFrontd;
use proto::ids::{AbsolutePath, ModelName, Secret, SessionId};
use proto::spawn::{ExitCause, Proof, RefusalCode, Signal, Spawn};
use tokio::sync::{mpsc, oneshot};

use super::alarm::Alarm;
use super::directory::Door;
use super::machine::{Action, FromProcess, Input, Limits, Machine};
use super::message::{Message, NotTaken, Submission};
use super::pool::Slot;
use super::process::{Link, Process};
use super::turn::{Attempt, Pending};
use crate::app::App;
use crate::identity::SessionKey;
use crate::run::{Event, Failure, FailureKind, Outcome, Run, RunId};
use crate::spawner::Started;
use crate::store::{Change, Conversation};
use crate::terminal::drain::Terminal;

/// Messages that may wait for one actor; senders on the bridge wait, which slows their channel.
const INBOX: usize = 256;
/// Starts the actor of `key` and returns its inbox.
pub fn start(app: Arc<App>, key: SessionKey) -> mpsc::Sender<Message> {
    let (sender, inbox) = mpsc::channel(INBOX);
    let limits = Limits {
        queue: app.config.limits.queue_per_session,
        start: app.config.limits.start_timeout(),
        idle: app.config.limits.idle(),
        hooks: app.config.session.hooks,
    };
    let actor = Actor {
        app,
        key,
        own: sender.clone(),
        machine: Machine::new(limits),
        conversation: None,
        model: None,
        process: None,
        slot: None,
        runs: HashMap::new(),
        actions: Vec::new(),
        idle: false,
        early_exit: None,
        alarm: Alarm::default(),
    };
    tokio::spawn(actor.live(inbox));
    sender
}

struct Actor {
    app: Arc<App>,
    key: SessionKey,
    own: mpsc::Sender<Message>,
    machine: Machine,
    /// Loaded from the store, or new and not yet stored.
    conversation: Option<Conversation>,
    /// As the latest message asked.
    model: Option<ModelName>,
    process: Option<Process>,
    slot: Option<Slot>,
    runs: HashMap<RunId, Arc<Run>>,
    /// The machine's buffer, kept for its capacity.
    actions: Vec<Action>,
    /// What the pool was told.
    idle: bool,
    /// Of a process whose start is not known yet.
    early_exit: Option<(SessionId, ExitCause)>,
    alarm: Alarm,
}

impl Actor {
    async fn live(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            if self.machine.is_over() && self.app.directory.retire(&self.key, &inbox) {
                return;
            }
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
            Message::Submit(submission) => self.submit(submission).await,
            Message::Input(input) => {
                if let Input::Of(id, FromProcess::Registered { .. }) = &input
                    && let Some(process) = self.process.as_ref().filter(|process| process.id == *id)
                    && let Some(terminal) = &process.terminal
                {
                    terminal.stop_answering();
                }
                self.step(input);
            }
            Message::Slot(Some(slot)) => {
                self.slot = Some(slot);
                self.step(Input::SlotGranted);
            }
            Message::Slot(None) => self.step(Input::SlotDenied),
            Message::Spawned { process, result } => self.spawned(process, result).await,
            Message::Exited { process, cause } => self.exited(process, cause).await,
            Message::Connected { process, link } => self.connected(&process, link),
            Message::Disconnected { process, number } => self.disconnected(process, number),
            Message::Attach { process, link, taken } => self.attach(process, link, taken).await,
            Message::Shutdown => self.shut_down(),
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
        self.tell_pool(now);
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

    async fn submit(&mut self, submission: Submission) {
        let Submission { run, content, chat_id, workspace, model, taken } = submission;
        let verdict = self.admit(workspace.as_ref()).await;
        let admitted = verdict.is_ok();
        // A client that left meanwhile is seen by its Leave.
        let _ = taken.send(verdict);
        if !admitted {
            self.app.runs.end(run.id());
            return;
        }
        let (id, attempt) = (run.id(), Attempt::First);
        self.runs.insert(id, run);
        self.model = model;
        let message = id.message_id();
        self.step(Input::Submit(Pending { run: id, message, content, chat_id, attempt }));
    }

    async fn admit(&mut self, wanted: Option<&AbsolutePath>) -> Result<(), NotTaken> {
        self.machine.has_room().map_err(|_| NotTaken::QueueFull)?;
        let known = match self.conversation.take() {
            Some(conversation) => Some(conversation),
            None => self
                .app
                .store
                .conversation(self.key.clone())
                .await
                .map_err(|error| {
                    tracing::error!(%error, "store");
                    NotTaken::Store
                })?
                .map(|(conversation, _)| conversation),
        };
        let conversation = match known {
            Some(conversation) => conversation,
            None => {
                let site = &self.app.site;
                let workspace = wanted.unwrap_or(&site.default_workspace).clone();
                Conversation::new(self.key.clone(), site.user.clone(), workspace)
            }
        };
        let lives_in = conversation.workspace.clone();
        self.conversation = Some(conversation);
        match wanted {
            Some(wanted) if *wanted != lives_in => Err(NotTaken::OtherWorkspace(lives_in)),
            Some(_) | None => Ok(()),
        }
    }

    async fn spawned(&mut self, id: SessionId, result: Result<Started, (RefusalCode, String)>) {
        let said = match result {
            Ok(started) => {
                if let Some(door) = self.app.directory.door(&id) {
                    door.set_started();
                }
                match self.open_terminal(&id, started) {
                    Ok(()) => {
                        self.remember().await;
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

    fn open_terminal(&mut self, id: &SessionId, started: Started) -> std::io::Result<()> {
        let Some(process) = self.process.as_mut().filter(|process| process.id == *id) else {
            return Ok(());
        };
        tracing::info!(session = %id, pid = started.pid, resumed = started.resumed, "started");
        let (inbox, session) = (self.own.clone(), id.clone());
        let report = move |screen| {
            let said = FromProcess::UnknownDialog { screen };
            // A full inbox belongs to a session with other troubles; its start deadline remains.
            let _ = inbox.try_send(Message::Input(Input::Of(session, said)));
        };
        let site = &self.app.site;
        let terminal = Terminal::open(started.leader, site.terminal, site.policy_set_key, report)?;
        process.terminal = Some(terminal);
        Ok(())
    }

    /// Makes the conversation durable once it has a process.
    async fn remember(&mut self) {
        if let Some(conversation) = self.conversation.clone()
            && let Err(error) =
                self.app.store.committed(vec![Change::Conversation(conversation)]).await
        {
            tracing::error!(%error, "the conversation will not be found again after a restart");
        }
    }

    async fn exited(&mut self, id: SessionId, cause: ExitCause) {
        if self.machine.is_spawning(&id) {
            // It overtook the answer to the spawn, which brings the terminal and its last words.
            self.early_exit = Some((id, cause));
            return;
        }
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
        if let Some(pending) = self.machine.unreceived() {
            process.push(pending);
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

    fn shut_down(&mut self) {
        let failure = Failure::new(FailureKind::Stopping, "the server is stopping");
        for (id, run) in self.runs.drain() {
            run.finish(Outcome::Failed { error: failure.clone() });
            self.app.runs.end(id);
        }
    }

    // ---- actions --------------------------------------------------------------------------

    fn act(&mut self, action: Action) {
        match action {
            Action::AcquireSlot => {
                let (app, inbox) = (Arc::clone(&self.app), self.own.clone());
                tokio::spawn(async move {
                    let _ = inbox.send(Message::Slot(app.pool.acquire().await)).await;
                });
            }
            Action::ReleaseSlot => self.slot = None,
            Action::Spawn(id) => self.spawn(id),
            Action::Signal(id, signal) => self.app.spawner.signal(id, signal),
            Action::Detach(_) => self.process = None,
            Action::Push(pending) => {
                if let Some(process) = &mut self.process {
                    process.push(&pending);
                }
            }
            Action::AwaitIdle => self.send(FromFrontd::AwaitIdle {}),
            Action::Ack { seq, refused } => self.send(FromFrontd::Ack { seq, refused }),
            Action::PressEsc => {
                if let Some(Process { terminal: Some(terminal), .. }) = &self.process {
                    terminal.press_esc();
                }
            }
            Action::Run(id, event) => self.record(id, event),
            Action::Forget(id) => {
                self.app.directory.remove_door(&id);
                self.process.take_if(|process| process.id == id);
                self.app.spawner.forget(id);
            }
        }
    }

    fn record(&mut self, id: RunId, event: Event) {
        let Some(run) = self.runs.get(&id) else { return };
        let last = matches!(event, Event::Finished(_));
        run.append(event);
        if last {
            self.runs.remove(&id);
            self.app.runs.end(id);
        }
    }

    fn send(&mut self, frame: FromFrontd) {
        if let Some(process) = &mut self.process {
            process.send(frame);
        }
    }

    fn spawn(&mut self, id: SessionId) {
        let Some(conversation) = &self.conversation else {
            // submit() loads it before the machine hears of the message.
            unreachable_conversation(&self.own, id);
            return;
        };
        let (site, secret) = (&self.app.site, Secret::random());
        let inbox = self.own.clone();
        let door = Door::new(id.clone(), conversation.id, site.uid, &secret, inbox.clone());
        self.app.directory.add_door(Arc::new(door));
        self.process = Some(Process::new(id.clone()));
        let spawn = Spawn {
            session: id.clone(),
            conversation: conversation.id,
            user: site.user.clone(),
            proof: Proof::None,
            workspace: conversation.workspace.clone(),
            permission_mode: self.app.config.session.permission_mode,
            model: self.model.clone(),
            terminal: site.terminal,
            hooks: self.app.config.session.hooks,
            secret,
        };
        let spawner = self.app.spawner.clone();
        let patience = self.app.config.limits.start_timeout();
        tokio::spawn(async move {
            let result = match tokio::time::timeout(patience, spawner.spawn(spawn)).await {
                Ok(result) => result,
                Err(_) => Err((RefusalCode::StartFailed, String::from("spawnd does not answer"))),
            };
            let _ = inbox.send(Message::Spawned { process: id, result }).await;
        });
    }
}

/// A machine that spawns without a conversation would be a fault of ours: refuse, do not panic.
fn unreachable_conversation(inbox: &mpsc::Sender<Message>, process: SessionId) {
    let result = Err((RefusalCode::StartFailed, String::from("no conversation")));
    let _ = inbox.try_send(Message::Spawned { process, result });
}
