//! Accepts bridge connections on the Unix socket, a bounded number of them, each in a task of its
//! own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection;
use crate::app::{Access, App};
use crate::foreign::Listener;
use crate::spawner::chain;

/// Connections of sessions' users at once: two for each of a thousand sessions (the old one and
/// its successor).
const CONNECTIONS: usize = 2048;
/// Of these, one user's where there are several, so that none crowds out the others.
const OF_ONE: usize = CONNECTIONS / 8;
/// Connections of anybody else, who only gets to hear the refusal; more are dropped unheard, so
/// that strangers cannot crowd sessions out.
const STRANGERS: usize = 16;

/// Serves until the task is dropped. Errors of accept (out of descriptors) pass; it tries again.
pub async fn serve(listener: Listener, app: Arc<App>) {
    let room = Room::default();
    loop {
        match listener.accept().await {
            Ok(socket) => {
                let uid = socket.credentials().ok().map(|peer| peer.uid);
                let ours = uid.filter(|uid| app.directory.has_process_of(*uid));
                let Some(seat) = room.seat(ours, of_one(&app)) else { continue };
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    let _seat = seat;
                    if let Err(reason) = connection::serve(socket, &app).await {
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

/// Connections that one user may have: at least two for each process.
fn of_one(app: &App) -> usize {
    match app.site.access {
        Access::Local { .. } => CONNECTIONS,
        Access::Required => (app.config().principals.processes * 2).clamp(OF_ONE, CONNECTIONS),
    }
}

struct Room {
    sessions: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    shares: Shares,
    /// It was told that somebody found no place, and nobody has found one since.
    told: AtomicBool,
}

/// Connections by uid.
type Shares = Arc<Mutex<HashMap<u32, usize>>>;

/// A connection's place, until it is dropped.
struct Seat {
    _permit: OwnedSemaphorePermit,
    share: Option<(Shares, u32)>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            sessions: Arc::new(Semaphore::new(CONNECTIONS)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            shares: Shares::default(),
            told: AtomicBool::new(false),
        }
    }
}

impl Room {
    /// A place for a session's user, who may have `of_one`, or for a stranger.
    fn seat(&self, uid: Option<u32>, of_one: usize) -> Option<Seat> {
        let room = if uid.is_some() { &self.sessions } else { &self.strangers };
        let permit = Arc::clone(room).try_acquire_owned().ok();
        let found = permit.and_then(|permit| match uid {
            None => Some(Seat { _permit: permit, share: None }),
            Some(uid) => {
                let mut shares = lock(&self.shares);
                let share = shares.get(&uid).copied().unwrap_or_default();
                (share < of_one).then(|| {
                    shares.insert(uid, share + 1);
                    Seat { _permit: permit, share: Some((Arc::clone(&self.shares), uid)) }
                })
            }
        });
        if found.is_none() && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(uid, "too many connections on the bridge: they are closed");
        } else if found.is_some() {
            self.told.store(false, Ordering::Relaxed);
        }
        found
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((shares, uid)) = &self.share else { return };
        let mut shares = lock(shares);
        if let Some(share) = shares.get_mut(uid) {
            *share -= 1;
            if *share == 0 {
                shares.remove(uid);
            }
        }
    }
}

fn lock(shares: &Shares) -> MutexGuard<'_, HashMap<u32, usize>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_the_others() {
        let room = Room::default();
        let greedy: Vec<Seat> = std::iter::from_fn(|| room.seat(Some(1), OF_ONE)).collect();
        assert_eq!(greedy.len(), OF_ONE);
        assert!(room.seat(Some(2), OF_ONE).is_some() && room.seat(None, OF_ONE).is_some());
        drop(greedy);
        assert!(room.seat(Some(1), OF_ONE).is_some());
        assert!(lock(&room.shares).is_empty(), "nothing is kept of those who have gone");
    }

    #[test]
    fn strangers_take_no_sessions_place() {
        let room = Room::default();
        let strangers: Vec<Seat> = std::iter::from_fn(|| room.seat(None, OF_ONE)).collect();
        assert_eq!(strangers.len(), STRANGERS);
        assert!(room.seat(Some(1), OF_ONE).is_some());
    }

    #[test]
    fn who_found_no_room_leaves_no_trace() {
        let room = Room::default();
        assert!(room.seat(Some(3), 0).is_none());
        let all: Vec<Seat> = std::iter::from_fn(|| room.seat(Some(4), CONNECTIONS)).collect();
        assert_eq!(all.len(), CONNECTIONS);
    }
}
