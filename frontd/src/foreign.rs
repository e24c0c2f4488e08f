//! Unix sockets whose other end may be anybody's.
//!
//! A peer can send descriptors along with its bytes, and the last close of a descriptor may take as
//! long as its maker likes (a TCP socket with unsent data and SO_LINGER, a file of a foreign file
//! system). Whoever reads such a message without room for its descriptors closes them, and so does
//! whoever closes a socket that still has them in its queue. The event loop does neither: it looks
//! before it reads, takes no descriptor, and hands a socket that it cannot prove empty to
//! [`closing`].

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use quiet::QuietStream;

mod closing;
mod quiet;
#[cfg(test)]
mod tests;

/// Not in libc yet (linux/socket.h; since 6.16): switched off, whoever sends a descriptor gets EPERM.
const SO_PASSRIGHTS: libc::c_int = 83;

#[derive(Debug, Clone, Copy)]
struct PassRights;

nix::setsockopt_impl!(PassRights, libc::SOL_SOCKET, SO_PASSRIGHTS, bool, sockopt::SetBool);

/// Whether the kernel lets no descriptor in from here on. An older one cannot.
fn refuse_rights(socket: &impl AsFd) -> bool {
    setsockopt(socket, PassRights, &false).is_ok()
}

/// Where anybody may connect.
pub struct Listener(AsyncFd<UnixListener>);

impl Listener {
    /// # Errors
    /// When it cannot be registered with the runtime.
    pub fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // What connects from now on inherits it.
        refuse_rights(&listener);
        watch(listener, Interest::READABLE).map(Self)
    }

    /// The next connection. Nobody is let in while too many sockets wait for their close.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<Socket> {
        closing::room().await;
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|listener| listener.get_ref().accept()) {
                Ok(accepted) => return Socket::new(accepted?.0),
                Err(_would_block) => {}
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that lie about their descriptor; these do not"
)]
fn watch<T: AsRawFd>(source: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(source, interest)
}

/// Who connected, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub pid: i32,
}

/// One connected stream, which never blocks: neither a read nor its end.
#[derive(Debug)]
pub struct Socket {
    /// There until the end.
    stream: Option<UnixStream>,
    /// No descriptor can come any more; some may have come before.
    refused: bool,
    /// And none is left of before.
    sealed: AtomicBool,
}

/// What waits to be read.
struct Seen {
    bytes: usize,
    descriptors: bool,
}

impl Socket {
    /// # Errors
    /// Those of setsockopt(2) and ioctl(2).
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let refused = refuse_rights(&stream);
        Self::with(stream, refused)
    }

    fn with(stream: UnixStream, refused: bool) -> io::Result<Self> {
        // First of all: whatever fails below, this is how it ends.
        let socket = Self { stream: Some(stream), refused, sealed: AtomicBool::new(false) };
        socket.stream()?.set_nonblocking(true)?;
        // A read passes over bytes sent out of band, and drops what came with them.
        rustix::net::sockopt::set_socket_oobinline(socket.stream()?, true)?;
        socket.seal();
        Ok(socket)
    }

    fn stream(&self) -> io::Result<&UnixStream> {
        // Only `drop` takes it.
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// # Errors
    /// Those of getsockopt(2).
    pub fn credentials(&self) -> io::Result<Credentials> {
        let peer = getsockopt(self.stream()?, sockopt::PeerCredentials)?;
        Ok(Credentials { uid: peer.uid(), pid: peer.pid() })
    }

    /// As read(2).
    ///
    /// # Errors
    /// Its errors, and `InvalidData` where descriptors would come with the bytes.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream()?;
        if self.sealed.load(Ordering::Relaxed) {
            return stream.read(buffer);
        }
        let seen = look(stream, buffer)?;
        if seen.descriptors {
            let breach = "the peer sent descriptors";
            return Err(io::Error::new(io::ErrorKind::InvalidData, breach));
        }
        // Nobody else reads here: these are the bytes that were seen, and none behind them.
        let count = stream.read(&mut buffer[..seen.bytes])?;
        self.seal();
        Ok(count)
    }

    /// Nothing there and nothing can come: from now on no look is needed.
    fn seal(&self) {
        if self.refused
            && let Ok(stream) = self.stream()
            && look(stream, &mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {
            self.sealed.store(true, Ordering::Relaxed);
        }
    }

    /// As write(2).
    ///
    /// # Errors
    /// Its errors.
    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        self.stream()?.write(buffer)
    }

    /// As writev(2).
    ///
    /// # Errors
    /// Its errors.
    pub fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream()?.write_vectored(buffers)
    }

    /// As shutdown(2).
    ///
    /// # Errors
    /// Its errors.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream()?.shutdown(how)
    }

    /// For epoll alone. It must be gone before this is, or its close would be the last.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn duplicate(&self) -> io::Result<UnixStream> {
        self.stream()?.try_clone()
    }
}

/// Without room for descriptors a look takes none and closes none: they stay in the queue, and
/// MSG_CTRUNC says that they are there.
fn look(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<Seen> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut none = RecvAncillaryBuffer::default();
    let seen = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut none, flags)?;
    Ok(Seen { bytes: seen.bytes, descriptors: seen.flags.contains(ReturnFlags::CTRUNC) })
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_ref().expect("only drop takes it").as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.sealed.load(Ordering::Relaxed) {
            return;
        }
        // After this nothing comes in; a look that finds the end has found an empty queue.
        let shut = stream.shutdown(Shutdown::Both).is_ok();
        let empty = look(&stream, &mut [0]).is_ok_and(|seen| seen.bytes == 0 && !seen.descriptors);
        if !(shut && empty) {
            closing::close(stream.into());
        }
    }
}
