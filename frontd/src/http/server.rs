//! The accept loop: a bounded number of connections, each judged once, each with limits on how
//! slow its head may be; at the end every connection finishes what it is doing, within a grace.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

pub use super::busy::Busy;
use super::peer::Peer;
use super::router::Router;
use crate::app::App;
use crate::foreign::{self, QuietStream};

/// Connections at once at most: readers of long streams hold one each. An idle one takes some
/// 20 KiB.
const CONNECTIONS: usize = 16 * 1024;
/// Descriptors that are for everything else: the store, channels, terminals.
const OTHERS: u64 = 1024;
/// Connections where the process may have few descriptors.
const LEAST: usize = 256;
/// From the first byte of a request to the end of its head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// For which a client may take nothing of what it is sent: whoever stopped reading comes back, if at
/// all, on another connection.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
/// After a failed accept (out of descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come from.
pub enum Listener {
    Tcp(TcpListener),
    Unix(foreign::Listener),
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Open,
    /// Nobody is let in any more; those who are in hear the end of what they asked for.
    Leaving,
    /// Whoever waits for nothing is let go.
    Closed,
}

/// What all connections share.
#[derive(Clone)]
pub struct Hall {
    app: Arc<App>,
    router: Arc<Router>,
    busy: Arc<Busy>,
    phase: watch::Receiver<Phase>,
}

impl Hall {
    pub fn new(app: Arc<App>, busy: Arc<Busy>, phase: watch::Receiver<Phase>) -> Self {
        Self { app, router: Arc::default(), busy, phase }
    }
}

/// Serves until the phase is over, then waits until the last connection is done.
pub async fn serve(listeners: Vec<Listener>, hall: Hall) {
    // A part for each: whoever crowds one of them leaves the others alone.
    let each = connections() / listeners.len().max(1);
    let open = listeners.into_iter().map(|listener| listen(listener, hall.clone(), each));
    futures_util::future::join_all(open).await;
}

/// Takes connections, so many at once, until the server leaves; returns when the last of them is
/// done.
async fn listen(listener: Listener, hall: Hall, connections: usize) {
    let room = Arc::new(Semaphore::new(connections));
    accept_all(&listener, &hall, &room).await;
    drop(listener);
    let everyone = u32::try_from(connections).expect("a small constant");
    let _ = room.acquire_many(everyone).await;
}

async fn accept_all(listener: &Listener, hall: &Hall, room: &Arc<Semaphore>) {
    let mut phase = hall.phase.clone();
    loop {
        let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
        // Cancel-safe: accept takes a connection or none.
        let accepted = tokio::select! {
            accepted = accept(listener, hall, permit) => accepted,
            () = reached(&mut phase, Phase::Leaving) => return,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "accept");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Takes one connection and begins to serve it.
async fn accept(
    listener: &Listener,
    hall: &Hall,
    permit: OwnedSemaphorePermit,
) -> std::io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            let hall = hall.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // A stream's chunks are small and must not wait for one another. What fails here
                // has gone already.
                if stream.set_nodelay(true).is_ok()
                    && let Ok(peer) = Peer::of_tcp(&hall.app, &stream, peer)
                {
                    connection(stream, peer, hall).await;
                }
            });
        }
        Listener::Unix(listener) => {
            let socket = Arc::new(listener.accept().await?);
            let hall = hall.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let peer = Peer::of_unix(Arc::clone(&socket));
                match peer.and_then(|peer| Ok((peer, QuietStream::new(socket)?))) {
                    Ok((peer, stream)) => connection(stream, peer, hall).await,
                    Err(error) => tracing::warn!(%error, "a peer without a name"),
                }
            });
        }
    }
    Ok(())
}

/// As many as descriptors allow.
fn connections() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    bounded(descriptors)
}

fn bounded(descriptors: u64) -> usize {
    let free = usize::try_from(descriptors.saturating_sub(OTHERS)).unwrap_or(CONNECTIONS);
    free.clamp(LEAST, CONNECTIONS)
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, hall: Hall) {
    let Hall { app, router, busy, mut phase, .. } = hall;
    let peer = Arc::new(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, router, peer) = (Arc::clone(&app), Arc::clone(&router), Arc::clone(&peer));
        let at_work = Busy::enter(&busy);
        // hyper keeps room for this future as long as the connection lives; all routes together want
        // 6 KiB, a stream none of it.
        async move {
            let response = Box::pin(router.answer(&app, &peer, request)).await;
            Ok::<_, Infallible>(at_work.until_the_end_of(response))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WITHIN));
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = reached(&mut phase, Phase::Closed) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Returns when the server is as far, or gone.
async fn reached(now: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = now.wait_for(|now| *now >= phase).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        for (descriptors, connections) in
            [(0, LEAST), (1024, LEAST), (5000, 3976), (u64::MAX, CONNECTIONS)]
        {
            assert_eq!(bounded(descriptors), connections, "{descriptors}");
        }
    }
}
