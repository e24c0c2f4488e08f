//! Many readers of one run in a process of their own, so that what they cost is not frontd's: one
//! thread, one epoll, nothing parsed but where a block begins.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};

/// The line that says that all of them read.
pub const READY: &str = "ready";
/// Nothing for this long is no stream.
const SILENCE_MS: u16 = 60_000;

/// What the readers tell at the end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// When the slowest reader had event 1, 2, …, in microseconds since 1970.
    pub last: Vec<u64>,
    /// Events that came after [`READY`], all readers together.
    pub deliveries: u64,
}

/// Counts the blocks of an event stream and sees the end of the response, wherever a read ends.
#[derive(Debug, Default)]
pub struct Blocks {
    count: u64,
    /// Of `BLOCK` and `END` so many bytes were the last.
    block: usize,
    end: usize,
}

const BLOCK: &[u8] = b"\nid: ";
const END: &[u8] = b"\r\n0\r\n\r\n";

impl Blocks {
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.block = matched(BLOCK, self.block, *byte);
            if self.block == BLOCK.len() {
                self.count += 1;
                self.block = 0;
            }
            if self.end < END.len() {
                self.end = matched(END, self.end, *byte);
            }
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn ended(&self) -> bool {
        self.end == END.len()
    }
}

/// How much of `pattern`, which begins nowhere within itself but at its own start, stands at the
/// end now.
fn matched(pattern: &[u8], before: usize, byte: u8) -> usize {
    match pattern.get(before) {
        Some(wanted) if *wanted == byte => before + 1,
        _ => usize::from(pattern.first() == Some(&byte)),
    }
}

struct Reader {
    stream: TcpStream,
    blocks: Blocks,
}

struct Crowd {
    epoll: Epoll,
    readers: Vec<Reader>,
    buffer: Vec<u8>,
    last: Vec<u64>,
    begun: usize,
    ended: usize,
}

/// The process: `count` readers of `path` to its end. Says on stdout when all have the first
/// event, and at the end the report; stays connected until stdin ends.
///
/// # Errors
/// What the server refuses, or readers that saw different things.
#[expect(clippy::print_stdout, reason = "the bench that started it reads it")]
pub fn follow(address: SocketAddr, path: &str, count: usize) -> anyhow::Result<()> {
    let mut crowd = Crowd::connect(address, path, count)?;
    while crowd.begun < count {
        crowd.turn()?;
    }
    let before: u64 = crowd.delivered();
    println!("{READY}");
    while crowd.ended < count {
        crowd.turn()?;
    }
    let events = crowd.last.len();
    let all =
        crowd.readers.iter().all(|reader| usize::try_from(reader.blocks.count()) == Ok(events));
    ensure!(all, "not every reader saw {events} events");
    let deliveries = crowd.delivered() - before;
    println!("{}", serde_json::to_string(&Report { last: crowd.last, deliveries })?);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

impl Crowd {
    fn connect(address: SocketAddr, path: &str, count: usize) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let mut readers = Vec::with_capacity(count);
        for number in 0..u64::try_from(count)? {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            readers.push(Reader { stream, blocks: Blocks::default() });
        }
        let buffer = vec![0; 64 << 10];
        Ok(Self { epoll, readers, buffer, last: Vec::new(), begun: 0, ended: 0 })
    }

    fn delivered(&self) -> u64 {
        self.readers.iter().map(|reader| reader.blocks.count()).sum()
    }

    /// Takes what has come to some of them.
    fn turn(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(SILENCE_MS))?;
        ensure!(count > 0, "nothing came: {} begun, {} ended", self.begun, self.ended);
        for event in events.get(..count).context("too many")? {
            self.read(usize::try_from(event.data())?)?;
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> anyhow::Result<()> {
        let Reader { stream, blocks } = self.readers.get_mut(number).context("a reader")?;
        let count = match stream.read(&mut self.buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let bytes = self.buffer.get(..count).context("read too much")?;
        ensure!(count > 0, "closed after {} events", blocks.count());
        let before = blocks.count();
        ensure!(
            before > 0 || !bytes.starts_with(b"HTTP") || bytes.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(bytes)
        );
        blocks.take(bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = u64::try_from(now.as_micros())?;
        self.begun += usize::from(before == 0 && blocks.count() > 0);
        let count = usize::try_from(blocks.count())?;
        if self.last.len() < count {
            self.last.resize(count, now);
        }
        // Readers come by turns, so the clock of the latest read is that of the slowest.
        if let Some(new) = self.last.get_mut(usize::try_from(before)?..count) {
            new.fill(now);
        }
        if blocks.ended() {
            self.ended += 1;
            self.epoll.delete(&*stream)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_wherever_a_read_ends() {
        let text =
            b"HTTP/1.1 200 OK\r\n\r\n1a\r\nid: 1\ndata: id: {}\n\nid: 2\ndata: {}\n\n\r\n0\r\n\r\n";
        for piece in 1..text.len() {
            let mut blocks = Blocks::default();
            for bytes in text.chunks(piece) {
                assert!(!blocks.ended());
                blocks.take(bytes);
            }
            assert!((blocks.count(), blocks.ended()) == (2, true), "{piece}");
        }
    }
}
