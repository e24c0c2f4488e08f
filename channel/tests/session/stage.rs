//! A stage for the built `channel`: claude's side on its standard streams, frontd's side on a Unix
//! socket, and the folder that launch would have made. Every wait is for an event, and bounded.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

pub(crate) const CHANNEL: &str = env!("CARGO_BIN_EXE_channel");
/// Long enough for a loaded machine; reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const REGISTERED: &str = "2026-11-21T01:04:34.493Z [DEBUG] MCP server \"synthesis\": Channel \
                              notifications registered\n";

/// The session's folder and frontd's listener.
pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) notify: UnixDatagram,
    pub(crate) hooks: bool,
    pub(crate) frontd_uid: u32,
    listener: UnixListener,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let listener = UnixListener::bind(at("bridge.sock")).unwrap();
        let notify = UnixDatagram::bind(at("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        std::fs::create_dir_all(at("home/.claude/sessions")).unwrap();
        std::fs::create_dir(at("tmp")).unwrap();
        std::fs::write(at("debug.log"), "").unwrap();
        let frontd_uid = nix::unistd::getuid().as_raw();
        Self { folder, notify, hooks: true, frontd_uid, listener }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn claude_dir(&self) -> PathBuf {
        self.at("home/.claude")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(CHANNEL);
        let at = |name: &str| self.at(name).into_os_string();
        let unix = format!("unix:{}", self.at("bridge.sock").display());
        command
            .env_clear()
            .current_dir(self.folder.path())
            .env("HOME", at("home"))
            .env("TMPDIR", at("tmp"))
            .env("SYNTHESIS_WS_URL", unix)
            .env("SYNTHESIS_OPENCLAW_SESSION", "abcdefghijklmnopqrstuvwxyz")
            .env("SYNTHESIS_CLAUDE_SESSION", "d2498efe-661c-46a2-91d4-be3138aa86dc")
            .env("SYNTHESIS_BRIDGE_TOKEN", TOKEN)
            .env("SYNTHESIS_FRONTD_UID", self.frontd_uid.to_string())
            .env("SYNTHESIS_DEBUG_FILE", at("debug.log"))
            .env("SYNTHESIS_HOOK_SOCKET", at("hook.sock"))
            .env("SYNTHESIS_HOOKS", if self.hooks { "1" } else { "0" })
            .env("NOTIFY_SOCKET", at("notify"));
        command
    }

    /// Starts the channel on pipes.
    pub(crate) fn start(&self) -> Claude {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = child.stdout.take().unwrap();
        Claude::new(child, Box::new(stdin), stdout)
    }

    /// Starts the channel on socket pairs, as the CLI does.
    pub(crate) fn start_on_sockets(&self) -> Claude {
        let (our_in, its_in) = UnixStream::pair().unwrap();
        let (our_out, its_out) = UnixStream::pair().unwrap();
        let mut command = self.command();
        command.stdin(OwnedFd::from(its_in)).stdout(OwnedFd::from(its_out)).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        drop(command);
        Claude::new(child, Box::new(our_in), our_out)
    }

    /// Started, initialized, connected, welcomed, and registered.
    pub(crate) fn ready(&self) -> (Claude, Link) {
        let mut claude = self.start();
        claude.initialize();
        let mut link = self.welcome(0);
        self.log(REGISTERED);
        assert_eq!(link.next()["type"], "registered");
        (claude, link)
    }

    /// Takes the next connection without a word.
    pub(crate) fn accept_raw(&self) -> UnixStream {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn accept(&self) -> Link {
        Link { socket: tungstenite::accept(self.accept_raw()).unwrap() }
    }

    /// Takes the next connection, hears hello and acknowledges it.
    pub(crate) fn welcome(&self, received: u64) -> Link {
        let mut link = self.accept();
        let hello = link.next();
        assert_eq!(hello["type"], "hello", "{hello}");
        link.send(json!({"type": "hello_ack", "version": 3, "received": received}));
        link
    }

    pub(crate) fn log(&self, text: &str) {
        let mut options = std::fs::OpenOptions::new();
        let mut log = options.append(true).open(self.at("debug.log")).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Starts `channel hook EVENT` with this body; its end is not waited for.
    pub(crate) fn hook(&self, event: &str, body: &str) -> Child {
        self.hook_at(&self.at("hook.sock"), event, body)
    }

    pub(crate) fn hook_at(&self, socket: &Path, event: &str, body: &str) -> Child {
        let mut child = Command::new(CHANNEL)
            .args(["hook", event])
            .env_clear()
            .env("SYNTHESIS_HOOK_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        child
    }

    /// Runs a hook to its end; what it printed.
    pub(crate) fn run_hook(&self, event: &str, body: &str) -> String {
        let output = self.hook(event, body).wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// claude's end of the standard streams. Every line that arrives must be JSON-RPC.
pub(crate) struct Claude {
    pub(crate) child: Child,
    stdin: Option<Box<dyn Write>>,
    lines: Receiver<Value>,
    aside: Vec<Value>,
    next_id: u64,
}

impl Claude {
    fn new(child: Child, stdin: Box<dyn Write>, stdout: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                let message: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|_| panic!("not JSON on standard output: {line:?}"));
                assert_eq!(message["jsonrpc"], "2.0", "{line}");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin: Some(stdin), lines, aside: Vec::new(), next_id: 0 }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The next message that satisfies `wanted`; others are kept for later.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return self.aside.remove(at);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.lines.recv_timeout(left).expect("an answer in time");
            if wanted(&message) {
                return message;
            }
            self.aside.push(message);
        }
    }

    pub(crate) fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        self.wait(|message| message["id"] == id)
    }

    pub(crate) fn initialize(&mut self) -> Value {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "claude-code", "version": "2.1.329"}});
        let id = self.request("initialize", params);
        let answer = self.answer(id);
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer
    }

    pub(crate) fn call_reply(&mut self, arguments: Value) -> u64 {
        self.request("tools/call", json!({"name": "reply", "arguments": arguments}))
    }

    /// The next message shown to claude.
    pub(crate) fn pushed(&mut self) -> Value {
        self.wait(|message| message["method"] == "notifications/claude/channel")["params"].take()
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn exited(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("it does not exit");
    }
}

impl Drop for Claude {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// frontd's end of one connection.
pub(crate) struct Link {
    pub(crate) socket: WebSocket<UnixStream>,
}

impl Link {
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event's place and content.
    pub(crate) fn event(&mut self) -> (u64, Value) {
        let mut frame = self.next();
        assert_eq!(frame["type"], "event", "{frame}");
        (frame["seq"].as_u64().unwrap(), frame["event"].take())
    }

    pub(crate) fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).unwrap();
    }

    pub(crate) fn ack(&mut self, seq: u64) {
        self.send(json!({"type": "ack", "seq": seq, "refused": null}));
    }

    pub(crate) fn push(&mut self, message: &str, content: &str) {
        let meta = json!({"chat_id": "c", "message_id": message, "ts": "2026-11-21T00:00:00Z"});
        self.send(json!({"type": "inbound", "content": content, "meta": meta, "files": []}));
    }

    /// The next frame is a wish for a piece of this file; from which byte on?
    pub(crate) fn wish(&mut self, id: &str) -> u64 {
        let frame = self.next();
        assert_eq!((&frame["type"], &frame["id"]), (&json!("file_get"), &json!(id)), "{frame}");
        frame["offset"].as_u64().unwrap()
    }

    pub(crate) fn piece(&mut self, id: &str, offset: u64, bytes: &[u8], last: bool) {
        let data = data_encoding::BASE64.encode(bytes);
        self.send(json!({"type": "file", "id": id, "offset": offset, "data": data, "last": last}));
    }

    /// Nothing is on its way: a ping's answer comes next.
    pub(crate) fn assert_quiet(&mut self) {
        self.send(json!({"type": "ping"}));
        assert_eq!(self.next()["type"], "pong");
    }

    /// Waits until the other side ends the connection.
    pub(crate) fn wait_closed(&mut self) {
        while self.socket.read().is_ok() {}
    }
}

pub(crate) fn text_of(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap()
}
