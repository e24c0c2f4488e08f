//! A run as a streamed response: one reader, one renderer, and keep-alives in between.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;

use super::presence::Presence;
use super::{Body, Response};
use crate::alarm::Alarm;
use crate::render::{Renderer, sse};
use crate::run::{Event, Logged, ReadError, Reader};

/// Bytes that one write takes at most, as long as more events are there.
const PIECE: usize = 64 * 1024;

/// A stream under way.
struct Streaming<R> {
    renderer: R,
    reader: Reader,
    /// Read already, not rendered yet.
    ready: std::vec::IntoIter<Arc<Logged>>,
    keep_alive: Duration,
    alarm: Alarm,
    place: Place,
    /// Dropped with the response: the client has left, or has everything.
    _presence: Option<Presence>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Middle,
    End,
}

/// The response. `ready` was read from `reader` before.
pub fn response<R: Renderer + 'static>(
    renderer: R,
    reader: Reader,
    ready: Vec<Arc<Logged>>,
    keep_alive: Duration,
    presence: Option<Presence>,
) -> Response {
    let streaming = Streaming {
        renderer,
        reader,
        ready: ready.into_iter(),
        keep_alive,
        alarm: Alarm::default(),
        place: Place::Head,
        _presence: presence,
    };
    let frames = futures_util::stream::unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), streaming))
    });
    let body: Body = StreamBody::new(frames).boxed_unsync();
    let mut response = http::Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sse::CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that would collect the stream before they pass it on are told not to.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

impl<R: Renderer> Streaming<R> {
    /// The next bytes: everything that is there, in one piece, so that it is one write.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        match self.place {
            Place::End => return None,
            Place::Head => {
                self.place = Place::Middle;
                self.renderer.begin(&mut out);
            }
            Place::Middle => {}
        }
        loop {
            while self.place != Place::End
                && out.len() < PIECE
                && let Some(logged) = self.ready.next().or_else(|| self.reader.try_next())
            {
                self.render(&logged, &mut out);
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
            if self.place == Place::End {
                return None;
            }
            match self.wait().await {
                Some(Ok(Some(logged))) => self.render(&logged, &mut out),
                Some(Ok(None)) => {
                    self.place = Place::End;
                    self.renderer.cut(&mut out);
                }
                Some(Err(error)) => {
                    // Without an end of the run the client sees that the stream was cut.
                    note(&error);
                    return None;
                }
                None => self.renderer.keep_alive(&mut out),
            }
        }
    }

    /// The reader's next event; `None` when there was none for too long.
    async fn wait(&mut self) -> Option<Result<Option<Arc<Logged>>, ReadError>> {
        let deadline = Instant::now() + self.keep_alive;
        loop {
            self.alarm.set(Some(deadline.into_std()));
            // Cancel-safe, both.
            tokio::select! {
                biased;
                read = self.reader.next() => return Some(read),
                () = self.alarm.rings() => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                }
            }
        }
    }

    fn render(&mut self, logged: &Logged, out: &mut BytesMut) {
        self.renderer.event(logged, out);
        if matches!(logged.event, Event::Finished(_)) {
            self.place = Place::End;
        }
    }
}

fn note(error: &ReadError) {
    tracing::warn!(error = %crate::spawner::chain(error), "a reader of a run was cut off");
}
