//! `channel` as claude starts it: reads the environment, starts the parts, waits for the end of
//! standard input or a signal, and says its last word.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, umask};
use rmcp::service::Peer;
use rmcp::{RoleServer, ServiceExt};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::evidence::debug_log::{Follower, Verdict};
use crate::evidence::transcript::Transcript;
use crate::evidence::{settings, state};
use crate::files::Files;
use crate::log::log;
use crate::pump::{EVENTS, Event, Places, Pump};
use crate::session::Session;
use crate::voice::{Identity, Voice};
use crate::{bridge, collector, mcp, pushes, stdio};

/// What is still to be said when the session ends gets this long.
const LAST_WORD: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("environment: {0}")]
    Environment(#[from] crate::session::BadEnvironment),
    #[error("runtime: {0}")]
    Runtime(std::io::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
    #[error("standard input and output: {0}")]
    Stdio(std::io::Error),
    #[error("mcp: claude did not open the session")]
    Unopened,
}

pub(crate) fn run() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Error> {
    let session =
        Session::from_environment(|name| std::env::var(name).ok(), std::env::current_dir())?;
    // Whatever this process makes, the hooks' socket, is for its user alone.
    umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
    // One thread: the order of events is the order in which they were read.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let hook_socket = session.hook_socket.clone();
    let ended = runtime.block_on(live(session));
    // Gone already when binding failed.
    let _removed = std::fs::remove_file(hook_socket);
    // Without waiting for a thread that may be stuck in a read of standard input.
    runtime.shutdown_background();
    ended
}

async fn live(session: Session) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(Error::Signals)?;
    // Before claude is answered: what it logs about this server comes after.
    let follower = Follower::new(&session.debug_file);
    let (events, happening) = mpsc::channel(EVENTS);
    let (hooks, refusal) = hooks(&session);
    let mut tasks = JoinSet::new();
    if let Some(listener) = hooks {
        tasks.spawn(collector::run(listener, events.clone()));
    }
    match refusal {
        Some(reason) => drop(events.send(Event::Verdict(Verdict::Skipped { reason })).await),
        None => drop(tasks.spawn(follow(follower, events.clone()))),
    }
    let (pushing, to_push) = mpsc::channel(pushes::OPEN);
    let (opened, peer) = oneshot::channel();
    tasks.spawn(push(peer, to_push));
    let target = bridge::Target { path: session.bridge.clone(), uid: session.frontd_uid };
    let bridge = tokio::spawn(bridge::run(target, events.clone()));
    let pump = tokio::spawn(pump(session, pushing, events.clone()).run(happening));

    let server = mcp::Server::new(events.clone());
    let transport = stdio::transport().map_err(Error::Stdio)?;
    let ended = tokio::select! {
        ended = converse(server, transport, opened) => ended,
        () = signals.any() => Ok(()),
    };

    // The pump takes what came before this, the bridge sends what the pump let go.
    let farewell = async {
        drop(events.send(Event::End).await);
        drop(pump.await);
        drop(bridge.await);
    };
    let _said = timeout(LAST_WORD, farewell).await;
    tasks.abort_all();
    ended
}

async fn converse(
    server: mcp::Server,
    transport: stdio::Patient,
    opened: oneshot::Sender<Peer<RoleServer>>,
) -> Result<(), Error> {
    // Its error quotes the client's message: not for the log.
    let service = server.serve(transport).await.map_err(|_| Error::Unopened)?;
    let _handed = opened.send(service.peer().clone());
    let _reason = service.waiting().await;
    Ok(())
}

/// The listener for hooks, and why claude's hooks cannot work, if they should and cannot.
fn hooks(session: &Session) -> (Option<UnixListener>, Option<String>) {
    if !session.hooks {
        return (None, None);
    }
    match collector::bind(&session.hook_socket) {
        Ok(listener) => (Some(listener), settings::hooks_off(&session.config_dir)),
        Err(error) => (None, Some(format!("the hooks' socket cannot be bound: {error}"))),
    }
}

fn pump(session: Session, pushes: mpsc::Sender<mcp::Shown>, events: mpsc::Sender<Event>) -> Pump {
    let transcript = Transcript::new(&session.config_dir, &session.workspace, session.conversation);
    let places = Places {
        debug_file: session.debug_file,
        state_file: state::path(&session.config_dir, std::os::unix::process::parent_id()),
        transcript,
        files: Files::new(session.tmp),
        pushes,
        events,
    };
    let voice = Voice::new(Identity {
        session: session.session,
        conversation: session.conversation,
        token: session.token,
        pid: std::process::id(),
    });
    Pump::new(voice, places)
}

/// Follows the debug log until it has said whether claude listens. A start takes a second: short
/// steps then, longer ones while somebody reads a dialog.
async fn follow(mut follower: Follower, events: mpsc::Sender<Event>) {
    let begun = Instant::now();
    loop {
        if let Some(verdict) = follower.look() {
            drop(events.send(Event::Verdict(verdict)).await);
            return;
        }
        let pause = match begun.elapsed().as_secs() {
            0..2 => 2,
            2..10 => 10,
            _ => 50,
        };
        sleep(Duration::from_millis(pause)).await;
    }
}

/// The one place from which messages go to claude, each after the one before.
async fn push(peer: oneshot::Receiver<Peer<RoleServer>>, mut messages: mpsc::Receiver<mcp::Shown>) {
    let Ok(peer) = peer.await else { return };
    while let Some(shown) = messages.recv().await {
        if mcp::push(&peer, shown).await.is_err() {
            return;
        }
    }
}

/// The signals that end a session; claude sends SIGINT, a closed terminal SIGHUP.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [terminate, interrupt, hang_up] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}
