//! The cheapest honest client: one keep-alive connection, one write for each request, reads until
//! the stream's end. What it costs is not what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

const END: &[u8] = b"data: [DONE]\n\n\r\n0\r\n\r\n";

pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    session: String,
    buffer: Vec<u8>,
}

/// When the first byte of text and the end of the stream came.
pub struct Timing {
    pub first_text: Duration,
    pub done: Duration,
}

impl Connection {
    /// # Errors
    /// When the server does not accept.
    pub fn open(address: SocketAddr, session: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, address, session: session.to_owned(), buffer: Vec::new() })
    }

    /// One streamed turn with the fake claude.
    ///
    /// # Errors
    /// Any response but a stream with `[DONE]`.
    pub fn turn(&mut self, text: &str) -> anyhow::Result<Timing> {
        self.turn_answered(text, b"echo: ")
    }

    /// Likewise, with other words at the answer's beginning.
    ///
    /// # Errors
    /// Any response but a stream with `[DONE]`.
    pub fn turn_answered(&mut self, text: &str, answer: &[u8]) -> anyhow::Result<Timing> {
        let body = serde_json::json!({
            "model": "synthesis", "stream": true,
            "messages": [{ "role": "user", "content": text }],
        })
        .to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nx-synthesis-session: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.session,
            body.len()
        );
        self.buffer.clear();
        let start = Instant::now();
        self.stream.write_all(request.as_bytes())?;
        let mut first_text = None;
        let mut chunk = [0; 16 << 10];
        loop {
            let count = self.stream.read(&mut chunk)?;
            ensure!(count > 0, "closed: {}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(chunk.get(..count).context("read too much")?);
            if first_text.is_none() && contains(&self.buffer, answer) {
                first_text = Some(start.elapsed());
            }
            if self.buffer.ends_with(END) {
                let done = start.elapsed();
                ensure!(self.buffer.starts_with(b"HTTP/1.1 200"), "not 200");
                return Ok(Timing { first_text: first_text.unwrap_or(done), done });
            }
            if self.buffer.starts_with(b"HTTP/1.1") && !self.buffer.starts_with(b"HTTP/1.1 200") {
                anyhow::bail!("{}", String::from_utf8_lossy(&self.buffer));
            }
        }
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
