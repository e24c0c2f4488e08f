//! The process itself: one thread around one poll. Everything that comes in lands in a field
//! here; [`super::boot`] and [`super::turn`] wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::arguments::Arguments;
use super::conf::Conf;
use super::hooks::Hooks;
use super::records::Records;
use super::screen;
use super::server::Server;
use super::terminal::{self, Input, Terminal};
use super::wire::{self, Incoming, Push};

/// Messages that may wait for their turn; later ones are lost.
const QUEUE: usize = 10_000;

/// Why something could not be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// Esc during a turn.
    Interrupted,
    /// The process ends with this status.
    Exit(i32),
}

pub(super) struct Claude {
    pub(super) conf: Conf,
    pub(super) arguments: Arguments,
    /// What the file behind the system prompt held.
    pub(super) instructions: Option<String>,
    pub(super) terminal: Terminal,
    pub(super) signals: OwnedFd,
    pub(super) server: Option<Server>,
    pub(super) records: Records,
    pub(super) hooks: Hooks,
    /// The server's name: the tag's source.
    pub(super) name: String,
    pub(super) registered: bool,
    pub(super) queue: VecDeque<Push>,
    pub(super) keys: Vec<u8>,
    pub(super) escape: bool,
    /// The request that is waited for, and its answer.
    pub(super) awaited: Option<u64>,
    pub(super) answer: Option<Result<Value, Value>>,
    pub(super) next_id: u64,
    /// Replies to be sent without an id, each at its time.
    pub(super) late: Vec<(Instant, String)>,
    pub(super) lost_pushes: usize,
    pub(super) reads_terminal: bool,
    /// The terminal's size changed: what stands on it is to be drawn again.
    pub(super) resized: bool,
}

impl Claude {
    /// Waits until `done` holds, the deadline passes (false) or the turn is interrupted.
    pub(super) fn wait(
        &mut self,
        deadline: Option<Instant>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Halt> {
        loop {
            if done(self) {
                return Ok(true);
            }
            if self.escape {
                return Err(Halt::Interrupted);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            self.pump(deadline, false)?;
        }
    }

    pub(super) fn pause(&mut self, pause: Duration) -> Result<(), Halt> {
        if pause.is_zero() {
            return Ok(());
        }
        self.wait(Some(Instant::now() + pause), |_| false).map(|_| ())
    }

    /// Writes to the terminal, for as long as it takes.
    pub(super) fn draw(&mut self, text: &str) -> Result<(), Halt> {
        self.draw_bytes(text.as_bytes())
    }

    pub(super) fn draw_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Halt> {
        loop {
            bytes = &bytes[self.terminal.write_some(bytes)..];
            if bytes.is_empty() {
                return Ok(());
            }
            self.pump(None, true)?;
        }
    }

    /// One poll: takes in whatever is there.
    pub(super) fn pump(&mut self, deadline: Option<Instant>, to_write: bool) -> Result<(), Halt> {
        let ready = self.poll(deadline, to_write);
        if ready.signals {
            self.read_signals()?;
        }
        if ready.terminal {
            self.read_terminal()?;
        }
        if let Some(server) = self.server.as_mut().filter(|_| ready.server_input) {
            server.flush();
        }
        if ready.server_output {
            self.read_server();
        }
        Ok(())
    }

    fn poll(&self, deadline: Option<Instant>, to_write: bool) -> Ready {
        let mut terminal = PollFlags::empty();
        terminal.set(PollFlags::POLLIN, self.reads_terminal);
        terminal.set(PollFlags::POLLOUT, to_write);
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.terminal.as_fd(), terminal),
        ];
        if let Some((output, input)) = self.server.as_ref().and_then(Server::poll_fds) {
            fds.push(PollFd::new(output, PollFlags::POLLIN));
            fds.extend(input.map(|input| PollFd::new(input, PollFlags::POLLOUT)));
        }
        match poll(&mut fds, timeout(deadline)) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing to wait with is nothing to go on with.
            Err(_) => return Ready::default(),
        }
        let came = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        Ready {
            signals: !came(0).is_empty(),
            terminal: came(1)
                .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            server_output: !came(2).is_empty(),
            server_input: !came(3).is_empty(),
        }
    }

    fn read_signals(&mut self) -> Result<(), Halt> {
        let mut numbers = [0; 16];
        let count = nix::unistd::read(&self.signals, &mut numbers).unwrap_or(0);
        for &number in &numbers[..count] {
            match Signal::try_from(i32::from(number)) {
                Ok(Signal::SIGTERM) if !self.conf.ignores_sigterm => return Err(Halt::Exit(143)),
                Ok(Signal::SIGINT) if !self.conf.ignores_sigterm => return Err(Halt::Exit(0)),
                // The kernel sends it when the leader closes, and that is an orderly end.
                Ok(Signal::SIGHUP) if self.terminal.read() == Input::HungUp => {
                    return Err(Halt::Exit(0));
                }
                Ok(Signal::SIGHUP) => return Err(Halt::Exit(129)),
                Ok(Signal::SIGWINCH) => self.resized = true,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn read_terminal(&mut self) -> Result<(), Halt> {
        match self.terminal.read() {
            Input::HungUp => Err(Halt::Exit(0)),
            Input::Nothing => Ok(()),
            Input::Keys(keys) => {
                self.records
                    .debug(&format!("fake-claude: keys {:?}", String::from_utf8_lossy(&keys)));
                self.escape |= self.registered && terminal::has_escape(&keys);
                if !self.registered {
                    self.keys.extend(keys);
                }
                Ok(())
            }
        }
    }

    fn read_server(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let mut refused = Vec::new();
        server.receive(|line| match wire::read(line) {
            Incoming::Push(push) => self.take_push(push),
            Incoming::Answer { id, answer } if self.awaited == Some(id) => {
                self.awaited = None;
                self.answer = Some(answer);
            }
            Incoming::Request { id } => refused.push(id),
            Incoming::Answer { .. } | Incoming::Other => {}
        });
        for id in refused {
            server.send(&wire::refuse(&id));
        }
        self.server = Some(server);
    }

    fn take_push(&mut self, push: Push) {
        if !self.registered {
            return;
        }
        if !self.conf.quiet {
            let length = push.content.chars().count();
            let name = &self.name;
            self.records.debug(&format!(
                "MCP server \"{name}\": notifications/claude/channel ({length} chars)"
            ));
        }
        self.journal("push", &push);
        if self.lost_pushes > 0 {
            self.lost_pushes -= 1;
        } else if self.queue.len() < QUEUE {
            self.queue.push_back(push);
        }
    }

    pub(super) fn server_is_gone(&self) -> bool {
        self.server.as_ref().is_none_or(Server::is_gone)
    }

    pub(super) fn send(&mut self, line: &str) {
        if let Some(server) = &mut self.server {
            server.send(line);
        }
    }

    /// Sends a request and waits for its answer; `None` when the server is gone.
    pub(super) fn request(
        &mut self,
        id: u64,
        line: &str,
    ) -> Result<Option<Result<Value, Value>>, Halt> {
        self.awaited = Some(id);
        self.answer = None;
        self.send(line);
        self.wait(None, |claude| claude.answer.is_some() || claude.server_is_gone())?;
        self.awaited = None;
        Ok(self.answer.take())
    }

    /// The orderly end.
    pub(super) fn leave(&mut self) {
        self.hook("SessionEnd", None, None, &serde_json::json!({"reason": "other"}));
        if let Some(server) = &mut self.server {
            self.records.debug(&format!(
                "MCP server \"{}\": Sending SIGINT to MCP server process",
                self.name
            ));
            server.signal(Signal::SIGINT);
        }
        self.records.remove_state();
        // As much as the terminal takes: nobody may be reading any more.
        let _ = self.terminal.write_some(screen::FAREWELL.as_bytes());
    }
}

#[derive(Default)]
struct Ready {
    signals: bool,
    terminal: bool,
    server_output: bool,
    server_input: bool,
}

/// Rounded up, so that the deadline has passed when poll returns.
fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_micros().div_ceil(1000).min(60_000);
    u16::try_from(millis).map_or(PollTimeout::MAX, PollTimeout::from)
}
