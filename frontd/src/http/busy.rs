//! Answers under way: asked for, and not yet given to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use super::{Body, Response};

#[derive(Debug, Default)]
pub struct Busy {
    count: AtomicUsize,
    last_left: Notify,
}

/// One answer.
pub struct AtWork(Arc<Busy>);

impl Busy {
    pub fn enter(busy: &Arc<Self>) -> AtWork {
        busy.count.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(busy))
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns when there is none. Cancel-safe.
    pub async fn none(&self) {
        loop {
            let left = self.last_left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.last_left.notify_waiters();
        }
    }
}

impl AtWork {
    /// A body that is whole is as good as given; a stream is not before its end.
    pub fn until_the_end_of(self, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Guarded { body, _at_work: self }.boxed_unsync())
    }
}

struct Guarded {
    body: Body,
    _at_work: AtWork,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::full;
    use http_body_util::StreamBody;

    #[tokio::test]
    async fn a_stream_is_at_work_until_it_is_dropped_and_a_whole_body_is_not() {
        let busy = Arc::new(Busy::default());
        let whole = Busy::enter(&busy).until_the_end_of(http::Response::new(full("x")));
        assert_eq!(busy.count(), 0);
        let frames = futures_util::stream::pending::<Result<Frame<Bytes>, _>>();
        let stream = http::Response::new(StreamBody::new(frames).boxed_unsync());
        let stream = Busy::enter(&busy).until_the_end_of(stream);
        assert_eq!(busy.count(), 1);
        let none = tokio::spawn({
            let busy = Arc::clone(&busy);
            async move { busy.none().await }
        });
        tokio::task::yield_now().await;
        assert!(!none.is_finished());
        drop(stream);
        none.await.unwrap();
        drop(whole);
    }
}
