//! One session's terminal from frontd's side: read always (a full pty would stop claude), drawn
//! into the screen model, start-up dialogs answered. After registration nothing is typed but Esc.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use proto::spawn::TerminalSize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::dialogs::{Dialogs, Look};
use super::redraw;
use super::screen::Screen;

/// Bytes of one read. A pty hands out at most 4 KiB at a time; a larger buffer gains nothing.
const READ: usize = 4096;
/// Bytes that are kept undrawn: several full redraws of the largest screen.
const UNSEEN: usize = 64 * 1024;
/// A screen that looks like an unknown dialog is believed when it has been still for this long.
const STILL: Duration = Duration::from_millis(400);
/// How long the last bytes of an ended process may take to be drawn.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// A terminal that takes no key for this long is hung.
const KEY_WITHIN: Duration = Duration::from_secs(1);

/// The leader of one pty, drained until the other side is gone.
pub struct Terminal {
    shared: Arc<Shared>,
    drain: JoinHandle<()>,
    redraw: Option<JoinHandle<()>>,
}

struct Shared {
    keys: tokio::sync::Mutex<pipe::Sender>,
    size: TerminalSize,
    /// Rung at each read.
    output: Notify,
    drawing: Mutex<Drawing>,
    /// Dialogs are answered only until the channel is registered.
    starting: AtomicBool,
    /// Half of what stands there may not have been drawn for us.
    redrawing: AtomicBool,
}

/// The screen as it was last looked at, and what came since.
struct Drawing {
    screen: Screen,
    /// The latest bytes. Drawing them costs far more than reading, and nobody looks at the screen
    /// of a session that works.
    unseen: VecDeque<u8>,
}

impl Drawing {
    fn keep(&mut self, bytes: &[u8]) {
        let over = (self.unseen.len() + bytes.len()).saturating_sub(UNSEEN);
        self.unseen.drain(..over.min(self.unseen.len()));
        self.unseen.extend(bytes);
    }

    fn quote(&mut self) -> String {
        let unseen: Vec<u8> = self.unseen.drain(..).collect();
        self.screen.feed(&unseen);
        self.screen.quote()
    }
}

impl Terminal {
    /// Starts to drain `leader`. `on_unknown` is called once, with the quoted screen, for a
    /// dialog that is not known.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn open(
        leader: OwnedFd,
        size: TerminalSize,
        policy_set_key: bool,
        on_unknown: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&leader, FcntlArg::F_GETFL)?);
        fcntl(&leader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // A pty leader polls, reads and writes as a pipe does.
        let keys = pipe::Sender::from_owned_fd_unchecked(leader.try_clone()?)?;
        let output = pipe::Receiver::from_owned_fd_unchecked(leader)?;
        let shared = Arc::new(Shared {
            keys: tokio::sync::Mutex::new(keys),
            size,
            output: Notify::new(),
            drawing: Mutex::new(Drawing { screen: Screen::new(size), unseen: VecDeque::new() }),
            starting: AtomicBool::new(true),
            redrawing: AtomicBool::new(false),
        });
        let drain = tokio::spawn(drain(output, Arc::clone(&shared), policy_set_key, on_unknown));
        Ok(Self { shared, drain, redraw: None })
    }

    /// The channel is registered: from now on the screen is only looked at.
    pub fn stop_answering(&self) {
        self.shared.starting.store(false, Ordering::Relaxed);
    }

    /// Types Esc, the one key after registration.
    pub fn press_esc(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            if let Err(error) = shared.press(b"\x1b").await {
                tracing::warn!(%error, "esc could not be typed");
            }
        });
    }

    /// Makes claude draw all of its screen again, for a leader whose earlier output went elsewhere.
    pub fn redraw(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.redrawing.store(true, Ordering::Relaxed);
        self.redraw = Some(tokio::spawn(async move {
            let leader = shared.keys.lock().await.as_fd().try_clone_to_owned();
            let resized = match leader {
                Ok(leader) => {
                    let resize = |cells| redraw::resize(&leader, cells);
                    redraw::provoke(shared.size, &shared.output, resize).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = resized {
                tracing::warn!(%error, "the terminal could not be resized");
            }
            shared.redrawing.store(false, Ordering::Relaxed);
        }));
    }

    /// The screen as text for people, after the process has ended.
    pub async fn last_words(&mut self) -> String {
        // Ends when the kernel reports the hangup; a process that kept the terminal is not waited for.
        let _ = timeout(LAST_WORDS, &mut self.drain).await;
        self.shared.lock().quote()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.drain.abort();
        if let Some(redraw) = &self.redraw {
            redraw.abort();
        }
    }
}

impl Shared {
    async fn press(&self, keys: &[u8]) -> std::io::Result<()> {
        let write = async { self.keys.lock().await.write_all(keys).await };
        timeout(KEY_WITHIN, write).await.map_err(std::io::Error::from)?
    }

    fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drain(
    mut output: pipe::Receiver,
    shared: Arc<Shared>,
    policy_set_key: bool,
    on_unknown: impl FnOnce(String) + Send + 'static,
) {
    let mut dialogs = Dialogs::default();
    let mut on_unknown = Some(on_unknown);
    let mut suspicion: Option<(Instant, String)> = None;
    let mut buffer = [0; READ];
    loop {
        let still = suspicion.as_ref().map(|(since, _)| *since + STILL);
        // Both arms are cancel-safe: one read and a timer.
        tokio::select! {
            read = output.read(&mut buffer) => {
                // EIO is the hangup: the last process that held the terminal is gone.
                let Ok(count @ 1..) = read else { return };
                let Some(bytes) = buffer.get(..count) else { return };
                shared.output.notify_waiters();
                let look = {
                    let mut drawing = shared.lock();
                    if shared.starting.load(Ordering::Relaxed) {
                        drawing.screen.feed(bytes);
                        dialogs.look(&drawing.screen, policy_set_key)
                    } else {
                        drawing.keep(bytes);
                        Look::Nothing
                    }
                };
                suspicion = match look {
                    Look::Nothing => None,
                    Look::Press { kind, keys } => {
                        tracing::debug!(?kind, "start-up dialog answered");
                        if let Err(error) = shared.press(keys).await {
                            tracing::warn!(%error, ?kind, "dialog could not be answered");
                        }
                        None
                    }
                    Look::Unknown { quoted } => Some((Instant::now(), quoted)),
                };
            }
            () = sleep_until(still.unwrap_or_else(Instant::now)), if still.is_some() => {
                if shared.redrawing.load(Ordering::Relaxed) {
                    suspicion = suspicion.map(|(_, quoted)| (Instant::now(), quoted));
                    continue;
                }
                if let (Some((_, quoted)), Some(report)) = (suspicion.take(), on_unknown.take()) {
                    report(quoted);
                }
            }
        }
    }
}
