//! The socket side: hello, and the table of the privileged surface. A hello beside an active
//! connection is answered `in_use` (as the answer to request 0) and closed.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal as Unix;
use proto::ids::SessionId;
use proto::spawn::{Answer, Call, Event, FromFrontd, FromSpawnd, Signal, Spawn, VERSION};

use crate::audit::{Entry, Kind};
use crate::connection::{Broken, Connection};
use crate::daemon::Daemon;
use crate::doors::Greeting;
use crate::folder::Owner;
use crate::lookup::Found;
use crate::policy::{self, Facts, Judgement};
use crate::refusal::Refusal;
use crate::session::{Course, Origin, Outcome, Running, State};
use crate::undertaker::Foreign;
use crate::witness::{about, about_start};
use crate::{spawn, sys};

/// Packets read in one turn of the loop: exits and readiness are not kept waiting.
const AT_ONCE: usize = 16;
/// A claude that does not end on SIGTERM is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How a call is answered.
enum Reply {
    Now(Answer),
    WithLeader(Answer, OwnedFd),
    /// By what becomes of the start.
    Later,
}

impl Daemon {
    /// THE PRIVILEGED SURFACE. Whatever a frontd can make this process do is a line here.
    fn perform(
        &mut self,
        call: Call,
        socket: Option<Foreign>,
        origin: Origin,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        match call {
            Call::Verify { credential } => {
                let (who, grant) = self.gate.verify(&credential, socket.as_ref(), &self.policy)?;
                Ok(Reply::Now(Answer::Verified { who, grant }))
            }
            Call::Spawn(request) => self.spawn(request, origin, now),
            Call::Signal { session, signal } => self.signal(&session, signal, now),
            Call::List { after } => Ok(self.list(after.as_ref())),
            Call::Adopt { session } => self.adopt(session, now),
            Call::Forget { session } => self.forget(&session),
        }
    }

    /// Judges a request now, or after its account was looked up.
    fn spawn(
        &mut self,
        request: Box<Spawn>,
        origin: Origin,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        if self.is_closing() {
            return Err(Refusal::Closing);
        }
        self.table.admit(&request.session, request.conversation, &request.user)?;
        self.lookups.admit(&request.session, request.conversation, &request.user)?;
        let strangers = &self.recovery.strangers;
        if self.sweeps.holds(&request.session) || strangers.contains(&request.session) {
            return Err(Refusal::SessionUsed(request.session));
        }
        self.pace.take(now)?;
        if self.policy.needs_lookup(&request.user)? {
            let groups = self.policy.group_names();
            self.lookups.start(&self.launch, groups, (request, origin), now)?;
            return Ok(Reply::Later);
        }
        self.begin(&request, None, origin, now)
    }

    /// Judges a request whose account is known, and does what was judged.
    fn begin(
        &mut self,
        request: &Spawn,
        found: Option<Found>,
        origin: Origin,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        if self.is_closing() {
            return Err(Refusal::Closing);
        }
        let of_user = self.table.live().filter(|(_, session)| session.user == request.user);
        let facts = Facts {
            found,
            evidence: self.gate.evidence(&request.proof),
            home_owner: self.homes.owner(&request.user),
            live_of_user: of_user.count(),
            live_sessions: self.table.live().count(),
            folder: self.folders.path_of(&request.session),
            drop_root: self.as_root,
            today: today(),
        };
        let Judgement { plan, scope, private_home, proved } =
            policy::judge(&self.policy, request, facts)?;
        let owner = Owner { uid: plan.identity.uid, gid: plan.identity.gid };
        // On record before anything is made, or not at all.
        let allowed = Entry::new(Kind::Spawn, format!("session {} allowed", request.session));
        let allowed = allowed.of(&request.session, request.conversation, &request.user);
        let allowed = allowed.workspace(&request.workspace);
        let allowed = allowed.with("SYNTHESIS_MODE", request.permission_mode.as_str());
        self.record(allowed.proved(&proved));
        if !self.audit.is_open(now) {
            return Err(Refusal::Unrecorded);
        }
        self.homes.make(&request.user, owner, private_home)?;
        let lock = self.folders.locks.take(owner.uid, plan.conversation)?;
        let (launch, scopes, ceiling) = (&self.launch, self.scopes.as_ref(), self.ceiling);
        let means = spawn::Means { launch, scopes, ceiling };
        let started = spawn::prepare(&self.folders, &plan)
            .and_then(|inbox| spawn::start(&plan, scope.as_ref(), inbox, &means, origin, now));
        match started {
            Ok(mut session) => {
                session.lock = Some(lock);
                self.oldest_start = self.oldest_start.min(session.start);
                self.table.insert(request.session.clone(), session);
                Ok(Reply::Later)
            }
            Err(refusal) => {
                self.folders.locks.release(owner.uid, plan.conversation, lock);
                self.discard(request.session.clone(), owner);
                Err(refusal)
            }
        }
    }

    /// Something came of a look-up.
    pub(crate) fn read_lookup(&mut self, session: &SessionId, now: Instant) {
        let Some((asking, found)) = self.lookups.read(session) else { return };
        let begun =
            found.and_then(|found| self.begin(&asking.request, Some(found), asking.origin, now));
        if let Err(refusal) = begun {
            self.refuse(asking.origin, &refusal, about_start(&asking.request));
        }
    }

    pub(crate) fn expire_lookups(&mut self, now: Instant) {
        for (asking, refusal) in self.lookups.expired(now) {
            self.refuse(asking.origin, &refusal, about_start(&asking.request));
        }
    }

    fn signal(&mut self, id: &SessionId, signal: Signal, now: Instant) -> Result<Reply, Refusal> {
        let session = self.table.get_mut(id).ok_or_else(|| Refusal::NoSession(id.clone()))?;
        match &mut session.state {
            State::Running(running) => {
                match signal {
                    Signal::Int => send(running, Unix::SIGINT),
                    Signal::Term => {
                        send(running, Unix::SIGTERM);
                        // The first one counts: repeating it must not put off the end.
                        if matches!(running.course, Course::Onward) {
                            running.course = Course::Stopping { kill_at: now + STOP_WITHIN };
                        }
                    }
                    Signal::Kill => self.kill(id, now),
                }
            }
            // It is being killed already.
            State::Ending(ending) if matches!(ending.outcome, Outcome::Exit { .. }) => {}
            State::Starting(_) | State::Abandoned(_) | State::Ending(_) | State::Exited { .. } => {
                return Err(Refusal::NoSession(id.clone()));
            }
        }
        let word = match signal {
            Signal::Term => "term",
            Signal::Int => "int",
            Signal::Kill => "kill",
        };
        let message = format!("session {id}: signal {word}");
        let entry = self.of_session(Kind::Signal, message, id).with("SYNTHESIS_SIGNAL", word);
        self.caused(entry, now);
        Ok(Reply::Now(Answer::Done {}))
    }

    fn list(&self, after: Option<&SessionId>) -> Reply {
        let (sessions, more) = self.table.page(after);
        Reply::Now(Answer::Sessions { sessions, more })
    }

    fn adopt(&mut self, session: SessionId, now: Instant) -> Result<Reply, Refusal> {
        match self.table.get(&session).map(|s| &s.state) {
            Some(State::Running(running)) => {
                let leader = running.leader.try_clone().map_err(|error| Refusal::Start {
                    step: "terminal",
                    errno: error.raw_os_error().unwrap_or(0),
                })?;
                let message = format!("session {session}: terminal handed over again");
                let entry = self.of_session(Kind::Adopted, message, &session);
                self.caused(entry, now);
                Ok(Reply::WithLeader(Answer::Adopted { session }, leader))
            }
            Some(
                State::Starting(_) | State::Abandoned(_) | State::Ending(_) | State::Exited { .. },
            )
            | None => Err(Refusal::NoSession(session)),
        }
    }

    fn forget(&mut self, session: &SessionId) -> Result<Reply, Refusal> {
        self.table.forget(session)?;
        Ok(Reply::Now(Answer::Done {}))
    }

    /// Reads the active connection.
    pub(crate) fn read_active(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some(active) = &self.doors.active else { return };
            let serial = active.serial;
            let result = match active.receive(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some((FromFrontd::Hello { .. }, _))) => Err(Broken::SecondHello),
                Ok(Some((FromFrontd::Request { id, call }, socket))) => {
                    let origin = Origin { connection: serial, request: id };
                    let about = about(&call);
                    match self.perform(call, socket, origin, now) {
                        Ok(Reply::Later) => {}
                        Ok(Reply::Now(answer)) => self.answer(origin, answer, None),
                        Ok(Reply::WithLeader(answer, leader)) => {
                            self.answer(origin, answer, Some(&leader));
                        }
                        Err(refusal) => self.refuse(origin, &refusal, about),
                    }
                    Ok(())
                }
                Err(broken) => Err(broken),
            };
            if let Err(broken) = result {
                return self.disconnect(&broken, now);
            }
        }
    }

    /// Reads a connection that has not said hello.
    pub(crate) fn read_greeting(&mut self, serial: u64, now: Instant) {
        let is_it = |greeting: &Greeting| greeting.connection.serial == serial;
        let Some(place) = self.doors.greetings.iter().position(is_it) else { return };
        let Some(greeting) = self.doors.greetings.get(place) else { return };
        let received = greeting.connection.receive(&mut self.buffer);
        if matches!(received, Ok(None)) {
            return;
        }
        let connection = self.doors.greetings.swap_remove(place).connection;
        match self.welcome(&connection, received) {
            Ok(()) => {
                let peer = connection.peer;
                let message = format!("frontd of uid {peer} connected");
                let entry = Entry::new(Kind::Hello, message).peer(peer);
                self.audit.caused(peer, &entry, now);
                self.doors.active = Some(connection);
            }
            Err(broken) => self.left(connection.peer, &broken, now),
        }
    }

    /// Both sides say hello; ours is said even to another version, so that the peer can name it.
    fn welcome(
        &self,
        connection: &Connection,
        received: Result<Option<(FromFrontd, Option<Foreign>)>, Broken>,
    ) -> Result<(), Broken> {
        let version = match received? {
            Some((FromFrontd::Hello { version }, _)) => version,
            Some((FromFrontd::Request { .. }, _)) | None => return Err(Broken::RequestBeforeHello),
        };
        connection.send(&FromSpawnd::Hello { version: VERSION }, None)?;
        if version != VERSION {
            return Err(Broken::Version(version));
        }
        if self.doors.active.is_some() {
            let answer = Refusal::InUse.answer();
            connection.send(&FromSpawnd::Answer { id: 0, answer }, None)?;
            return Err(Broken::InUse);
        }
        Ok(())
    }

    /// Answers the connection that asked, if it is still there.
    pub(crate) fn answer(&mut self, origin: Origin, answer: Answer, leader: Option<&OwnedFd>) {
        let packet = FromSpawnd::Answer { id: origin.request, answer };
        match &self.doors.active {
            Some(active) if active.serial == origin.connection => {
                let sent = active.send(&packet, leader.map(|fd| fd.as_fd()));
                if let Err(broken) = sent {
                    self.disconnect(&broken, Instant::now());
                }
            }
            Some(_) | None => {}
        }
    }

    /// Tells the active connection; whoever comes later learns it from `list`.
    pub(crate) fn tell(&mut self, event: Event) {
        let Some(active) = &self.doors.active else { return };
        if let Err(broken) = active.send(&FromSpawnd::Event(event), None) {
            self.disconnect(&broken, Instant::now());
        }
    }

    fn disconnect(&mut self, broken: &Broken, now: Instant) {
        let Some(active) = self.doors.active.take() else { return };
        self.left(active.peer, broken, now);
    }

    /// After a connection was dropped.
    pub(crate) fn left(&mut self, peer: u32, broken: &Broken, now: Instant) {
        let entry = Entry::new(Kind::Goodbye, "connection ended").peer(peer).reason(broken);
        // As refusals are: whoever may connect could otherwise fill the journal by leaving.
        self.audit.caused(peer, &entry, now);
        if self.doors.is_deserted() {
            self.close(now);
        }
    }
}

fn send(running: &Running, signal: Unix) {
    // A claude that ended a moment ago is reported by its exit.
    let _ = sys::pidfd::signal(running.child.pidfd.as_fd(), signal);
}

/// As shadow(5) counts days. A clock before 1970 lets nobody in whose account ever expires.
pub(crate) fn today() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(i64::MAX, |since| i64::try_from(since.as_secs() / 86_400).unwrap_or(i64::MAX))
}
