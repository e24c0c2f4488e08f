//! Standard input and output as rmcp's transport, without threads: claude starts its servers on
//! socket pairs, others use pipes. Nothing but JSON-RPC ever reaches standard output.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use rmcp::RoleServer;
use rmcp::model::{ClientRequest, JsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::io::stdio_pipes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::quiet::QuietStream;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The longest line from claude: a reply of [`proto::limits::MESSAGE_TEXT`] bytes, every one
/// escaped sixfold, and room for what is beside it.
const LINE: usize = 6 * proto::limits::MESSAGE_TEXT + 64 * 1024;

pub(crate) fn transport() -> io::Result<Patient> {
    let (reader, writer) = streams()?;
    let inner = AsyncRwTransport::new(reader, writer).with_max_line_length(LINE);
    Ok(Patient { inner, opened: false })
}

fn streams() -> io::Result<(Reader, Writer)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if let (Some(reader), Some(writer)) = (socket(stdin.as_fd())?, socket(stdout.as_fd())?) {
        return Ok((Box::new(reader), Box::new(writer)));
    }
    let (reader, writer) = stdio_pipes();
    Ok((Box::new(reader), Box::new(writer)))
}

/// The descriptor as a socket, if it is one. The non-blocking flag that tokio needs reaches only
/// our end: the peer's end of a pair is another open file.
fn socket(fd: BorrowedFd<'_>) -> io::Result<Option<QuietStream>> {
    let own: OwnedFd = fd.try_clone_to_owned()?;
    let file = std::fs::File::from(own);
    if !file.metadata()?.file_type().is_socket() {
        return Ok(None);
    }
    let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(file));
    stream.set_nonblocking(true)?;
    QuietStream::new(stream).map(Some)
}

/// rmcp takes a notification before `initialize` for a broken peer and ends. A client that gave up
/// waiting for its probe's answer cancels it with just that: passed over here.
pub(crate) struct Patient {
    inner: AsyncRwTransport<RoleServer, Reader, Writer>,
    opened: bool,
}

impl Transport<RoleServer> for Patient {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    /// Cancel-safe as the inner one is: nothing is kept across its await.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let message = Transport::receive(&mut self.inner).await?;
            match &message {
                JsonRpcMessage::Request(request) => {
                    if matches!(request.request, ClientRequest::InitializeRequest(_)) {
                        self.opened = true;
                    }
                }
                JsonRpcMessage::Notification(_)
                | JsonRpcMessage::Response(_)
                | JsonRpcMessage::Error(_)
                    if !self.opened =>
                {
                    continue;
                }
                JsonRpcMessage::Notification(_)
                | JsonRpcMessage::Response(_)
                | JsonRpcMessage::Error(_) => {}
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Transport::close(&mut self.inner).await
    }
}
