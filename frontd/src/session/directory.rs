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
    /// Its actor was handed the pty leader.
    served: AtomicBool,
    /// The last seq that was taken in.
    last_seq: AtomicU64,
    /// Nothing was taken in yet since the restart: the store may know less than was acknowledged.
    resuming: AtomicBool,
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
        let (started, served) = (AtomicBool::new(false), AtomicBool::new(false));
        let (last_seq, resuming) = (AtomicU64::new(0), AtomicBool::new(false));
        let occupant = Mutex::new(None);
        Self {
            process,
            conversation,
            uid,
            secret_hash,
            inbox,
            started,
            served,
            last_seq,
            resuming,
            occupant,
        }
    }

    /// The door of a process that an earlier frontd started: it runs, as far as is known, and its
    /// leader is still to be had.
    pub fn restored(
        process: SessionId,
        conversation: ConversationId,
        uid: u32,
        secret_hash: [u8; 32],
        last_seq: Seq,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let (last_seq, resuming) = (AtomicU64::new(last_seq.0), AtomicBool::new(true));
        let (started, served) = (AtomicBool::new(true), AtomicBool::new(false));
        let occupant = Mutex::new(None);
        Self {
            process,
            conversation,
            uid,
            secret_hash,
            inbox,
            started,
            served,
            last_seq,
            resuming,
            occupant,
        }
    }

    /// For the store: what [`restored`](Self::restored) needs of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        self.secret_hash
    }

    /// Compares in constant time.
    pub fn opens_to(&self, secret: &Secret) -> bool {
        self.secret_hash.ct_eq(&hash(secret)).into()
    }

    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// The answer to its spawn came, and with it the leader.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
    }

    pub fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// The leader is on its way to the actor.
    pub fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Does it run, and nobody here has its leader?
    pub fn needs_leader(&self) -> bool {
        self.is_started() && !self.is_served()
    }

    pub fn last_seq(&self) -> Seq {
        Seq(self.last_seq.load(Ordering::Relaxed))
    }

    /// Is `seq` the next one? The first after a restart may be any later one: what lies between
    /// was acknowledged, and caused nothing that had to be kept.
    pub fn is_next(&self, seq: Seq) -> bool {
        let last = self.last_seq();
        seq.0 == last.0 + 1 || (seq > last && self.resuming.load(Ordering::Relaxed))
    }

    pub fn set_last_seq(&self, seq: Seq) {
        self.resuming.store(false, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_seq_after_a_restart_may_jump() {
        let (inbox, _) = mpsc::channel(1);
        let (id, conversation) = (SessionId::random(), ConversationId(uuid::Uuid::nil()));
        let fresh = Door::new(id.clone(), conversation, 7, &Secret::random(), inbox.clone());
        assert!(fresh.is_next(Seq(1)) && !fresh.is_next(Seq(2)) && !fresh.is_next(Seq(0)));
        let hash = fresh.secret_hash();
        let restored = Door::restored(id, conversation, 7, hash, Seq(5), inbox);
        assert!(restored.is_next(Seq(9)) && !restored.is_next(Seq(5)));
        restored.set_last_seq(Seq(9));
        assert!(restored.is_next(Seq(10)) && !restored.is_next(Seq(11)));
    }
}
