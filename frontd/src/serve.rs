//! Wires the parts into one running server and takes it down again: what `dev` and `serve` share.

use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::Backlog;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::app::{App, Site};
use crate::environment::Environment;
use crate::landing::Landing;
use crate::run::Runs;
use crate::session::directory::Directory;
use crate::session::message::Message;
use crate::session::pool::Pool;
use crate::spawner::{self, Address, chain};
use crate::store::StoreHandle;
use crate::{bridge, http, session};

/// How long open responses may take to end after a stop.
const GRACE: Duration = Duration::from_secs(3);

/// Every socket, bound before any right is given up.
pub struct Listeners {
    http: StdTcpListener,
    bridge: StdUnixListener,
    first_version: Option<StdTcpListener>,
}

impl Listeners {
    /// # Errors
    /// Names the address that cannot be bound.
    pub fn bind(environment: &Environment, bridge: &Path) -> anyhow::Result<Self> {
        let tcp = |address, variable: &str| {
            let listener = StdTcpListener::bind(address);
            listener.with_context(|| format!("listen on {address} ({variable} names another)"))
        };
        let first_version = if environment.config.bridge.allow_unauthenticated {
            if !environment.bridge.ip().is_loopback() {
                bail!(
                    "SYNTHESIS_BRIDGE={}: the first version is for loopback only",
                    environment.bridge
                );
            }
            Some(tcp(environment.bridge, "SYNTHESIS_BRIDGE")?)
        } else {
            None
        };
        Ok(Self {
            http: tcp(environment.http, "SYNTHESIS_HTTP")?,
            bridge: bind_bridge(bridge)?,
            first_version,
        })
    }
}

/// Replaces the socket of an earlier server, but not that of a live one.
fn bind_bridge(path: &Path) -> anyhow::Result<StdUnixListener> {
    let shown = path.display();
    if StdUnixStream::connect(path).is_ok() {
        bail!("another server listens on {shown}");
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove the old {shown}")),
    }
    let listener = StdUnixListener::bind(path).with_context(|| format!("listen on {shown}"))?;
    // Any session's user may knock; uid and secret decide.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

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
    // Every reader of a stream holds a descriptor, and the usual limit is 1,024.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let directory = Arc::new(Directory::default());
    let (spawner, connection) = spawner::new(Arc::clone(&directory));
    let store = {
        let path = environment.state.as_path().join("frontd/synthesis.db");
        StoreHandle::open(&path, environment.config.store.keep())?
    };
    let limits = &environment.config.limits;
    let pool = Pool::new(limits.processes, limits.slot_wait());
    let runs = Runs::default();
    let config = environment.config;
    let bodies = Arc::new(Semaphore::new(http::body::ROOM as usize));
    let late_readers = Arc::new(Semaphore::new(http::find::LATE_READERS));
    let (landing, land) = Landing::new();
    tokio::spawn(land);
    let app = Arc::new(App {
        config,
        site,
        runs,
        directory,
        pool,
        spawner,
        store,
        landing,
        bodies,
        late_readers,
    });

    // Before anybody is let in: who comes back must find the place where it was.
    session::restore::all(&app).await.context("take over what an earlier frontd left")?;
    // The standard library's queue is 128 long; whoever comes beyond waits a second. After a restart
    // all readers come at once.
    nix::sys::socket::listen(&listeners.http, Backlog::MAXCONN)?;
    let http = tokio_tcp(listeners.http)?;
    let address = http.local_addr()?;
    // The kernel shows connecting peers the credentials of the last listen(2) (unix(7)): again,
    // now that root is given up, so that channels see frontd's own uid.
    nix::sys::socket::listen(&listeners.bridge, Backlog::MAXCONN)?;
    listeners.bridge.set_nonblocking(true)?;
    let bridge = UnixListener::from_std(listeners.bridge)?;
    tokio::spawn(bridge::accept::serve(bridge, Arc::clone(&app)));
    if let Some(listener) = listeners.first_version {
        let listener = tokio_tcp(listener)?;
        tracing::warn!(address = %listener.local_addr()?, "the unauthenticated first-version bridge is open");
        tokio::spawn(bridge::first_version::serve(listener, Arc::clone(&app)));
    }
    // A spawnd of one's own ends with frontd, and every session with it; another keeps them.
    let sessions_stay = match &spawnd {
        Address::Connected(_) => false,
        Address::Path(_) => true,
    };
    let mut lost = tokio::spawn(connection.serve(spawnd));
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(http::server::serve(http, Arc::clone(&app), stopping));

    let (user, workspace) = (&app.site.user, &app.site.default_workspace);
    tracing::info!(%user, %workspace, "sessions run as this user, in this folder by default");
    // Whoever reads `ready` may stop us at once.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Ready is who can start sessions; a pair that fails at once must not say so.
    tokio::select! {
        () = app.spawner.connected() => announce(address),
        error = &mut lost => return Err(lost_error(error)),
    }
    let result = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        error = &mut lost => Err(lost_error(error)),
    };
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    let inboxes = app.directory.inboxes();
    let last = || if sessions_stay { Message::Leave } else { Message::Shutdown };
    let told = inboxes.iter().map(|inbox| inbox.send(last()));
    // An inbox that stays full belongs to a session that the end of this process ends too.
    let _ = tokio::time::timeout(GRACE, futures_util::future::join_all(told)).await;
    let _ = tokio::time::timeout(GRACE, serving).await;
    lost.abort();
    result
}

fn lost_error(error: Result<spawner::Error, tokio::task::JoinError>) -> anyhow::Error {
    match error {
        Ok(error) => anyhow::anyhow!("spawnd is lost: {}", chain(&error)),
        Err(error) => error.into(),
    }
}

#[expect(clippy::print_stdout, reason = "the line that scripts wait for")]
fn announce(address: std::net::SocketAddr) {
    println!("ready http://{address}");
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

fn tokio_tcp(listener: StdTcpListener) -> anyhow::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}
