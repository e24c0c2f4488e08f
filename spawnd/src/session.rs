//! The table of sessions: the states of one, who may be admitted, what is listed. No system call,
//! no clock.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use proto::ids::{ConversationId, SessionId, UnixUser};
use proto::limits;
use proto::spawn::{ExitCause, Listed, ListedState, Usage};

use crate::audit::{Entry, Kind};
use crate::folder::Owner;
use crate::notify::Inbox;
use crate::refusal::Refusal;
use crate::scope::Scope;
use crate::status::Status;

pub struct Session {
    pub conversation: ConversationId,
    pub user: UnixUser,
    pub owner: Owner,
    /// When its first process started, in ticks.
    pub start: u64,
    pub containment: Containment,
    /// Of the conversation; let go when no claude runs in it.
    pub lock: Option<OwnedFd>,
    pub state: State,
}

/// By what everything that a session starts is found again, and killed.
pub enum Containment {
    /// spawnd adopts orphans; they carry this mark ([`crate::process::mark_of`]).
    Family {
        mark: u64,
    },
    Scope(Scope),
}

pub enum State {
    /// launch walks; its record decides.
    Starting(Starting),
    /// claude was executed.
    Running(Running),
    /// The start was refused and answered so; launch waits to be reaped.
    Abandoned(Child),
    /// The first process is gone, something that it started may not be.
    Ending(Ending),
    /// Nothing is left but the news.
    Exited { cause: ExitCause, usage: Usage },
}

/// A process that is not known to be gone.
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub kin: Kin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// Not waited for yet, so that its number is its own.
    Own,
    /// Started by an earlier spawnd: another waits for it, and only its pidfd is sure.
    Taken,
}

pub struct Starting {
    pub child: Child,
    pub leader: OwnedFd,
    pub inbox: Inbox,
    pub status: Status,
    pub deadline: Instant,
    pub origin: Origin,
}

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub connection: u64,
    pub request: u64,
}

pub struct Running {
    pub child: Child,
    /// For `adopt`; never read here.
    pub leader: OwnedFd,
    pub resumed: bool,
    pub readiness: Readiness,
    pub course: Course,
}

pub enum Readiness {
    Awaited(Inbox),
    /// The process that said so.
    Ready(u32),
}

pub enum Course {
    Onward,
    /// It was told to end and is killed at this time.
    Stopping {
        kill_at: Instant,
    },
}

pub struct Ending {
    pub outcome: Outcome,
    /// Look for survivors again then, at the latest.
    pub look_at: Instant,
    pub pause: Duration,
}

/// What is said when all is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// claude ran: its exit is reported and kept. Until then `list` shows what was true last.
    Exit { cause: ExitCause, usage: Usage, last: ListedState },
    /// The start was refused: nobody knows this session.
    Nothing,
}

impl Session {
    /// Does its conversation have a claude? A refused start has none, or one that was killed before
    /// the refusal was told: the next start need not wait until it is reaped.
    fn holds_conversation(&self) -> bool {
        match &self.state {
            State::Starting(_) | State::Running(_) => true,
            State::Ending(ending) => ending.outcome != Outcome::Nothing,
            State::Abandoned(_) | State::Exited { .. } => false,
        }
    }

    /// An entry of the record about it.
    pub fn entry(&self, kind: Kind, message: impl Into<String>, id: &SessionId) -> Entry {
        Entry::new(kind, message).of(id, self.conversation, &self.user)
    }

    /// Has it a process still, or may have?
    pub fn is_live(&self) -> bool {
        match self.state {
            State::Starting(_) | State::Running(_) | State::Abandoned(_) | State::Ending(_) => true,
            State::Exited { .. } => false,
        }
    }

    /// The first process, until it was waited for.
    pub fn child(&self) -> Option<&Child> {
        match &self.state {
            State::Starting(starting) => Some(&starting.child),
            State::Running(running) => Some(&running.child),
            State::Abandoned(child) => Some(child),
            State::Ending(_) | State::Exited { .. } => None,
        }
    }

    pub fn mark(&self) -> Option<u64> {
        match &self.containment {
            Containment::Family { mark } => Some(*mark),
            Containment::Scope(_) => None,
        }
    }

    /// When time alone changes something here.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Starting(starting) => Some(starting.deadline),
            State::Running(running) => {
                let stop = match running.course {
                    Course::Onward => None,
                    Course::Stopping { kill_at } => Some(kill_at),
                };
                let listen = match &running.readiness {
                    Readiness::Awaited(inbox) => inbox.resumes_at(),
                    Readiness::Ready(_) => None,
                };
                stop.into_iter().chain(listen).min()
            }
            State::Ending(ending) => Some(ending.look_at),
            State::Abandoned(_) | State::Exited { .. } => None,
        }
    }

    /// As `list` shows it; a refused start is nobody's business, an ending one still runs.
    pub fn listed(&self) -> Option<ListedState> {
        match &self.state {
            State::Starting(_) => Some(ListedState::Starting {}),
            State::Running(running) => Some(ListedState::Running {
                pid: number(running.child.pid),
                resumed: running.resumed,
                ready: match running.readiness {
                    Readiness::Ready(pid) => Some(pid),
                    Readiness::Awaited(_) => None,
                },
            }),
            State::Ending(Ending { outcome: Outcome::Exit { last, .. }, .. }) => Some(last.clone()),
            State::Abandoned(_) | State::Ending(_) => None,
            &State::Exited { cause, usage } => Some(ListedState::Exited { cause, usage }),
        }
    }
}

/// A process id as the wire has it; the kernel's are positive.
pub fn number(pid: Pid) -> u32 {
    u32::try_from(pid.as_raw()).unwrap_or(0)
}

#[derive(Default)]
pub struct Table {
    sessions: BTreeMap<SessionId, Session>,
    /// Exits from oldest to newest.
    exits: VecDeque<SessionId>,
}

impl Table {
    /// May this session begin?
    ///
    /// # Errors
    /// When its id is taken or its conversation has a process.
    pub fn admit(
        &self,
        session: &SessionId,
        conversation: ConversationId,
        user: &UnixUser,
    ) -> Result<(), Refusal> {
        if self.sessions.contains_key(session) {
            return Err(Refusal::SessionUsed(session.clone()));
        }
        let holder = self.sessions.iter().find(|(_, other)| {
            other.holds_conversation() && other.conversation == conversation && other.user == *user
        });
        match holder {
            Some((session, _)) => {
                Err(Refusal::ConversationRuns { conversation, session: session.clone() })
            }
            None => Ok(()),
        }
    }

    pub fn insert(&mut self, id: SessionId, session: Session) {
        self.sessions.insert(id, session);
    }

    pub fn get(&self, id: &SessionId) -> Option<&Session> {
        self.sessions.get(id)
    }

    pub fn get_mut(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id)
    }

    /// Out of the table, to become its next state.
    pub fn take(&mut self, id: &SessionId) -> Option<Session> {
        self.sessions.remove(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.sessions.iter()
    }

    pub fn live(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.sessions.iter().filter(|(_, session)| session.is_live())
    }

    pub fn of_child(&self, pid: Pid) -> Option<SessionId> {
        let found = self.sessions.iter().find(|(_, s)| {
            s.child().is_some_and(|child| child.kin == Kin::Own && child.pid == pid)
        });
        found.map(|(id, _)| id.clone())
    }

    /// Keeps an exit; the oldest gives way.
    pub fn keep_exit(
        &mut self,
        id: SessionId,
        mut session: Session,
        cause: ExitCause,
        usage: Usage,
    ) {
        session.state = State::Exited { cause, usage };
        self.exits.push_back(id.clone());
        self.sessions.insert(id, session);
        if self.exits.len() > limits::KEPT_EXITS
            && let Some(oldest) = self.exits.pop_front()
        {
            self.sessions.remove(&oldest);
        }
    }

    /// # Errors
    /// When there is no such exit.
    pub fn forget(&mut self, id: &SessionId) -> Result<(), Refusal> {
        match self.sessions.get(id) {
            Some(session) if !session.is_live() => {
                self.sessions.remove(id);
                self.exits.retain(|kept| kept != id);
                Ok(())
            }
            Some(_) | None => Err(Refusal::NoSession(id.clone())),
        }
    }

    /// One page in the order of the ids, and whether there is more.
    pub fn page(&self, after: Option<&SessionId>) -> (Vec<Listed>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.sessions.range::<SessionId, _>((from, Bound::Unbounded));
        let mut listed = range.filter_map(|(id, session)| {
            Some(Listed {
                session: id.clone(),
                conversation: session.conversation,
                user: session.user.clone(),
                state: session.listed()?,
            })
        });
        let page = listed.by_ref().take(limits::LIST_PAGE).collect();
        (page, listed.next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::request;

    fn exited(conversation: ConversationId) -> Session {
        Session {
            conversation,
            user: UnixUser::new("al").unwrap(),
            owner: Owner { uid: 1, gid: 1 },
            start: 1,
            containment: Containment::Family { mark: 1 },
            lock: None,
            state: State::Exited { cause: ExitCause::Unknown {}, usage: Usage::default() },
        }
    }

    fn keep(table: &mut Table, count: usize) -> Vec<SessionId> {
        let ids: Vec<SessionId> = (0..count).map(|_| SessionId::random()).collect();
        for id in &ids {
            let session = exited(request().conversation);
            table.keep_exit(id.clone(), session, ExitCause::Code { code: 0 }, Usage::default());
        }
        ids
    }

    #[test]
    fn a_live_conversation_is_refused_and_an_exited_one_admitted() {
        let (mut table, request) = (Table::default(), request());
        let ending = |outcome| {
            let mut session = exited(request.conversation);
            let (look_at, pause) = (Instant::now(), Duration::from_millis(1));
            session.state = State::Ending(Ending { outcome, look_at, pause });
            session
        };
        table.insert(SessionId::random(), ending(Outcome::Nothing));
        let (cause, usage) = (ExitCause::Unknown {}, Usage::default());
        let session = ending(Outcome::Exit { cause, usage, last: ListedState::Starting {} });
        let first = SessionId::random();
        table.insert(first.clone(), session);
        let admit = |t: &Table| t.admit(&request.session, request.conversation, &request.user);
        assert!(matches!(admit(&table), Err(Refusal::ConversationRuns { .. })));
        let session = table.take(&first).unwrap();
        table.keep_exit(first.clone(), session, ExitCause::Unknown {}, Usage::default());
        assert_eq!(admit(&table), Ok(()));
        let again = table.admit(&first, request.conversation, &request.user);
        assert_eq!(again, Err(Refusal::SessionUsed(first)));
    }

    #[test]
    fn the_oldest_exit_gives_way() {
        let mut table = Table::default();
        let ids = keep(&mut table, limits::KEPT_EXITS + 2);
        assert!(table.get(ids.first().unwrap()).is_none());
        assert!(table.get(ids.get(1).unwrap()).is_none());
        assert!(table.get(ids.get(2).unwrap()).is_some());
        assert_eq!(table.iter().count(), limits::KEPT_EXITS);
    }

    #[test]
    fn pages_are_sorted_and_complete() {
        let mut table = Table::default();
        let mut ids = keep(&mut table, limits::LIST_PAGE * 2 + 1);
        ids.sort();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let (page, more) = table.page(after.as_ref());
            seen.extend(page.into_iter().map(|listed| listed.session));
            after = seen.last().cloned();
            if !more {
                break;
            }
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn an_exit_is_forgotten_once() {
        let mut table = Table::default();
        let id = keep(&mut table, 1).pop().unwrap();
        assert_eq!(table.forget(&id), Ok(()));
        assert_eq!(table.forget(&id), Err(Refusal::NoSession(id)));
    }

    #[test]
    fn a_full_page_fits_in_a_packet() {
        let mut table = Table::default();
        keep(&mut table, limits::LIST_PAGE);
        let (sessions, more) = table.page(None);
        let answer = proto::spawn::Answer::Sessions { sessions, more };
        let packet = proto::spawn::FromSpawnd::Answer { id: u64::MAX, answer };
        assert!(proto::spawn::encode(&packet).len() * 2 < limits::SPAWN_PACKET);
    }
}
