//! Who is where: the actor of each session key, and the door of each process, by which its
//! channel comes in and spawnd's news reach the actor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::ids::{ConversationId, Secret, Seq, SessionId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;

use super::message::Message;
use crate::bridge::Occupant;
use crate::identity::SessionKey;

/// What one process's channel must prove, and where its words go.
pub struct Door {
    pub process: SessionId,
    pub conversation: ConversationId,
    /// The session's Unix user.
    pub uid: u32,
    secret_hash: [u8; 32],
    pub inbox: mpsc::Sender<Message>,
    /// spawnd said that it runs. Until then the answer to its spawn decides, not a list.
    started: AtomicBool,
    /// The last seq that was taken in.
    last_seq: AtomicU64,
    pub occupant: Mutex<Option<Occupant>>,
}

impl Door {
    pub fn new(
        process: SessionId,
        conversation: ConversationId,
        uid: u32,
        secret: &Secret,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let secret_hash = hash(secret);
        let (started, last_seq) = (AtomicBool::new(false), AtomicU64::new(0));
        let occupant = Mutex::new(None);
        Self { process, conversation, uid, secret_hash, inbox, started, last_seq, occupant }
    }

    /// Compares in constant time.
    pub fn opens_to(&self, secret: &Secret) -> bool {
        self.secret_hash.ct_eq(&hash(secret)).into()
    }

    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    pub fn last_seq(&self) -> Seq {
        Seq(self.last_seq.load(Ordering::Relaxed))
    }

    pub fn set_last_seq(&self, seq: Seq) {
        self.last_seq.store(seq.0, Ordering::Relaxed);
    }

    pub fn lock_occupant(&self) -> MutexGuard<'_, Option<Occupant>> {
        self.occupant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose().as_bytes()).into()
}

#[derive(Default)]
pub struct Directory {
    sessions: Mutex<HashMap<SessionKey, mpsc::Sender<Message>>>,
    doors: Mutex<HashMap<SessionId, Arc<Door>>>,
}

impl Directory {
    /// The inbox of the key's actor; `start` makes one for a key that has none. `send` runs under
    /// the lock, so that an actor cannot end between the look-up and the message.
    pub fn with_session<T>(
        &self,
        key: &SessionKey,
        start: impl FnOnce() -> mpsc::Sender<Message>,
        send: impl FnOnce(&mpsc::Sender<Message>) -> T,
    ) -> T {
        let mut sessions = lock(&self.sessions);
        send(sessions.entry(key.clone()).or_insert_with(start))
    }

    /// The inbox of a session that has an actor.
    pub fn session(&self, key: &SessionKey) -> Option<mpsc::Sender<Message>> {
        lock(&self.sessions).get(key).cloned()
    }

    /// Ends the actor's entry if its inbox is empty; else the actor must go on.
    pub fn retire(&self, key: &SessionKey, inbox: &mpsc::Receiver<Message>) -> bool {
        let mut sessions = lock(&self.sessions);
        let empty = inbox.is_empty();
        if empty {
            sessions.remove(key);
        }
        empty
    }

    pub fn add_door(&self, door: Arc<Door>) {
        lock(&self.doors).insert(door.process.clone(), door);
    }

    pub fn door(&self, process: &SessionId) -> Option<Arc<Door>> {
        lock(&self.doors).get(process).cloned()
    }

    pub fn remove_door(&self, process: &SessionId) {
        lock(&self.doors).remove(process);
    }

    /// Every process with a door: what frontd believes to be alive.
    pub fn processes(&self) -> Vec<Arc<Door>> {
        lock(&self.doors).values().cloned().collect()
    }

    /// Channels that are connected now.
    pub fn connections(&self) -> usize {
        lock(&self.doors).values().filter(|door| door.lock_occupant().is_some()).count()
    }

    /// Every actor's inbox, for the end of the server.
    pub fn inboxes(&self) -> Vec<mpsc::Sender<Message>> {
        lock(&self.sessions).values().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
