//! Handing sessions to systemd's store and taking them back after a restart or a crash of this
//! process. Sessions without a scope end with it and are never handed over.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::unistd::Pid;
use proto::ids::SessionId;

use crate::audit::{Entry, Kind};
use crate::daemon::Daemon;
use crate::folder::Owner;
use crate::log;
use crate::notify::Inbox;
use crate::scope::Scopes;
use crate::session::{Child, Containment, Course, Kin, Readiness, Running, Session, State};
use crate::store::{self, Facts, Mismatch, Pieces, Record, Store, What};
use crate::sys;

/// What outlives this process.
#[derive(Default)]
pub struct Recovery {
    pub store: Store,
    /// Sessions whose records did not fit: neither served nor killed.
    pub strangers: HashSet<SessionId>,
}

impl Recovery {
    /// A session that was started.
    pub fn keep(&mut self, id: &SessionId, session: &Session) {
        let (State::Running(running), Containment::Scope(_)) =
            (&session.state, &session.containment)
        else {
            return;
        };
        self.store.keep(id, What::Leader, running.leader.as_fd());
        self.store.keep(id, What::Pidfd, running.child.pidfd.as_fd());
        // systemd would be held up in our place, when it closes what it stored.
        if let Readiness::Awaited(inbox) = &running.readiness
            && !inbox.takes_rights()
        {
            self.store.keep(id, What::Notify, inbox.as_fd());
        }
        if let Some(lock) = &session.lock {
            self.store.keep(id, What::Lock, lock.as_fd());
        }
        self.keep_facts(id, session, running);
    }

    /// A session that is ready now.
    pub fn keep_ready(&mut self, id: &SessionId, session: &Session) {
        if let (State::Running(running), Containment::Scope(_)) =
            (&session.state, &session.containment)
        {
            // The new facts first: without a socket the old ones are incomplete.
            self.keep_facts(id, session, running);
            self.store.drop_piece(id, What::Notify);
        }
    }

    pub fn drop_session(&mut self, id: &SessionId, session: &Session) {
        match &session.containment {
            Containment::Scope(_) => self.store.drop_session(id),
            Containment::Family { .. } => {}
        }
    }

    fn keep_facts(&mut self, id: &SessionId, session: &Session, running: &Running) {
        let ready = match running.readiness {
            Readiness::Ready(pid) => Some(pid),
            Readiness::Awaited(_) => None,
        };
        match sys::terminal::number(running.leader.as_fd()) {
            Ok(pts) => self.store.keep_facts(&Facts {
                version: Facts::VERSION,
                session: id.clone(),
                conversation: session.conversation,
                user: session.user.clone(),
                uid: session.owner.uid,
                gid: session.owner.gid,
                pid: running.child.pid.as_raw(),
                start: session.start,
                pts,
                resumed: running.resumed,
                ready,
            }),
            Err(error) => log::error(format_args!("terminal of session {id}: {error}")),
        }
    }
}

impl Daemon {
    /// Takes back what an earlier spawnd had, and ends what it had begun and nobody was told of.
    pub fn recover(
        &mut self,
        scopes: Option<Scopes>,
        store: Store,
        stored: Vec<(SessionId, What, OwnedFd)>,
    ) {
        self.recovery.store = store;
        if scopes.is_none() && !stored.is_empty() {
            log::warning(format_args!("sessions with scopes are not served: `scopes` is false"));
        }
        if let Some(scopes) = scopes {
            for (id, pieces) in store::sort(stored) {
                self.take_back(&scopes, id, pieces);
            }
            for id in scopes.found() {
                if self.table.get(&id).is_none() && !self.recovery.strangers.contains(&id) {
                    let message = format!("session {id} has no record and is killed");
                    let entry = Entry::new(Kind::Signal, message).session(&id);
                    self.record(entry.with("SYNTHESIS_SIGNAL", "kill"));
                    scopes.of(&id).strike();
                }
            }
            self.scopes = Some(scopes);
        }
        let strangers = self.recovery.strangers.len();
        if strangers > 0 {
            log::warning(format_args!("{strangers} sessions are left alone: records do not fit"));
        }
        self.clear_leftovers();
    }

    fn take_back(&mut self, scopes: &Scopes, id: SessionId, pieces: Pieces) {
        if !pieces.has_facts() {
            self.recovery.store.drop_session(&id);
            return;
        }
        let record = pieces.verify(&id).and_then(|record| adopted(scopes, record));
        match record {
            Ok(session) => {
                self.table.insert(id.clone(), session);
                let message = format!("session {id} is taken back");
                self.record(self.of_session(Kind::Adopted, message, &id));
            }
            Err(Mismatch::NeverReady) => {
                let message = format!("session {id} was not ready yet and is killed");
                let entry = Entry::new(Kind::Signal, message).session(&id);
                self.record(entry.with("SYNTHESIS_SIGNAL", "kill"));
                scopes.of(&id).strike();
                self.recovery.store.drop_session(&id);
            }
            Err(mismatch) => {
                let message = format!("session {id} is left alone");
                let entry = Entry::new(Kind::Refused, message).session(&id).reason(mismatch);
                self.record(entry);
                self.recovery.strangers.insert(id);
            }
        }
    }
}

/// As it was before; only its end is another's to wait for.
fn adopted(scopes: &Scopes, record: Record) -> Result<Session, Mismatch> {
    let Record { facts, leader, pidfd, notify, lock } = record;
    let pid = Pid::from_raw(facts.pid);
    let mut scope = scopes.of(&facts.session);
    let entered = scope.enter(pid).is_ok();
    // Looked at last: as long as it was not waited for, the number was this process's.
    if !entered && sys::pidfd::number(pidfd.as_fd()).is_some_and(|number| number > 0) {
        return Err(Mismatch::Scope);
    }
    let readiness = match (facts.ready, notify) {
        (Some(ready), _) => Readiness::Ready(ready),
        (None, Some(notify)) => Readiness::Awaited(Inbox::new(notify)),
        (None, None) => return Err(Mismatch::NeverReady),
    };
    Ok(Session {
        conversation: facts.conversation,
        user: facts.user,
        owner: Owner { uid: facts.uid, gid: facts.gid },
        start: facts.start,
        containment: Containment::Scope(scope),
        lock: Some(lock),
        state: State::Running(Running {
            child: Child { pid, pidfd, kin: Kin::Taken },
            leader,
            resumed: facts.resumed,
            readiness,
            course: Course::Onward,
        }),
    })
}
