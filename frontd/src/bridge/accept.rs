//! Accepts bridge connections on the Unix socket, a bounded number of them, each in a task of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::connection;
use crate::app::App;
use crate::spawner::chain;

/// Connections of sessions' users at once: two for each of a thousand sessions (the old one and
/// its successor).
const CONNECTIONS: usize = 2048;
/// Connections of anybody else, who only gets to hear the refusal; more are dropped unheard, so
/// that strangers cannot crowd sessions out.
const STRANGERS: usize = 16;

/// Serves until the task is dropped. Errors of accept (out of descriptors) pass; it tries again.
pub async fn serve(listener: UnixListener, app: Arc<App>) {
    let sessions = Arc::new(Semaphore::new(CONNECTIONS));
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == app.site.uid);
                let room = if ours { &sessions } else { &strangers };
                let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
                    tracing::warn!(ours, "too many connections on the bridge: one was closed");
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
            Err(error) => {
                tracing::warn!(%error, "accept on the bridge");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
