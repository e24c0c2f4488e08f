//! The one loop: takes what happens, one thing at a time, asks the voice, and does what it says.
//! Everything that a session says passes here, so its order is the order in which it left.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::bridge::{FromFrontd, TokenUsage};
use proto::hook::HookBody;
use proto::ids::MessageId;
use proto::limits::USAGE_WITHIN;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::alarm::Alarm;
use crate::evidence::debug_log::{self, Verdict};
use crate::evidence::state;
use crate::evidence::transcript::{Rest, Transcript};
use crate::files::Files;
use crate::log::log;
use crate::mcp::Shown;
use crate::testimony::{self, Handed};
use crate::voice::{Action, Answer, CallId, Input, Reply, Voice};

/// Things that happened and were not looked at yet; whoever has more to say waits.
pub(crate) const EVENTS: usize = 64;

/// How often the state file is read while somebody waits for idle: at first, and after a while.
const IDLE_EVERY: Duration = Duration::from_millis(50);
const IDLE_LATER: Duration = Duration::from_secs(1);
/// After this many quick looks come the slow ones, and after those nobody waits any more.
const IDLE_QUICK_LOOKS: u32 = 1_200;
const IDLE_LOOKS: u32 = IDLE_QUICK_LOOKS + 3_600;

/// How often the transcript is read for the rest of a turn's tokens.
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// The debug log's size is looked at once in so many messages and replies, and at each hook and
/// ping.
const LOOK_EVERY: u32 = 16;

pub(crate) enum Event {
    /// A connection to frontd is up; frames for it go here.
    Linked(mpsc::Sender<String>),
    Unlinked,
    Frame(FromFrontd),
    Call {
        reply: Reply,
        answer: oneshot::Sender<Answer>,
    },
    Hook {
        handed: Handed,
        taken: oneshot::Sender<()>,
    },
    Verdict(Verdict),
    Idle,
    Counted {
        message_id: MessageId,
        usage: TokenUsage,
    },
    /// Nothing comes after this.
    End,
}

/// The places that the pump looks at and writes to.
pub(crate) struct Places {
    pub(crate) debug_file: PathBuf,
    pub(crate) state_file: PathBuf,
    pub(crate) transcript: Transcript,
    /// Messages on their way to claude.
    pub(crate) pushes: mpsc::Sender<Shown>,
    pub(crate) files: Files,
    /// For tasks that report back.
    pub(crate) events: mpsc::Sender<Event>,
}

pub(crate) struct Pump {
    voice: Voice,
    places: Places,
    link: Option<mpsc::Sender<String>>,
    calls: HashMap<CallId, oneshot::Sender<Answer>>,
    next_call: CallId,
    watching: Option<AbortHandle>,
    /// Milliseconds since 1970 of the last push.
    pushed: u64,
    /// Messages and replies so far.
    activity: u32,
}

impl Pump {
    pub(crate) fn new(voice: Voice, places: Places) -> Self {
        Self {
            voice,
            places,
            link: None,
            calls: HashMap::new(),
            next_call: 0,
            watching: None,
            pushed: 0,
            activity: 0,
        }
    }

    /// Runs until [`Event::End`].
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut alarm = Alarm::default();
        loop {
            alarm.set(self.voice.deadline());
            // Both arms are cancel-safe: a receive that did not complete took nothing.
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::End) | None => break,
                    Some(event) => self.happened(event),
                },
                () = alarm.rings() => self.say(Input::Tick),
            }
        }
        self.stop_watching();
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Linked(link) => {
                self.link = Some(link);
                self.say(Input::Connected {
                    idle: state::is_idle(&self.places.state_file, self.pushed),
                });
            }
            Event::Unlinked => {
                self.link = None;
                self.say(Input::Disconnected);
            }
            Event::Frame(frame) => {
                let (push, ping) = (
                    matches!(frame, FromFrontd::Inbound { .. }),
                    matches!(frame, FromFrontd::Ping {}),
                );
                self.say(Input::Frame(frame));
                if push {
                    self.active();
                } else if ping {
                    self.look_at_log();
                }
            }
            Event::Call { reply, answer } => self.called(reply, answer),
            Event::Hook { handed, taken } => {
                self.hooked(handed);
                // It has its place now; the hook process may be gone already.
                let _told = taken.send(());
            }
            Event::Verdict(Verdict::Registered) => self.say(Input::Registered),
            Event::Verdict(Verdict::Skipped { reason }) => self.say(Input::Skipped { reason }),
            Event::Idle => self.say(Input::Idle),
            Event::Counted { message_id, usage } => self.say(Input::Counted { message_id, usage }),
            Event::End => {}
        }
    }

    fn called(&mut self, reply: Reply, answer: oneshot::Sender<Answer>) {
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, answer);
        let usage = if reply.last { self.places.transcript.usage() } else { None };
        self.say(Input::Reply { call, reply, usage });
        self.active();
    }

    fn hooked(&mut self, handed: Handed) {
        let Some(body) = testimony::read(handed) else {
            log!("a hook that says nothing was ignored");
            return;
        };
        if let Some(path) = testimony::transcript(&body) {
            self.places.transcript.is_at(path);
        }
        let usage = match &body {
            HookBody::Stop { .. } | HookBody::StopFailure { .. } => self.places.transcript.usage(),
            HookBody::UserPromptSubmit { .. }
            | HookBody::SessionStart {}
            | HookBody::PreToolUse { .. }
            | HookBody::PostToolUse { .. }
            | HookBody::PermissionRequest { .. }
            | HookBody::MessageDisplay { .. }
            | HookBody::PreCompact {}
            | HookBody::PostCompact {}
            | HookBody::Other => None,
        };
        self.say(Input::Hook { body, usage });
        self.look_at_log();
    }

    /// The debug log is looked after when something happens, never by a clock.
    fn look_at_log(&self) {
        if self.voice.is_registered() {
            debug_log::bound(&self.places.debug_file);
        }
    }

    /// Messages and replies come by thousands; claude writes little between two of them.
    fn active(&mut self) {
        self.activity = self.activity.wrapping_add(1);
        if self.activity.is_multiple_of(LOOK_EVERY) {
            self.look_at_log();
        }
    }

    fn say(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.voice.input(Instant::now(), input, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send(frame) => {
                // A connection that takes nothing any more is given up; the outbox keeps what it
                // did not take.
                if self.link.as_ref().is_some_and(|link| link.try_send(frame).is_err()) {
                    self.link = None;
                }
            }
            Action::HangUp(why) => {
                log!("hanging up: {why}");
                self.link = None;
            }
            Action::Keep(piece) => {
                let kept = self.places.files.keep(&piece);
                if let Err(error) = &kept {
                    log!("a file of a message: {error}");
                }
                let (length, last, kept) = (piece.data.len(), piece.last, kept.is_ok());
                self.say(Input::Kept { length, last, kept });
            }
            Action::Discard(message) => self.places.files.forget(&message),
            Action::Push { content, meta, files, alone } => {
                self.places.transcript.pushed(alone, Some(&meta.message_id));
                self.pushed = now_ms();
                let files = self.places.files.attributes(&meta.message_id, &files);
                // claude does not read: the receipt will be missed, and frontd told so.
                let _queued = self.places.pushes.try_send(Shown { content, meta, files });
            }
            Action::Count(message) => {
                if let Some(rest) = self.places.transcript.rest(message.as_ref()) {
                    tokio::spawn(count(rest, self.places.events.clone()));
                }
            }
            Action::Answer { call, answer } => {
                if let Some(waiting) = self.calls.remove(&call) {
                    // claude may have cancelled the call.
                    let _told = waiting.send(answer);
                }
            }
            Action::Announce => {
                if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
                    log!("cannot tell spawnd that the session is ready: {error}");
                }
            }
            Action::Seek(message) => {
                let found = self.places.transcript.ever_had(&message.meta.message_id);
                self.say(Input::Sought { message, found });
            }
            Action::Search(message) => {
                let found = self.places.transcript.has(&message);
                self.say(Input::Searched { message, found });
            }
            Action::WatchIdle => self.watch_idle(),
            Action::StopWatching => self.stop_watching(),
            Action::Note(note) => log!("{note}"),
        }
    }

    fn watch_idle(&mut self) {
        self.stop_watching();
        let (file, pushed) = (self.places.state_file.clone(), self.pushed);
        let events = self.places.events.clone();
        let watch = tokio::spawn(async move {
            for look in 0..IDLE_LOOKS {
                if state::is_idle(&file, pushed) {
                    // The pump is gone: nobody waits.
                    let _told = events.send(Event::Idle).await;
                    return;
                }
                sleep(if look < IDLE_QUICK_LOOKS { IDLE_EVERY } else { IDLE_LATER }).await;
            }
        });
        self.watching = Some(watch.abort_handle());
    }

    fn stop_watching(&mut self) {
        if let Some(watch) = self.watching.take() {
            watch.abort();
        }
    }
}

/// The turn is over; the CLI writes its last message down some time later. Ends by itself.
async fn count(mut rest: Rest, events: mpsc::Sender<Event>) {
    let until = Instant::now() + USAGE_WITHIN;
    while Instant::now() < until {
        sleep(COUNT_EVERY).await;
        if let Some((message_id, usage)) = rest.exact() {
            // The pump is gone: nobody asks any more.
            let _told = events.send(Event::Counted { message_id, usage }).await;
            return;
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
