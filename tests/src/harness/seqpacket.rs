//! The raw client of spawnd's socket: whole packets, valid or not, with or without descriptors.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, UnixAddr, recvmsg, sendmsg, shutdown,
};
use proto::ids::SessionId;
use proto::limits;
use proto::spawn::{
    Answer, Call, Event, ExitCause, FromFrontd, FromSpawnd, Listed, RefusalCode, Signal, Spawn,
    VERSION, decode, encode,
};

use super::spawnd::PATIENCE;

pub struct Client {
    pub socket: OwnedFd,
    next: u64,
    events: VecDeque<Event>,
}

/// What a wait for a packet came to.
#[derive(Debug)]
pub enum Incoming {
    Packet(FromSpawnd, Vec<OwnedFd>),
    /// The daemon hung up.
    End,
    Silence,
}

/// A claude that was started.
#[derive(Debug)]
pub struct Started {
    pub session: SessionId,
    pub pid: u32,
    pub leader: OwnedFd,
}

impl Drop for Client {
    /// Hangs up even if a child that another test is just forking holds a copy of the socket.
    fn drop(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl Client {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, next: 1, events: VecDeque::new() }
    }

    /// Says hello; `false` when the daemon hung up or is in use.
    pub fn try_hello(&mut self) -> bool {
        if self.try_send(&encode(&FromFrontd::Hello { version: VERSION })).is_err() {
            return false;
        }
        let Incoming::Packet(FromSpawnd::Hello { version: VERSION }, _) = self.wait(PATIENCE)
        else {
            return false;
        };
        // A refusal `in_use` would follow the hello; an answer to a request tells otherwise.
        let id = self.ask(Call::List { after: None });
        loop {
            match self.wait(PATIENCE) {
                Incoming::Packet(FromSpawnd::Answer { id: found, .. }, _) if found == id => {
                    return true;
                }
                Incoming::Packet(FromSpawnd::Event(event), _) => self.events.push_back(event),
                Incoming::Packet(..) | Incoming::End | Incoming::Silence => return false,
            }
        }
    }

    /// One packet of any bytes.
    ///
    /// # Errors
    /// What send(2) answers; EPIPE when the daemon hung up.
    pub fn try_send(&self, bytes: &[u8]) -> nix::Result<()> {
        self.try_send_with(bytes, &[])
    }

    /// # Errors
    /// What sendmsg(2) answers.
    pub fn try_send_with(&self, bytes: &[u8], fds: &[i32]) -> nix::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &parts, rights, flags, None).map(|_| ())
    }

    /// # Panics
    /// When the daemon hung up.
    pub fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).expect("the daemon listens");
    }

    /// The next packet, its end, or nothing within `time`.
    ///
    /// # Panics
    /// When what came is not this protocol.
    pub fn wait(&mut self, time: Duration) -> Incoming {
        if !readable(&self.socket, time) {
            return Incoming::Silence;
        }
        let mut buffer = vec![0; limits::SPAWN_PACKET];
        let mut control = nix::cmsg_space!([i32; 16]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received =
            recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let (len, fds) = match received {
            Ok(received) => {
                let rights = received.cmsgs().expect("control data is whole");
                let fds = rights.flat_map(|message| {
                    if let ControlMessageOwned::ScmRights(fds) = message { fds } else { Vec::new() }
                });
                // SAFETY: the kernel made these descriptors for us a moment ago; nothing else
                // knows their numbers.
                let fds = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
                (received.bytes, fds)
            }
            // A socket that was closed with our packets unread.
            Err(Errno::ECONNRESET) => return Incoming::End,
            Err(errno) => panic!("recvmsg: {errno}"),
        };
        match len {
            0 => Incoming::End,
            len => Incoming::Packet(decode(&buffer[..len]).expect("a packet"), fds),
        }
    }

    /// Does the daemon hang up, whatever it says before?
    pub fn ends(&mut self) -> bool {
        loop {
            match self.wait(PATIENCE) {
                Incoming::Packet(..) => {}
                Incoming::End => return true,
                Incoming::Silence => return false,
            }
        }
    }

    pub fn ask(&mut self, call: Call) -> u64 {
        let id = self.next;
        self.next += 1;
        self.send(&encode(&FromFrontd::Request { id, call }));
        id
    }

    /// # Panics
    /// When no answer to `id` comes.
    pub fn answer_to(&mut self, id: u64) -> (Answer, Vec<OwnedFd>) {
        loop {
            match self.wait(PATIENCE) {
                Incoming::Packet(FromSpawnd::Answer { id: found, answer }, fds) if found == id => {
                    return (answer, fds);
                }
                Incoming::Packet(FromSpawnd::Event(event), _) => self.events.push_back(event),
                other @ (Incoming::Packet(..) | Incoming::End | Incoming::Silence) => {
                    panic!("no answer: {other:?}")
                }
            }
        }
    }

    pub fn call(&mut self, call: Call) -> (Answer, Vec<OwnedFd>) {
        let id = self.ask(call);
        self.answer_to(id)
    }

    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the answer is another one.
    pub fn spawn(&mut self, request: &Spawn) -> Result<Started, (RefusalCode, String)> {
        match self.call(Call::Spawn(Box::new(request.clone()))) {
            (Answer::Started { session, pid, .. }, fds) => {
                let [leader] = fds.try_into().expect("exactly one descriptor");
                Ok(Started { session, pid, leader })
            }
            (Answer::Refused { code, message }, fds) => {
                assert!(fds.is_empty());
                Err((code, message))
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    /// The refusal of a call that must be refused.
    ///
    /// # Panics
    /// When it is not.
    pub fn refusal(&mut self, call: Call) -> RefusalCode {
        let answer = self.call(call).0;
        let Answer::Refused { code, .. } = answer else { panic!("not refused: {answer:?}") };
        code
    }

    /// # Panics
    /// When the call is refused.
    pub fn signal(&mut self, session: &SessionId, signal: Signal) {
        let call = Call::Signal { session: session.clone(), signal };
        assert_eq!(self.call(call).0, Answer::Done {});
    }

    /// The next event, or `None` within `time`.
    ///
    /// # Panics
    /// When the connection ends or another packet comes.
    pub fn event(&mut self, time: Duration) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match self.wait(time) {
            Incoming::Packet(FromSpawnd::Event(event), _) => Some(event),
            Incoming::Silence => None,
            other @ (Incoming::Packet(..) | Incoming::End) => panic!("no event: {other:?}"),
        }
    }

    /// The exit of this session; other events are dropped.
    ///
    /// # Panics
    /// When it does not come.
    pub fn exit_of(&mut self, session: &SessionId) -> ExitCause {
        loop {
            match self.event(PATIENCE).expect("an exit") {
                Event::Exited { session: found, cause, .. } if found == *session => return cause,
                Event::Exited { .. } | Event::Ready { .. } => {}
            }
        }
    }

    /// Asks for the end and waits for it.
    pub fn end(&mut self, session: &SessionId) -> ExitCause {
        self.signal(session, Signal::Kill);
        self.exit_of(session)
    }

    /// # Panics
    /// When it is not answered.
    pub fn list(&mut self) -> Vec<Listed> {
        let answer = self.call(Call::List { after: None }).0;
        let Answer::Sessions { sessions, .. } = answer else { panic!("{answer:?}") };
        sessions
    }
}

/// # Panics
/// When poll(2) fails.
pub fn readable(fd: &OwnedFd, time: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let time = PollTimeout::try_from(time).expect("a time that fits");
    poll(&mut fds, time).expect("poll") == 1
}
