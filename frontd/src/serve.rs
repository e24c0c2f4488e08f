//! Wires the parts into one running server and takes it down again: what `dev` and `serve` share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::app::{Access, App, Live, Site};
use crate::audit::{Audit, Entry, Kind};
use crate::clients::Clients;
use crate::environment::Environment;
use crate::http::server::{Busy, Phase};
use crate::landing::Landing;
use crate::listeners::{Listeners, Open};
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::run::Runs;
use crate::session::directory::Directory;
use crate::session::message::Message;
use crate::session::pool::Pool;
use crate::shares::Shares;
use crate::spawner::{self, Address, chain};
use crate::store::StoreHandle;
use crate::{bridge, http, reload, service, session, watchdog};

/// How long what is left may take to end: sessions to be told, responses to be written.
const GRACE: Duration = Duration::from_secs(3);

/// Runs `server` on this thread: the work is small beside claude's, and one thread spares every
/// turn a dozen wake-ups across cores.
///
/// # Errors
/// Those of `server`.
pub fn block_on(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(server)
}

/// Serves until a signal, or until spawnd is gone for good.
///
/// # Errors
/// Whatever keeps it from serving; the loss of the dev pair.
pub async fn run(
    environment: Environment,
    site: Site,
    listeners: Listeners,
    spawnd: Address,
) -> anyhow::Result<()> {
    // Every reader of a stream holds a descriptor, and the usual limit is 1,024. A sandbox may forbid
    // what its unit has done already.
    let (least, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if least < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    // First: a signal that comes while an earlier server's sessions are taken over is kept.
    let mut signals = Signals::new()?;
    watchdog::feed();
    let directory = Arc::new(Directory::default());
    let (spawner, connection) = spawner::new(Arc::clone(&directory));
    let store = {
        let path = environment.state.as_path().join("frontd/synthesis.db");
        StoreHandle::open(&path, environment.config.store.keep())?
    };
    let limits = &environment.config.limits;
    let each = match site.access {
        Access::Local { .. } => None,
        Access::Required => Some(environment.config.principals.processes),
    };
    let pool = Pool::new(limits.processes, each);
    let runs = Runs::default();
    let (config, source) = (Live::new(environment.config), environment.source);
    let shares = |all, each| match site.access {
        Access::Local { .. } => Shares::new(all, all),
        Access::Required => Shares::new(all, each),
    };
    let bodies = shares(http::body::ROOM, http::body::ROOM_EACH);
    let late_readers = shares(http::find::LATE_READERS, http::find::LATE_READERS_EACH);
    let (landing, land) = Landing::new();
    tokio::spawn(land);
    let app = Arc::new(App {
        config,
        clients: Clients::default(),
        quotas: Quotas::default(),
        site,
        runs,
        directory,
        pool,
        spawner,
        store,
        landing,
        audit: Audit::start().context("the record")?,
        metrics: Metrics::default(),
        bodies,
        late_readers,
        began: Instant::now(),
        stopping: AtomicBool::new(false),
    });

    // Before anybody is let in: who comes back must find the place where it was.
    session::restore::all(&app).await.context("take over what an earlier frontd left")?;
    let sessions = app.directory.keys().len();
    let message = format!("frontd serves; it took over {sessions} sessions");
    app.audit.write(Entry::new(Kind::Restart, message).with("SYNTHESIS_COUNT", sessions));
    let Open { http, address, bridge, first_version } = listeners.open()?;
    tokio::spawn(bridge::accept::serve(bridge, Arc::clone(&app)));
    if let Some(listener) = first_version {
        tracing::warn!(address = %listener.local_addr()?, "the unauthenticated first-version bridge is open");
        tokio::spawn(bridge::first_version::serve(listener, Arc::clone(&app)));
    }
    // A spawnd of one's own ends with frontd, and every session with it; another keeps them.
    let sessions_stay = match &spawnd {
        Address::Connected(_) => false,
        Address::Path(_) => true,
    };
    let mut lost = tokio::spawn(connection.serve(spawnd));
    let (stop, phase) = watch::channel(Phase::Open);
    let busy = Arc::new(Busy::default());
    let hall = http::server::Hall::new(Arc::clone(&app), Arc::clone(&busy), phase);
    let serving = tokio::spawn(http::server::serve(http, hall));
    let _telling = AbortOnDrop(tokio::spawn(service::tell(Arc::clone(&app))));
    // Clients are answered from here on, if only with what is amiss: a spawnd that cannot be reached
    // is no reason for systemd to start this half again.
    service::ready();

    if let Access::Local { client, .. } = &app.site.access
        && let Some(runner) = &client.runner
    {
        let (user, workspace) = (&runner.user, &runner.workspace);
        tracing::info!(%user, %workspace, "sessions run as this user, in this folder by default");
    }
    let mut announced = false;
    let result = loop {
        // Cancel-safe: signals that came are kept, and a task goes on.
        tokio::select! {
            // Ready is who can start sessions; a pair that fails at once must not say so.
            () = app.spawner.connected(), if !announced => {
                announced = true;
                announce(address);
            }
            asked = signals.next() => match asked {
                Asked::End => break Ok(()),
                Asked::Reload => reload::reload(&app, &source).await,
            },
            error = &mut lost => break Err(lost_error(error)),
        }
    };
    let grace = if sessions_stay { app.config().limits.stop_grace() } else { Duration::ZERO };
    service::stopping(grace + GRACE * 3);
    app.stopping.store(true, Ordering::Relaxed);
    if !grace.is_zero() {
        // Whoever comes now waits for the next frontd where systemd holds the sockets.
        let _ = stop.send(Phase::Leaving);
        let answers = busy.count();
        tracing::info!(answers, seconds = grace.as_secs(), "stopping: answers under way may end");
        tokio::select! {
            () = busy.none() => {}
            () = tokio::time::sleep(grace) => {}
            () = signals.end() => tracing::info!("stopping at once"),
        }
    }
    let _ = stop.send(Phase::Closed);
    let inboxes = app.directory.inboxes();
    let last = || if sessions_stay { Message::Leave } else { Message::Shutdown };
    let told = inboxes.iter().map(|inbox| inbox.send(last()));
    // An inbox that stays full belongs to a session that the end of this process ends too.
    let _ = tokio::time::timeout(GRACE, futures_util::future::join_all(told)).await;
    let _ = tokio::time::timeout(GRACE, serving).await;
    lost.abort();
    app.audit.end();
    result
}

/// What a person or the service manager asks of the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    End,
    /// Read the configuration again.
    Reload,
}

/// A task that ends with whoever started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lost_error(error: Result<spawner::Error, tokio::task::JoinError>) -> anyhow::Error {
    match error {
        Ok(error) => anyhow::anyhow!("spawnd is lost: {}", chain(&error)),
        Err(error) => error.into(),
    }
}

#[expect(clippy::print_stdout, reason = "the line that scripts wait for")]
fn announce(address: Option<SocketAddr>) {
    if let Some(address) = address {
        println!("ready http://{address}");
    }
}
