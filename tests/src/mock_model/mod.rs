//! A mock of Anthropic's Messages API on loopback, enough for the real Claude Code CLI to run
//! whole turns without an account. What it answers is scripted by the message ([`crate::directive`]).
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/messages` | [`script`] decides, [`stream`] renders, streamed or not |
//! | `POST /v1/messages/count_tokens` | a number |
//! | `GET /v1/models` | the models that requests named |
//! | `GET /api/hello`, `GET /`, `HEAD` of any | 200 |
//! | anything else | 404 as JSON, and logged |

mod log;
mod request;
mod routes;
mod script;
mod stream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use log::{Kind, Recorded, RequestLog};

/// A running mock. Dropping it ends the server and every open answer.
pub struct MockModel {
    addr: SocketAddr,
    log: Arc<RequestLog>,
    server: JoinHandle<()>,
}

impl MockModel {
    /// Serves on a free loopback port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(0).await
    }

    /// Serves on this loopback port; 0 picks a free one.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let addr = listener.local_addr()?;
        let log = Arc::new(RequestLog::default());
        let server = tokio::spawn(serve(listener, Arc::clone(&log)));
        Ok(Self { addr, log, server })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was asked so far, and what is open.
    pub fn log(&self) -> &RequestLog {
        &self.log
    }

    /// Runs until the process ends.
    pub async fn wait(mut self) {
        // An error here is a panic of the server, and it has been printed.
        let _ = (&mut self.server).await;
    }
}

impl Drop for MockModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, log: Arc<RequestLog>) {
    // Owns the connections: they are aborted together with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("mock-model: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Small events must leave at once, or every token waits for the peer's delayed ack.
        let _ = stream.set_nodelay(true);
        let log = Arc::clone(&log);
        connections.spawn(async move {
            let service = service_fn(move |request| routes::answer(Arc::clone(&log), request));
            // A client that hangs up is the ordinary end of a stream.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
