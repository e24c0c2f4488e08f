//! Who is where: the actor of each session key, and the door of each process, by which its
//! channel comes in and spawnd's news reach the actor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::bridge::{FromFrontd, ReplyRefusal};
use proto::ids::{ConversationId, Secret, Seq, SessionId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;

use super::message::Message;
use crate::bridge::Occupant;
use crate::identity::SessionKey;
use crate::store::ProcessRow;

/// What one process's channel must prove, and where its words go.
pub struct Door {
    pub process: SessionId,
    pub key: SessionKey,
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
    /// The last seq whose effects are committed: channel may forget up to it.
    held_seq: AtomicU64,
    /// The next event may leave some out: an earlier process of this server held those.
    may_jump: AtomicBool,
    pub occupant: Mutex<Option<Occupant>>,
}

impl Door {
    pub fn new(
        process: SessionId,
        key: SessionKey,
        conversation: ConversationId,
        uid: u32,
        secret: &Secret,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let secret_hash = hash(secret);
        Self {
            process,
            key,
            conversation,
            uid,
            secret_hash,
            inbox,
            started: AtomicBool::new(false),
            served: AtomicBool::new(false),
            last_seq: AtomicU64::new(0),
            held_seq: AtomicU64::new(0),
            may_jump: AtomicBool::new(false),
            occupant: Mutex::new(None),
        }
    }

    /// The door of a process that an earlier process of this server started.
    pub fn again(row: &ProcessRow, inbox: mpsc::Sender<Message>) -> Self {
        Self {
            process: row.id.clone(),
            key: row.key.clone(),
            conversation: row.conversation,
            uid: row.uid,
            secret_hash: row.secret_hash,
            inbox,
            started: AtomicBool::new(true),
            served: AtomicBool::new(false),
            last_seq: AtomicU64::new(row.last_seq.0),
            held_seq: AtomicU64::new(row.last_seq.0),
            may_jump: AtomicBool::new(true),
            occupant: Mutex::new(None),
        }
    }

    /// What the store keeps of the door.
    pub fn row(&self) -> ProcessRow {
        ProcessRow {
            id: self.process.clone(),
            key: self.key.clone(),
            conversation: self.conversation,
            uid: self.uid,
            secret_hash: self.secret_hash,
            last_seq: self.held_seq(),
            started: crate::run::log::now(),
        }
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

    /// Takes in the event with this place.
    pub fn take(&self, seq: Seq) -> Taken {
        let last = self.last_seq.load(Ordering::Relaxed);
        if seq.0 <= last {
            return Taken::Before;
        }
        if seq.0 != last + 1 && !self.may_jump.load(Ordering::Relaxed) {
            return Taken::Gap;
        }
        self.may_jump.store(false, Ordering::Relaxed);
        self.last_seq.store(seq.0, Ordering::Relaxed);
        Taken::New
    }

    /// The last seq whose effects are committed.
    pub fn held_seq(&self) -> Seq {
        Seq(self.held_seq.load(Ordering::Relaxed))
    }

    /// Everything up to `seq` is committed: channel may forget it.
    pub fn acknowledge(&self, seq: Seq, refused: Option<ReplyRefusal>) {
        self.held_seq.fetch_max(seq.0, Ordering::Relaxed);
        let occupant = self.lock_occupant();
        if let Some(occupant) = &*occupant
            && occupant.frames.try_send(FromFrontd::Ack { seq, refused }).is_err()
        {
            // It does not read. Its successor is told by hello_ack.
            occupant.evict.notify_one();
        }
    }

    pub fn lock_occupant(&self) -> MutexGuard<'_, Option<Occupant>> {
        self.occupant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an event's place says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    New,
    /// Taken in already.
    Before,
    /// One before it is missing.
    Gap,
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

    /// Does a process run as this uid?
    pub fn has_process_of(&self, uid: u32) -> bool {
        lock(&self.doors).values().any(|door| door.uid == uid)
    }

    /// Channels that are connected now.
    pub fn connections(&self) -> usize {
        lock(&self.doors).values().filter(|door| door.lock_occupant().is_some()).count()
    }

    /// The keys that have an actor.
    pub fn keys(&self) -> Vec<SessionKey> {
        lock(&self.sessions).keys().cloned().collect()
    }

    /// Every actor's inbox, for the end of the server.
    pub fn inboxes(&self) -> Vec<mpsc::Sender<Message>> {
        lock(&self.sessions).values().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
