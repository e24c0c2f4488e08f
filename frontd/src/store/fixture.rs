//! What the store's tests are made of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::ids::{AbsolutePath, ConversationId, Seq, SessionId, UnixUser};

use super::change::{Change, Idempotency, NewRun, ProcessRow, StoredFile};
use super::{Conversation, Keep, StoreHandle};
use crate::identity::{BodyHints, SessionKey, identify};
use crate::run::{Event, Logged, Outcome, RunId};

pub(super) const DAY: u64 = 24 * 60 * 60 * 1000;

pub(super) const KEEP: Keep = Keep { age: Duration::from_secs(30 * 24 * 60 * 60), bytes: 1 << 30 };

pub(super) fn open(path: &Path) -> StoreHandle {
    StoreHandle::open(path, KEEP).unwrap()
}

pub(super) fn key_of(principal: &str, user: &str) -> SessionKey {
    let body = BodyHints { user: Some(user), ..BodyHints::default() };
    identify(principal, &http::HeaderMap::new(), &body).unwrap().key
}

pub(super) fn key(user: &str) -> SessionKey {
    key_of("local", user)
}

pub(super) fn conversation_of(user: &str) -> Conversation {
    let workspace = AbsolutePath::new("/srv/demo").unwrap();
    Conversation::new(key(user), UnixUser::new("alice").unwrap(), workspace)
}

pub(super) fn new_run(id: RunId, user: &str) -> NewRun {
    let text = |text: &str| text.to_owned();
    let data = Bytes::from_static(b"\x89PNG\0");
    NewRun {
        id,
        key: key(user),
        model: text("synthesis"),
        created: 5_000,
        idempotency: None,
        client_message: Some(text("m-1")),
        prompt: text("do it"),
        files: vec![StoredFile { name: text("a.png"), media_type: text("image/png"), data }],
    }
}

pub(super) fn begin(id: RunId, user: &str) -> Change {
    Change::Begin(Box::new(new_run(id, user)))
}

pub(super) fn begin_with_key(id: RunId, user: &str, idempotency: &str) -> Change {
    let idempotency = Idempotency { key: idempotency.to_owned(), fingerprint: [7; 32] };
    Change::Begin(Box::new(NewRun { idempotency: Some(idempotency), ..new_run(id, user) }))
}

pub(super) fn logged(seq: u64, text: &str) -> Logged {
    Logged::new(seq, 1000 + seq, Event::TextDelta { delta: text.into() })
}

pub(super) fn append(run: RunId, seq: u64, text: &str) -> Change {
    Change::Append { run, logged: Arc::new(logged(seq, text)) }
}

pub(super) fn pushed(run: RunId) -> Change {
    Change::Progress { run, pushed: true, prompt: None }
}

pub(super) fn end(run: RunId, at: u64) -> Change {
    Change::End { run, outcome: Outcome::Completed, at }
}

pub(super) fn process(user: &str, started: u64) -> ProcessRow {
    ProcessRow {
        id: SessionId::random(),
        key: key(user),
        conversation: ConversationId(uuid::Uuid::new_v4()),
        uid: 1000,
        secret_hash: [9; 32],
        last_seq: Seq(0),
        started,
    }
}
