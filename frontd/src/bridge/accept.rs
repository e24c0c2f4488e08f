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
        let permit = Arc::clone(&room).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
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
