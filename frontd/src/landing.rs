//! How what was committed comes back to the event loop.
//!
//! The store calls back on its own thread. A task that is woken from there costs a system call each,
//! and a run's event may wake a thousand readers; work that lands here costs one for all that waits.

use tokio::sync::mpsc;

type Work = Box<dyn FnOnce() + Send>;

/// Takes work from any thread, in order. Whoever sends bounds what it has outstanding.
#[derive(Debug, Clone)]
pub struct Landing(mpsc::UnboundedSender<Work>);

impl Landing {
    /// With the task that does the work on the event loop; it ends with the last `Landing`.
    pub fn new() -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut queue) = mpsc::unbounded_channel::<Work>();
        let serve = async move {
            while let Some(work) = queue.recv().await {
                work();
            }
        };
        (Self(sender), serve)
    }

    /// Does `work`, which must not block; nothing when the event loop is gone.
    pub fn land(&self, work: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Box::new(work));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn work_of_other_threads_is_done_here_and_in_order() {
        let (landing, serve) = Landing::new();
        let done = Arc::new(Mutex::new(Vec::new()));
        let here = std::thread::current().id();
        let sent = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            for number in 0..3 {
                let done = Arc::clone(&sent);
                landing.land(move || {
                    done.lock().unwrap().push((number, std::thread::current().id()));
                });
            }
        });
        serve.await;
        thread.join().unwrap();
        assert_eq!(*done.lock().unwrap(), [(0, here), (1, here), (2, here)]);
    }
}
