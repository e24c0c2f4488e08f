//! How a message comes into a session: judged, entered into the log, and put in the queue.

use std::sync::Arc;

use proto::ids::AbsolutePath;

use super::Actor;
use super::books::OfRun;
use crate::ask::history::{self, Past};
use crate::ask::{Attachment, NewMessage, Speaker, context};
use crate::client::Runner;
use crate::run::{Event, Failure, FailureKind, FileNote, Outcome, Run, RunId, UserMessage};
use crate::session::machine::Input;
use crate::session::message::{NotTaken, Submission};
use crate::session::recall;
use crate::session::turn::{Pending, Prompt};
use crate::store::{Conversation, Idempotency, NewRun, StoredFile};

/// A run that is not over, as its session sees it.
pub(super) struct Active {
    pub run: Arc<Run>,
    /// It must not begin twice: nothing is pushed before its beginning is committed.
    pub keyed: bool,
    /// claude was given the message.
    pub pushed: bool,
    pub prompt: Arc<Prompt>,
    /// The answer so far: claude will have seen it.
    pub answer: String,
    pub books: OfRun,
}

impl Active {
    pub(super) fn new(
        run: Arc<Run>,
        keyed: bool,
        pushed: bool,
        prompt: Arc<Prompt>,
        books: OfRun,
    ) -> Self {
        Self { run, keyed, pushed, prompt, answer: String::new(), books }
    }

    /// What claude has seen once the run is over, in order.
    pub(super) fn seen(&self) -> Vec<u64> {
        let said = self.prompt.hashes.iter().copied();
        said.chain(history::hash_answer(&self.answer)).collect()
    }
}

impl Actor {
    pub(super) async fn submit(&mut self, submission: Submission) {
        let workspace = match self.admit(&submission).await {
            Ok(workspace) => workspace,
            Err(not_taken) => return self.turn_away(submission, not_taken),
        };
        let Submission { run, keyed, mut ask, rewinds, ephemeral, chat_id, model, .. } = submission;
        let Submission { instructions, taken, previous, runner, asked, .. } = submission;
        if ephemeral {
            self.discard.get_or_insert_default();
        }
        // Whatever is being started is wanted again.
        self.halt = false;
        // A client that left meanwhile is seen by its Leave.
        let _ = taken.send(Ok(()));
        let (unseen, fresh) = match history::judge(&mut ask, rewinds, &self.seen) {
            Past::Continue => (Vec::new(), false),
            Past::WithContext(unseen) => (unseen, false),
            Past::Fresh(all) => (all, true),
        };
        if self.unused && self.runs.is_empty() && unseen.is_empty() {
            // What it was begun for never came to claude, which knows nothing of what was before.
            self.recall = recall::of(&self.app.store, &self.key, &[]).await;
        }
        let told = unseen.iter().filter_map(|said| match said.who {
            Speaker::Person => Some(history::hash(&said.text)),
            Speaker::Assistant => history::hash_answer(&said.text),
        });
        let mut hashes: Vec<u64> = told.collect();
        hashes.extend(ask.new.hashes());
        let (said, files) = message(ask.new, previous);
        let room = context::room(&said.text).unwrap_or(0);
        let prompt = Arc::new(Prompt {
            content: Arc::clone(&said.text),
            context: (!unseen.is_empty()).then(|| context::context(&unseen, room).into()),
            chat_id,
            files: said.files.clone(),
            hashes,
            fresh,
            model: model.clone(),
            instructions: instructions.clone(),
            workspace,
            runner: Arc::clone(&runner),
        });
        (self.model, self.instructions, self.runner) = (model, instructions, Some(runner));
        let begun = NewRun {
            id: run.id(),
            key: self.key.clone(),
            model: run.model().to_string(),
            created: run.created(),
            idempotency: keyed.as_ref().map(|keyed| Idempotency {
                key: keyed.key.clone(),
                fingerprint: keyed.fingerprint,
            }),
            client_message: said.id.as_deref().map(str::to_owned),
            prompt: serde_json::to_string(&*prompt).expect("string keys"),
            files,
        };
        self.effects.begin(begun, self.own.clone());
        let pending = Pending::new(run.id(), Arc::clone(&prompt));
        self.effects.append(&run, Event::Started { message: said });
        let books = OfRun::new(&self.app.metrics, &run, &prompt, Some(asked), None);
        let active = Active::new(run, keyed.is_some(), false, prompt, books);
        self.runs.insert(pending.run, active);
        self.step(Input::Submit(pending));
    }

    /// Where the message's claude lives, if there is room for the message.
    async fn admit(&mut self, submission: &Submission) -> Result<AbsolutePath, NotTaken> {
        let (wanted, runner) = (submission.workspace.as_ref(), &submission.runner);
        self.machine.has_room().map_err(|_| NotTaken::QueueFull)?;
        if self.discard.is_some() {
            // Soon it is another conversation.
            return Err(NotTaken::QueueFull);
        }
        if self.app.store.is_failing() {
            return Err(NotTaken::StoreFull);
        }
        if self.conversation.is_none() {
            let known = self.app.store.conversation(self.key.clone()).await.map_err(|error| {
                tracing::error!(%error, "store");
                NotTaken::Store
            })?;
            if let Some((conversation, seen)) = known {
                (self.conversation, self.seen) = (Some(conversation), seen);
            }
            self.ensure_conversation(runner, wanted.unwrap_or(&runner.workspace));
        }
        if self.conversation.as_ref().is_some_and(|known| known.user != runner.user) {
            return Err(NotTaken::OtherUser);
        }
        let lives_in = self.conversation.as_ref().map(|conversation| &conversation.workspace);
        match (wanted, lives_in) {
            (Some(wanted), Some(lives_in)) if wanted != lives_in => {
                Err(NotTaken::OtherWorkspace(lives_in.clone()))
            }
            (_, Some(lives_in)) => Ok(lives_in.clone()),
            (_, None) => Err(NotTaken::Store),
        }
    }

    /// A new one there, if there is none.
    pub(super) fn ensure_conversation(&mut self, runner: &Runner, workspace: &AbsolutePath) {
        let (key, user) = (&self.key, &runner.user);
        self.conversation
            .get_or_insert_with(|| Conversation::new(key.clone(), user.clone(), workspace.clone()));
    }

    /// Nothing of it is stored; who had attached to the run hears that it is over.
    fn turn_away(&self, submission: Submission, not_taken: NotTaken) {
        let Submission { run, taken, .. } = submission;
        let error = Failure::new(FailureKind::NoSlot, "the session did not take the message");
        if let Some(end) = run.append(Event::Finished(Outcome::Failed { error })) {
            run.publish(end.seq);
        }
        self.app.runs.end(run.id());
        let _ = taken.send(Err(not_taken));
    }
}

/// The message as the log shows it, and the bytes of its files.
fn message(new: NewMessage, previous: Option<RunId>) -> (UserMessage, Vec<StoredFile>) {
    let note = |file: &Attachment| FileNote {
        name: file.name.as_str().into(),
        media_type: file.media_type.as_str().into(),
        bytes: u64::try_from(file.data.len()).unwrap_or(u64::MAX),
    };
    let stored = |file: Attachment| {
        let Attachment { name, media_type, data } = file;
        StoredFile { name, media_type, data }
    };
    let files = new.files.iter().map(note).collect();
    let said = UserMessage {
        id: new.client_id.map(Into::into),
        text: new.text.into(),
        files,
        previous_response_id: previous.map(|previous| previous.response().into()),
    };
    (said, new.files.into_iter().map(stored).collect())
}
