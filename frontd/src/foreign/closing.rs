//! Closes what may take long, on threads of its own.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};

use rustix::net::sockopt::{set_socket_linger, socket_domain};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::sync::watch;

/// One close that hangs does not hold up the others.
const THREADS: usize = 2;
/// Sockets that wait for their close while others are let in: a quarter of the descriptors that the
/// HTTP server leaves for everything else. They are kept on purpose, as closing them is what would
/// block; beyond it nobody new gets in by a Unix socket, so what is open already is all that can
/// come on top, and the queue is bounded by both.
const HELD: usize = 256;
/// SCM_MAX_FD: descriptors of one message at most (unix(7)).
const RIGHTS: usize = 253;
/// Sockets within sockets that are emptied; further down they are only closed.
const DEPTH: usize = 4;
/// Messages taken from one socket and all within it. Its sender's buffer holds some 300.
const MESSAGES: usize = 4096;
/// Bytes of a message at once. Nobody wants them.
const BYTES: usize = 8 << 10;

struct Closer {
    queue: mpsc::Sender<OwnedFd>,
    held: watch::Sender<usize>,
    /// It was told that there is no room, and there was none since.
    told: AtomicBool,
}

/// The threads begin with the first socket that needs them: most servers never see one.
static CLOSER: LazyLock<Closer> = LazyLock::new(|| {
    let (queue, sockets) = mpsc::channel();
    let sockets = Arc::new(Mutex::new(sockets));
    for _ in 0..THREADS {
        let sockets = Arc::clone(&sockets);
        let thread = std::thread::Builder::new().name("closing".into());
        if let Err(error) = thread.spawn(move || work(&sockets)) {
            tracing::error!(%error, "no thread to close foreign descriptors");
        }
    }
    Closer { queue, held: watch::Sender::new(0), told: AtomicBool::new(false) }
});

/// Closes it elsewhere and some time.
pub(super) fn close(socket: OwnedFd) {
    CLOSER.held.send_modify(|held| *held += 1);
    if let Err(mpsc::SendError(socket)) = CLOSER.queue.send(socket) {
        // There is no thread: it stays open, and counts.
        std::mem::forget(socket);
    }
}

/// Returns when few enough wait.
pub(super) async fn room() {
    if *CLOSER.held.borrow() < HELD {
        CLOSER.told.store(false, Ordering::Relaxed);
        return;
    }
    if !CLOSER.told.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            held = HELD,
            "closing what peers of Unix sockets sent hangs: nobody new is let in there for now"
        );
    }
    // The sender is static.
    let _ = CLOSER.held.subscribe().wait_for(|held| *held < HELD).await;
}

fn work(sockets: &Mutex<mpsc::Receiver<OwnedFd>>) {
    loop {
        let next = sockets.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(socket) = next else { return };
        let mut messages = MESSAGES;
        finish(socket, DEPTH, &mut messages);
        CLOSER.held.send_modify(|held| *held -= 1);
    }
}

/// Takes what is in it, so that its close closes nothing else, and closes both without lingering.
fn finish(descriptor: OwnedFd, depth: usize, messages: &mut usize) {
    // Most are no sockets.
    let _ = set_socket_linger(&descriptor, None);
    if depth > 0 && socket_domain(&descriptor).is_ok_and(|domain| domain == AddressFamily::UNIX) {
        while *messages > 0 {
            *messages -= 1;
            let Some(came) = take(&descriptor) else { break };
            for within in came {
                finish(within, depth - 1, messages);
            }
        }
    }
}

/// The descriptors of the next message; `None` when there is none.
fn take(socket: &OwnedFd) -> Option<Vec<OwnedFd>> {
    let mut bytes = [0; BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RIGHTS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let taken = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags).ok()?;
    let came: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| {
            let RecvAncillaryMessage::ScmRights(descriptors) = message else { return None };
            Some(descriptors)
        })
        .flatten()
        .collect();
    (taken.bytes > 0 || !came.is_empty()).then_some(came)
}

/// How many wait.
#[cfg(test)]
pub(super) fn held() -> watch::Receiver<usize> {
    CLOSER.held.subscribe()
}
