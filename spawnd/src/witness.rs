//! What the daemon puts on record of what it is asked: refusals with their subject, and who asked.

use std::os::fd::OwnedFd;
use std::time::Instant;

use proto::ids::SessionId;
use proto::spawn::{Call, Credential, Spawn};

use crate::audit::{Entry, Kind};
use crate::daemon::Daemon;
use crate::doors::TurnedAway;
use crate::refusal::Refusal;
use crate::session::Origin;

/// (uid_t) -1 is nobody's: the peer of a connection that is gone.
const NOBODY: u32 = u32::MAX;

impl Daemon {
    /// Answers with no.
    pub(crate) fn refuse(&mut self, origin: Origin, refusal: &Refusal, about: Entry) {
        self.caused(about.reason(refusal), Instant::now());
        self.answer(origin, refusal.answer(), None);
    }

    /// Lets a new connection in as far as its hello.
    pub(crate) fn greet(&mut self, socket: OwnedFd, now: Instant) {
        let Err(away) = self.doors.greet(socket, now) else { return };
        let peer = match away {
            TurnedAway::Foreign { uid } | TurnedAway::Crowded { uid } => uid,
            TurnedAway::Nameless(_) => NOBODY,
        };
        let entry = Entry::new(Kind::Refused, away.to_string()).peer(peer).reason(&away);
        self.audit.caused(peer, &entry, now);
    }

    /// What the peer that asks now caused (there is one at a time): written, or counted above a
    /// rate.
    pub(crate) fn caused(&mut self, entry: Entry, now: Instant) {
        let peer = self.doors.active.as_ref().map_or(NOBODY, |active| active.peer);
        self.audit.caused(peer, &entry.peer(peer), now);
    }

    pub(crate) fn record(&mut self, entry: Entry) {
        self.audit.write(&entry, Instant::now());
    }

    /// An entry with what the table knows of the session.
    pub(crate) fn of_session(&self, kind: Kind, message: String, id: &SessionId) -> Entry {
        match self.table.get(id) {
            Some(session) => session.entry(kind, message, id),
            None => Entry::new(kind, message).session(id),
        }
    }
}

/// The refusal of a request, before it is known: whose and which.
pub(crate) fn about(call: &Call) -> Entry {
    match call {
        Call::Spawn(request) => about_start(request),
        Call::Signal { session, .. } | Call::Adopt { session } | Call::Forget { session } => {
            refused().session(session)
        }
        Call::Verify { credential } => Entry::new(Kind::Denied, "credential refused").with(
            "SYNTHESIS_PROOF",
            match credential {
                Credential::Token { .. } => "token",
                Credential::Peer {} => "peer",
            },
        ),
        Call::List { .. } => refused(),
    }
}

pub(crate) fn about_start(request: &Spawn) -> Entry {
    let entry = refused().of(&request.session, request.conversation, &request.user);
    entry.workspace(&request.workspace)
}

fn refused() -> Entry {
    Entry::new(Kind::Refused, "request refused")
}
