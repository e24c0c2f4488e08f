//! The hooks' end of the voice: a local socket on which `channel hook` hands over bodies. A hook is
//! acknowledged when it has its place in the order of events, not before.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::limits::HOOK_BODY;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::handover::{HEADER, TAKEN, read_opening};
use crate::log::log;
use crate::pump::Event;
use crate::testimony::Handed;

/// Hooks that are read at the same time, each of at most [`HOOK_BODY`]; others wait in the kernel.
const AT_ONCE: usize = 8;
/// A hook process gives up after a second: one that takes longer is stuck or somebody else.
const WITHIN: Duration = Duration::from_secs(2);

/// Binds the socket, for this user alone: the process's umask is 0177.
///
/// # Errors
/// Of the system; the path may be too long for a socket.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        // One that an earlier channel of this session left behind.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    UnixListener::bind(path)
}

/// Serves hooks until its task is aborted.
pub(crate) async fn run(listener: UnixListener, events: mpsc::Sender<Event>) {
    let own = nix::unistd::getuid().as_raw();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors: they come back when hooks end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            log!("a hook of another user was turned away");
            continue;
        }
        let events = events.clone();
        tokio::spawn(async move {
            let _ended = tokio::time::timeout(WITHIN, serve(stream, events)).await;
            drop(permit);
        });
    }
}

async fn serve(mut stream: UnixStream, events: mpsc::Sender<Event>) {
    let mut header = [0; HEADER];
    if stream.read_exact(&mut header).await.is_err() {
        return;
    }
    let Some(opening) = read_opening(header, HOOK_BODY) else { return };
    let mut name = vec![0; opening.name];
    if stream.read_exact(&mut name).await.is_err() {
        return;
    }
    let Ok(event) = String::from_utf8(name) else { return };
    let mut body = Vec::new();
    let bound = u64::try_from(opening.body).unwrap_or(0);
    // A sender that stops midway still tells its event.
    let mut bounded = (&mut stream).take(bound);
    let whole = tokio::time::timeout(WITHIN / 2, bounded.read_to_end(&mut body))
        .await
        .is_ok_and(|read| read.is_ok())
        && body.len() == opening.body;
    let (taken, has_place) = oneshot::channel();
    let handed = Handed { event, cut: opening.cut || !whole, body };
    if events.send(Event::Hook { handed, taken }).await.is_ok() && has_place.await.is_ok() {
        // The hook process may have given up; the event stands.
        let _told = stream.write_all(&[TAKEN]).await;
    }
}
