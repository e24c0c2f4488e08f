//! A Unix stream that does not wake for nothing. tokio watches its sockets for reading and
//! writing; a Unix socket reports room each time the peer has read, so every frame that is sent
//! would come back as an empty wake-up. This one watches for room only after it ran out of it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::{Socket, watch};

pub struct QuietStream {
    /// Present while a write waits for room. It goes first: its close must not be the last.
    writable: Option<AsyncFd<UnixStream>>,
    readable: AsyncFd<Arc<Socket>>,
}

impl QuietStream {
    /// # Errors
    /// When the descriptor cannot be registered with the runtime.
    pub fn new(socket: Arc<Socket>) -> io::Result<Self> {
        Ok(Self { readable: watch(socket, Interest::READABLE)?, writable: None })
    }

    fn poll_write_by(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(writable) = &self.writable {
                ready!(writable.poll_write_ready(cx))?.clear_ready();
            }
            match write(self.readable.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.writable.is_none() {
                        let again = self.readable.get_ref().duplicate()?;
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
            match guard.try_io(|stream| stream.get_ref().read(unfilled)) {
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
        self.poll_write_by(cx, |socket| socket.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(cx, |socket| socket.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.readable.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn more_than_the_socket_holds_arrives_whole_both_ways() {
        let (one, two) = UnixStream::pair().unwrap();
        let quiet = |stream| QuietStream::new(Arc::new(Socket::new(stream).unwrap())).unwrap();
        let (mut one, mut two) = (quiet(one), quiet(two));
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            one.write_all(&sent).await.unwrap();
            one.shutdown().await.unwrap();
            let mut answer = Vec::new();
            one.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut read = Vec::new();
        two.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        two.write_all(b"thanks").await.unwrap();
        drop(two);
        assert_eq!(writing.await.unwrap(), b"thanks");
    }
}
