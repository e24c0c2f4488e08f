//! The connection's task: connects again and again, compares lists after each connect, then passes
//! on what either side says. A lost connection ends no session and forgets none.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::ids::SessionId;
use proto::limits;
use proto::spawn::{
    Answer, Call, Event, ExitCause, FromSpawnd, Listed, ListedState, RefusalCode, Signal, Usage,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_seqpacket::UnixSeqpacket;

use super::link::{Link, receive};
use super::{Address, Answered, Error, Request, chain};
use crate::session::directory::Directory;
use crate::session::machine::{FromProcess, Input};
use crate::session::message::Message;

/// Between tries to reach spawnd.
const RETRY: Duration = Duration::from_millis(200);
/// Between tries to settle a session that spawnd still starts. It has no event for us.
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// spawnd gives a start up after 20 s; what is not settled by then never will be.
const SETTLE_WITHIN: Duration = Duration::from_secs(25);

/// The connection's side of the handle.
pub struct Connection {
    requests: mpsc::Receiver<Request>,
    connected: watch::Sender<bool>,
    connects: Arc<AtomicU64>,
    directory: Arc<Directory>,
    /// The latest connection came so far that it served.
    was_up: bool,
}

/// Which troubles were told since the latest connection that served. A spawnd that another frontd
/// has closes in more than one way.
#[derive(Debug, Default)]
struct Told(BTreeSet<String>);

/// Kinds of trouble in one stretch; there are far fewer.
const TROUBLES: usize = 16;

impl Told {
    /// Shall it be told? `was_up`: it ended a connection that served.
    fn is_news(&mut self, was_up: bool, error: String) -> bool {
        if was_up {
            self.0.clear();
        }
        self.0.len() < TROUBLES && self.0.insert(error)
    }
}

/// Sessions that are to be adopted or ended, and were not yet: spawnd was still starting them.
type Unsettled = HashMap<SessionId, Instant>;

impl Connection {
    pub(super) fn new(
        requests: mpsc::Receiver<Request>,
        connected: watch::Sender<bool>,
        connects: Arc<AtomicU64>,
        directory: Arc<Directory>,
    ) -> Self {
        Self { requests, connected, connects, directory, was_up: false }
    }

    /// Serves until spawnd is gone for good: the dev pair at the first loss, a path never.
    pub async fn serve(mut self, address: Address) -> Error {
        match address {
            Address::Connected(socket) => self.until_lost(&socket).await,
            Address::Path(path) => {
                let mut told = Told::default();
                loop {
                    let error = match UnixSeqpacket::connect(&path).await {
                        Ok(socket) => self.until_lost(&socket).await,
                        Err(error) => Error::Connect(error),
                    };
                    // Tried again five times a second, told when something has changed.
                    if told.is_news(std::mem::take(&mut self.was_up), chain(&error)) {
                        let error = chain(&error);
                        tracing::warn!(%error, path = %path.display(), "spawnd is away");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    pub(super) async fn until_lost(&mut self, socket: &UnixSeqpacket) -> Error {
        let result = self.converse(socket).await;
        self.connected.send_replace(false);
        match result {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn converse(
        &mut self,
        socket: &UnixSeqpacket,
    ) -> Result<std::convert::Infallible, Error> {
        let mut link = Link::new(socket);
        link.greet().await?;
        let mut unsettled = self.compare(&mut link).await?;
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.connected.send_replace(true);
        self.was_up = true;
        tracing::info!("connected to spawnd");
        let mut buffer = vec![0; limits::SPAWN_PACKET + 1];
        let mut look = Instant::now() + SETTLE_EVERY;
        loop {
            // Every arm is cancel-safe: a datagram is received whole or not at all; a queue; a
            // timer.
            tokio::select! {
                packet = receive(socket, &mut buffer) => {
                    let (said, leader) = packet?;
                    match said {
                        FromSpawnd::Hello { .. } => return Err(Error::OutOfTurn),
                        FromSpawnd::Answer { id, answer } => {
                            self.note_start(&answer);
                            let own = link.answered(id, (answer, leader)).await?;
                            if let Some((session, answered)) = own {
                                self.settled(session, answered, &mut unsettled).await;
                            }
                        }
                        FromSpawnd::Event(event) => {
                            if let Some(forget) = self.unread(&event) {
                                link.ask(Request { call: forget, socket: None, answer: None }).await?;
                            }
                            self.pass_on(event).await;
                        }
                    }
                }
                Some(request) = self.requests.recv() => link.ask(request).await?,
                () = sleep_until(look), if !unsettled.is_empty() => {
                    for session in unsettled.keys() {
                        link.settle(session, self.task(session.clone())).await?;
                    }
                    look = Instant::now() + SETTLE_EVERY;
                }
            }
        }
    }

    /// Nobody will read the exit of a session that nobody knows.
    fn unread(&self, event: &Event) -> Option<Call> {
        match event {
            Event::Exited { session, .. } if self.directory.door(session).is_none() => {
                Some(Call::Forget { session: session.clone() })
            }
            Event::Exited { .. } | Event::Ready { .. } => None,
        }
    }

    /// A start that is known counts from now on as alive, whenever its actor comes to hear of it.
    fn note_start(&self, answer: &Answer) {
        if let Answer::Started { session, .. } = answer
            && let Some(door) = self.directory.door(session)
        {
            door.set_started();
        }
    }

    /// Ends what frontd does not know, takes over what it knows without a terminal, and tells
    /// sessions what they missed.
    async fn compare(&self, link: &mut Link<'_>) -> Result<Unsettled, Error> {
        let mut events = Vec::new();
        let mut unsettled = Unsettled::new();
        let listed = link.list(&mut events).await?;
        self.tell_the_lost(&listed).await;
        let until = Instant::now() + SETTLE_WITHIN;
        for Listed { session, state, .. } in listed {
            let door = self.directory.door(&session);
            match state {
                ListedState::Exited { .. } if door.is_none() => {
                    link.call(Call::Forget { session }, &mut events).await?;
                }
                ListedState::Exited { cause, usage } => {
                    self.pass_on(Event::Exited { session, cause, usage }).await;
                }
                ListedState::Starting {} => {
                    if door.as_ref().is_none_or(|door| !door.is_served()) {
                        unsettled.insert(session, until);
                    }
                }
                ListedState::Running { ready, .. } => {
                    if let Some(pid) = ready {
                        self.pass_on(Event::Ready { session: session.clone(), pid }).await;
                    }
                    if door.as_ref().is_none_or(|door| !door.is_served()) {
                        let task = self.task(session.clone());
                        let answered = link.call(task, &mut events).await?;
                        unsettled.insert(session.clone(), until);
                        self.settled(session, answered, &mut unsettled).await;
                    }
                }
            }
        }
        for event in events {
            self.pass_on(event).await;
        }
        Ok(unsettled)
    }

    /// Sessions of ours that spawnd does not know any more.
    async fn tell_the_lost(&self, listed: &[Listed]) {
        let alive: BTreeSet<&SessionId> = listed.iter().map(|entry| &entry.session).collect();
        for door in self.directory.processes() {
            if door.is_started() && !alive.contains(&door.process) {
                let (process, cause) = (door.process.clone(), ExitCause::Unknown {});
                self.tell(&door.process, Message::Exited { process, cause }).await;
            }
        }
    }

    /// What is to be done about a live session that nobody serves. A session is asked to end before
    /// it is killed, so that claude can write its files; spawnd kills it 5 s later.
    fn task(&self, session: SessionId) -> Call {
        match self.directory.door(&session) {
            Some(door) if door.is_started() => Call::Adopt { session },
            // A door that is not started: the answer to its spawn went down with a connection, and
            // its actor was told that the start failed.
            Some(_) | None => {
                tracing::info!(%session, "ending a process that nobody here knows");
                Call::Signal { session, signal: Signal::Term }
            }
        }
    }

    async fn settled(&self, session: SessionId, answered: Answered, unsettled: &mut Unsettled) {
        let late = unsettled.get(&session).is_none_or(|until| *until <= Instant::now());
        match answered {
            (Answer::Adopted { .. }, Some(leader)) => {
                unsettled.remove(&session);
                self.hand_over(session, leader).await;
            }
            (Answer::Done {}, _) => {
                unsettled.remove(&session);
            }
            (Answer::Refused { code, message }, _) => {
                if !late {
                    return;
                }
                tracing::warn!(%session, ?code, message, "a session could not be taken over");
                unsettled.remove(&session);
                if code == RefusalCode::NoSession {
                    let (process, cause) = (session.clone(), ExitCause::Unknown {});
                    self.tell(&session, Message::Exited { process, cause }).await;
                }
            }
            (
                Answer::Verified { .. }
                | Answer::Adopted { .. }
                | Answer::Started { .. }
                | Answer::Sessions { .. },
                _,
            ) => {
                tracing::warn!(%session, "spawnd gave another answer than asked for");
                unsettled.remove(&session);
            }
        }
    }

    async fn hand_over(&self, process: SessionId, leader: OwnedFd) {
        let Some(door) = self.directory.door(&process) else { return };
        if door.needs_leader() {
            door.set_served();
            tracing::info!(session = %process, "taken over");
            let message = Message::Adopted { process, leader };
            // An actor that is gone has no use for it.
            let _ = door.inbox.send(message).await;
        }
    }

    async fn pass_on(&self, event: Event) {
        match event {
            Event::Ready { session, pid } => {
                let said = FromProcess::ReadyPid(pid);
                self.tell(&session, Message::Input(Input::Of(session.clone(), said))).await;
            }
            Event::Exited { session, cause, usage } => {
                let Usage { user_micros, system_micros, max_rss_kib } = usage;
                tracing::info!(%session, %cause, user_micros, system_micros, max_rss_kib, "exited");
                self.tell(&session, Message::Exited { process: session.clone(), cause }).await;
            }
        }
    }

    async fn tell(&self, process: &SessionId, message: Message) {
        if let Some(door) = self.directory.door(process) {
            // An actor that is gone has no use for it.
            let _ = door.inbox.send(message).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_when_it_changes_and_after_a_connection_again() {
        let mut told = Told::default();
        let mut news = |was_up, error: &str| told.is_news(was_up, error.to_owned());
        assert!(news(false, "refused") && !news(false, "refused"));
        assert!(news(false, "in use") && news(false, "closed"));
        for _ in 0..10 {
            assert!(!news(false, "in use") && !news(false, "closed"), "by turns");
        }
        assert!(news(true, "closed") && !news(false, "closed") && news(false, "refused"));
        let kinds = (0..100).filter(|n| news(false, &n.to_string())).count();
        assert!(kinds < TROUBLES, "{kinds}");
    }
}
