//! A Unix stream that does not wake for nothing. tokio watches its sockets for reading and
//! writing; a Unix socket reports room each time the peer has read, so every frame that is sent
//! would come back as an empty wake-up. This one watches for room only after it ran out of it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

pub(crate) struct QuietStream {
    readable: AsyncFd<UnixStream>,
    /// Present while a write waits for room.
    writable: Option<AsyncFd<UnixStream>>,
}

impl QuietStream {
    /// # Errors
    /// When the descriptor cannot be registered with the runtime. It must be non-blocking.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { readable: watch(stream, Interest::READABLE)?, writable: None })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that lie about their descriptor; std's do not"
)]
fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for QuietStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.readable.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            let room = unfilled.len();
            match guard.try_io(|stream| (&mut stream.get_ref()).read(unfilled)) {
                Ok(Ok(count)) => {
                    // Less than asked for is all there is: the next look would be in vain.
                    if count > 0 && count < room {
                        guard.clear_ready();
                    }
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(writable) = &self.writable {
                ready!(writable.poll_write_ready(cx))?.clear_ready();
            }
            match self.readable.get_ref().write(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.writable.is_none() {
                        let again = self.readable.get_ref().try_clone()?;
                        self.writable = Some(watch(again, Interest::WRITABLE)?);
                    }
                }
                written => {
                    self.writable = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.readable.get_ref().shutdown(Shutdown::Write))
    }
}
