//! The accept loop: a bounded number of connections, each judged once, each with limits on how
//! slow its head may be; at the end every connection finishes what it is doing, within a grace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::guard;
use super::router::Router;
use crate::app::App;

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
/// After a failed accept (out of descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, then waits until the last connection is done.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: watch::Receiver<bool>) {
    let connections = connections();
    let room = Arc::new(Semaphore::new(connections));
    let router = Arc::new(Router::default());
    let mut stopping = stop.clone();
    loop {
        // Cancel-safe: accept takes a connection or none.
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let (app, router, stop) = (Arc::clone(&app), Arc::clone(&router), stop.clone());
                tokio::spawn(async move {
                    connection(stream, peer, app, router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let everyone = u32::try_from(connections).expect("a small constant");
    let _ = room.acquire_many(everyone).await;
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

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Arc<App>,
    router: Arc<Router>,
    mut stop: watch::Receiver<bool>,
) {
    // A stream's chunks are small and must not wait for one another.
    let nodelay = stream.set_nodelay(true);
    let verdict = match stream.local_addr() {
        Ok(own) => guard::connection(&app, own, peer),
        Err(_) => return,
    };
    if nodelay.is_err() {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, router, verdict) = (Arc::clone(&app), Arc::clone(&router), verdict.clone());
        async move {
            Ok::<_, Infallible>(match verdict {
                // hyper keeps room for this future as long as the connection lives; all routes
                // together want 6 KiB, a stream none of it.
                Ok(()) => Box::pin(router.answer(&app, request)).await,
                Err(stranger) => {
                    let mut response = stranger.into_response();
                    let close = http::HeaderValue::from_static("close");
                    response.headers_mut().insert(http::header::CONNECTION, close);
                    response
                }
            })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Returns when the server shall stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
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
