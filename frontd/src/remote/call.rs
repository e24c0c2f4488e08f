//! One request to a server and its answer: on a connection of its own, bounded in time and size.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use proto::ids::TokenText;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// For all of it: a server that is busy answers sooner.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of an answer: a page of a hundred sessions with the longest names has half as many.
const ANSWER: usize = 4 << 20;

/// How the server is reached.
pub(super) enum Door {
    Unix { socket: PathBuf, token: Option<TokenText> },
    Tcp { address: String, token: Option<TokenText> },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
}

impl Door {
    /// The answer's JSON.
    ///
    /// # Errors
    /// When there is none, or the server refuses: then with its words.
    pub(super) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let asking = async {
            match self {
                Self::Unix { socket, token } => {
                    let connected = UnixStream::connect(socket).await;
                    let stream = connected.with_context(|| socket.display().to_string())?;
                    send(stream, token.as_ref(), method, path).await
                }
                Self::Tcp { address, token } => {
                    let connected = TcpStream::connect(address).await;
                    let stream = connected.with_context(|| address.clone())?;
                    send(stream, token.as_ref(), method, path).await
                }
            }
        };
        tokio::time::timeout(WITHIN, asking).await.context("the server does not answer")?
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    token: Option<&TokenText>,
    method: Method,
    path: &str,
) -> anyhow::Result<Value> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let method = match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
    };
    // A loopback name: whatever else it is called, it is served by that.
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose()));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    connection.abort();
    let Ok(body) = body else { bail!("the answer was cut, or is too long") };
    let answer: Result<Value, _> = serde_json::from_slice(&body.to_bytes());
    if status.is_success() {
        return answer.context("the answer is no JSON");
    }
    let answer = answer.unwrap_or_default();
    match (answer["error"]["message"].as_str(), answer["error"]["code"].as_str()) {
        (Some(message), Some(code)) => bail!("{message} ({code})"),
        _ => bail!("the server answers {status}"),
    }
}
