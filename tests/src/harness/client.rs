//! A plain HTTP/1.1 client: one connection for each request, nothing retried, nothing hidden.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::caller::Caller;

/// Longer than anything a test waits for; a hang fails instead of blocking the suite.
pub const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Over a Unix socket instead, as this user.
    pub caller: Option<Caller>,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content of a chat completion that is not streamed.
    pub fn content(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        let json = self.json();
        json["choices"][0]["message"]["content"].as_str().expect("content").to_owned()
    }

    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A streamed response, event by event.
pub struct Stream {
    pub status: u16,
    pub headers: http::HeaderMap,
    /// The run that the response says it is of.
    pub run: String,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Stream {
    /// The next `data:` payload; `None` at the end of the body.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        tokio::time::timeout(PATIENCE, self.next_event()).await.context("no event in time")?
    }

    async fn next_event(&mut self) -> anyhow::Result<Option<String>> {
        while let Some(block) = self.next_block().await? {
            // Before it may stand the event's number and name.
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Ok(Some(data.to_owned()));
            }
        }
        Ok(None)
    }

    /// The next event of a run: its number and its JSON. Comments are skipped.
    pub async fn next_numbered(&mut self) -> anyhow::Result<Option<(u64, Value)>> {
        let block = async {
            while let Some(block) = self.next_block().await? {
                if !block.starts_with(':') {
                    return anyhow::Ok(Some(block));
                }
            }
            Ok(None)
        };
        let block = tokio::time::timeout(PATIENCE, block).await.context("no event in time")??;
        let Some(block) = block else { return Ok(None) };
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id: ").context("an id")?.parse()?;
        let json: Value = serde_json::from_str(field("data: ").context("data")?)?;
        anyhow::ensure!(field("event: ") == json["type"].as_str(), "{block}");
        Ok(Some((id, json)))
    }

    /// Every numbered event to the end.
    pub async fn all_numbered(mut self) -> anyhow::Result<Vec<(u64, Value)>> {
        let mut events = Vec::new();
        while let Some(event) = self.next_numbered().await? {
            events.push(event);
        }
        Ok(events)
    }

    async fn next_block(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8(block)?));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// Every payload to the end.
    pub async fn all(mut self) -> anyhow::Result<Vec<String>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    /// Every payload to the end, all of them JSON.
    ///
    /// # Panics
    /// When one is not, or the stream breaks.
    pub async fn values(self) -> Vec<Value> {
        let events = self.all().await.expect("a whole stream");
        let value = |event: &String| serde_json::from_str(event).expect("JSON");
        events.iter().map(value).collect()
    }

    /// The deltas that carry text, to the end; an error frame is an error.
    pub async fn deltas(self) -> anyhow::Result<Vec<String>> {
        let mut deltas = Vec::new();
        for event in self.all().await? {
            if event == "[DONE]" {
                return Ok(deltas);
            }
            let event: Value = serde_json::from_str(&event)?;
            if !event["error"].is_null() {
                bail!("error frame: {event}");
            }
            match event["choices"][0]["delta"]["content"].as_str() {
                Some("") | None => {}
                Some(text) => deltas.push(text.to_owned()),
            }
        }
        bail!("no [DONE]")
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new(), caller: None }
    }

    /// The same client with one more header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// The same client, by a Unix socket as somebody.
    #[must_use]
    pub fn calling(&self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self.clone() }
    }

    /// A client whose requests all belong to one session.
    #[must_use]
    pub fn session(&self, key: &str) -> Self {
        self.with("x-synthesis-session", key)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.request("POST", path, body.to_string().into()).await
    }

    /// # Panics
    /// When there is no HTTP response within [`PATIENCE`].
    pub async fn request(&self, method: &str, path: &str, body: Bytes) -> Reply {
        let whole = async {
            let response = self.open(method, path, body).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, whole)
            .await
            .expect("a response in time")
            .expect("a response")
    }

    /// Sends one message and waits for the answer.
    pub async fn chat(&self, text: &str) -> Reply {
        self.post("/v1/chat/completions", &message(text)).await
    }

    /// Sends one message and reads the answer as it comes.
    ///
    /// # Panics
    /// When there is no HTTP response within [`PATIENCE`].
    pub async fn stream(&self, text: &str) -> Stream {
        let mut body = message(text);
        body["stream"] = json!(true);
        self.stream_of(&body).await
    }

    /// # Panics
    /// When there is no HTTP response within [`PATIENCE`].
    pub async fn stream_of(&self, body: &Value) -> Stream {
        self.stream_at("POST", "/v1/chat/completions", body.to_string().into()).await
    }

    /// # Panics
    /// When there is no head of an HTTP response within [`PATIENCE`].
    pub async fn stream_at(&self, method: &str, path: &str, body: Bytes) -> Stream {
        let response = tokio::time::timeout(PATIENCE, self.open(method, path, body)).await;
        let response = response.expect("a response in time").expect("a response");
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        let run = headers.get("x-synthesis-run").and_then(|run| run.to_str().ok());
        let run = run.unwrap_or_default().to_owned();
        Stream { status, headers, run, body, buffer: Vec::new() }
    }

    /// The events of a run as they come, from the first one on.
    pub async fn watch(&self, run: &str) -> Stream {
        self.stream_at("GET", &format!("/v1/runs/{run}/events"), Bytes::new()).await
    }

    /// All events of a run, once it is over.
    ///
    /// # Panics
    /// When they cannot be had.
    pub async fn events(&self, run: &str) -> Vec<Value> {
        self.watch(run).await.values().await
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        match &self.caller {
            Some(caller) => self.send(caller.connect()?, method, path, body).await,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                self.send(stream, method, path, body).await
            }
        }
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }
}

/// The body of a request with one message.
pub fn message(text: &str) -> Value {
    json!({ "model": "synthesis", "messages": [{ "role": "user", "content": text }] })
}
