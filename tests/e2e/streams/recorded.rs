//! A server that answers from the fixtures, so that a client's package is asked about known bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Serves `/{run}/api/chat`, `/{run}/api/chat/{id}/stream` (204 for the run `none`) and
/// `/{run}/responses` (streamed or whole). Dropping it ends it.
pub(crate) struct Recorded {
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// What is done to a fixture before it is served.
pub(crate) type Change = fn(String) -> String;

impl Recorded {
    pub(crate) async fn start() -> Self {
        Self::start_with(|body| body).await
    }

    pub(crate) async fn start_with(change: Change) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, server: tokio::spawn(serve(listener, change)) }
    }

    pub(crate) fn url(&self, run: &str, path: &str) -> String {
        format!("http://{}/{run}{path}", self.address)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, change: Change) {
    // Owns the connections: they are aborted together with this task.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, change));
            // A client that hangs up is no failure here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    change: Change,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let fixture = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let (name, kind) = match fixture {
        Some(("none", _)) => {
            let nothing = Response::builder().status(StatusCode::NO_CONTENT);
            return Ok(nothing.body(Full::default()).unwrap());
        }
        Some((run, path)) if path.starts_with("api/chat") => {
            (format!("{run}.ui.sse"), "text/event-stream")
        }
        Some((run, "responses")) if asked["stream"] == true => {
            (format!("{run}.responses.sse"), "text/event-stream")
        }
        Some((run, "responses")) => (format!("{run}.responses.json"), "application/json"),
        _ => (String::new(), ""),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/streams");
    let response = match std::fs::read_to_string(folder.join(name)) {
        Ok(body) => Response::builder().header(header::CONTENT_TYPE, kind).body(change(body)),
        Err(error) => Response::builder().status(StatusCode::NOT_FOUND).body(error.to_string()),
    };
    Ok(response.unwrap().map(Full::from))
}
