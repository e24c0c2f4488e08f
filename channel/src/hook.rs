//! `channel hook EVENT`: hands the body on standard input to the session's channel and waits until
//! it is taken, so that claude's next step cannot overtake it. No runtime: it runs for every
//! tool call. Exits 0 within about a second whatever happens, because claude waits.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use proto::hook::HookBody;
use proto::limits::HOOK_BODY;

use crate::handover;
use crate::permission::{self, Decision};

/// A body that is not whole by then is handed over as it stands.
const READ_WITHIN: Duration = Duration::from_millis(500);
/// Everything.
const WITHIN: Duration = Duration::from_millis(950);
/// How often the first hook of a session looks whether its channel listens already.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn run(event: &str) -> ExitCode {
    let until = Instant::now() + WITHIN;
    let (body, cut) = read_body();
    if event == "PermissionRequest" {
        let answer = decide(&body, cut).answer();
        let mut out = std::io::stdout();
        // Without an answer the CLI asks the terminal, where Esc and an abort still work.
        let _written = out.write_all(answer.as_bytes()).and_then(|()| out.flush());
    }
    let Some(socket) = std::env::var_os("SYNTHESIS_HOOK_SOCKET").map(PathBuf::from) else {
        return ExitCode::SUCCESS;
    };
    let event = event.to_owned();
    let (done, finished) = channel();
    // A connect cannot be given a timeout in std: it gets a thread that need not end.
    thread::spawn(move || {
        deliver(&socket, &event, &body, cut, until);
        done.send(())
    });
    // Not delivered in time is not delivered: frontd has other signs that a turn ended.
    let _waited = finished.recv_timeout(until.saturating_duration_since(Instant::now()));
    ExitCode::SUCCESS
}

/// A request that cannot be read is for nothing that is known, and so denied.
fn decide(body: &[u8], cut: bool) -> Decision {
    match serde_json::from_slice(body) {
        Ok(HookBody::PermissionRequest { tool_name, server, .. }) if !cut => {
            permission::decide(&tool_name, server.as_deref())
        }
        _ => permission::decide("", None),
    }
}

/// Standard input up to [`HOOK_BODY`] bytes or [`READ_WITHIN`], and whether that is not all of it.
fn read_body() -> (Vec<u8>, bool) {
    let (pieces, arriving) = channel();
    thread::spawn(move || read_pieces(&pieces));
    collect(&arriving, Instant::now() + READ_WITHIN)
}

/// Reads to the end, beyond what is kept: claude would see a broken pipe otherwise. An empty piece
/// is the end.
fn read_pieces(pieces: &Sender<Vec<u8>>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let piece = buffer.get(..read).unwrap_or_default().to_vec();
        if pieces.send(piece).is_err() || read == 0 {
            return;
        }
    }
}

fn collect(arriving: &Receiver<Vec<u8>>, until: Instant) -> (Vec<u8>, bool) {
    let (mut body, mut cut) = (Vec::new(), false);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match arriving.recv_timeout(left) {
            Ok(piece) if piece.is_empty() => return (body, cut),
            Ok(piece) => {
                let room = HOOK_BODY - body.len();
                cut |= piece.len() > room;
                body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
            }
            Err(_) => return (body, true),
        }
    }
}

fn deliver(socket: &PathBuf, event: &str, body: &[u8], cut: bool, until: Instant) {
    let Some(opening) = handover::opening(event, cut, body.len()) else { return };
    let Some(mut stream) = connect(socket, event, until) else { return };
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let _sent = stream
        .set_write_timeout(Some(left))
        .and_then(|()| stream.set_read_timeout(Some(left)))
        .and_then(|()| stream.write_all(&opening))
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.read_exact(&mut [0]));
}

/// claude starts its first hook and its channel at the same time, so only that hook waits for the
/// socket; later, a channel that does not listen is gone.
fn connect(socket: &PathBuf, event: &str, until: Instant) -> Option<UnixStream> {
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Some(stream),
            Err(error)
                if event == "SessionStart"
                    && matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused
                    )
                    && Instant::now() + LOOK_EVERY < until =>
            {
                thread::sleep(LOOK_EVERY);
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_denied() {
        let own = br#"{"hook_event_name":"PermissionRequest","tool_name":"mcp__synthesis__reply"}"#;
        assert!(decide(own, false).allowed);
        assert!(!decide(own, true).allowed);
        for body in [
            &b""[..],
            b"{",
            br#"{"hook_event_name":"PermissionRequest"}"#,
            br#"{"hook_event_name":"PreToolUse","tool_name":"mcp__synthesis__reply"}"#,
            br#"{"hook_event_name":"PermissionRequest","tool_name":"mcp__synthesis__reply","mcp_server":{"name":"x"}}"#,
        ] {
            assert!(!decide(body, false).allowed, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_long_body_is_cut_at_the_limit() {
        let (pieces, arriving) = channel();
        pieces.send(vec![b'x'; HOOK_BODY]).unwrap();
        pieces.send(vec![b'y']).unwrap();
        pieces.send(Vec::new()).unwrap();
        let (body, cut) = collect(&arriving, Instant::now() + READ_WITHIN);
        assert!(cut && body.len() == HOOK_BODY);
        let (pieces, arriving) = channel();
        pieces.send(vec![b'x'; HOOK_BODY]).unwrap();
        pieces.send(Vec::new()).unwrap();
        assert!(!collect(&arriving, Instant::now() + READ_WITHIN).1);
    }

    #[test]
    fn a_body_that_never_ends_is_handed_over_cut() {
        let (pieces, arriving) = channel();
        pieces.send(b"{\"half".to_vec()).unwrap();
        assert_eq!(collect(&arriving, Instant::now()), (b"{\"half".to_vec(), true));
    }
}
