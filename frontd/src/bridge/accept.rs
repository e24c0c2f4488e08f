//! Accepts bridge connections on the Unix socket, a bounded number of them, each in a task of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::connection;
use crate::app::App;
use crate::spawner::chain;

/// Connections at once: two for each of a thousand sessions (the old one and its successor).
const CONNECTIONS: usize = 2048;

/// Serves until the task is dropped. Errors of accept (out of descriptors) pass; it tries again.
pub async fn serve(listener: UnixListener, app: Arc<App>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            // Before anything is spent on it: only sessions' users have business here.
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == app.site.uid) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    tracing::warn!("too many connections on the bridge: one was closed");
                    continue;
                };
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(reason) = connection::serve(stream, &app).await {
                        tracing::debug!(reason = %chain(&reason), "bridge connection ended");
                    }
                });
            }
            Ok(_) => tracing::debug!("a stranger knocked at the bridge"),
            Err(error) => {
                tracing::warn!(%error, "accept on the bridge");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
