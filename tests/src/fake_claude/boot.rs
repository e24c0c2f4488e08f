//! From exec to the first prompt: dialogs, files, the handshake with the channel, registration.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::arguments::Conversation;
use super::claude::{Claude, Halt};
use super::conf::DialogName;
use super::dialogs::{self, Asked, Choice};
use super::screen;
use super::server::{self, Server};
use super::wire;

/// The CLI gives a silent server this long to answer the probe.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// The CLI's own limit for the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

impl Claude {
    pub(super) fn boot(&mut self) -> Result<(), Halt> {
        self.reach("boot")?;
        self.pause(self.conf.dialog_delay())?;
        for asked in self.dialogs() {
            self.ask(&asked)?;
        }
        self.refuse_missing_conversation()?;
        let notice = if self.conf.skip_reason.is_some() {
            "channels aren't available right now"
        } else {
            ""
        };
        let mode = self.arguments.permission_mode.clone();
        let (rows, columns) = (self.terminal.rows, self.terminal.columns);
        self.draw(&screen::main_screen(rows, columns, &mode, notice))?;
        if self.conf.state_file {
            self.records.open_state();
        }
        let source = match self.arguments.conversation {
            Conversation::New(_) => "startup",
            Conversation::Resumed(_) => "resume",
        };
        if self.conf.start_hook {
            let body = json!({"source": source, "model": self.arguments.model});
            self.hook("SessionStart", None, None, &body);
        }
        self.connect()?;
        self.register()?;
        self.reads_terminal = !self.conf.ignores_terminal;
        self.print_much()
    }

    /// Which dialogs come, in the real CLI's order.
    fn dialogs(&self) -> Vec<Asked> {
        let cwd = self.records.places.cwd.to_string_lossy().into_owned();
        let key = std::env::var("ANTHROPIC_API_KEY").unwrap_or_default();
        let bypasses = self.arguments.permission_mode == "bypassPermissions";
        let mut names = self.conf.dialogs.clone();
        if std::env::var_os("CLAUDE_CODE_SANDBOXED").is_none()
            && !names.contains(&DialogName::Trust)
        {
            names.insert(0, DialogName::Trust);
        }
        if bypasses && !self.hooks.skips_bypass_dialog() && !names.contains(&DialogName::Bypass) {
            names.push(DialogName::Bypass);
        }
        let mut asked: Vec<Asked> =
            names.into_iter().map(|name| dialogs::named(name, &cwd, &key)).collect();
        let channels = &self.arguments.channels;
        // The real CLI does not ask when the feature is off.
        if self.conf.development_dialog && self.conf.skip_reason.is_none() && !channels.is_empty() {
            asked.push(dialogs::development_channels(channels));
        }
        asked
    }

    /// Draws a dialog and waits for its answer. Keys that came before it stood whole on the
    /// screen answer nothing, and are written to the debug log.
    fn ask(&mut self, asked: &Asked) -> Result<(), Halt> {
        let mut focus = asked.focus;
        let columns = self.terminal.columns;
        self.draw_in_pieces(asked.dialog.draw(columns, focus).as_bytes())?;
        self.records.debug("fake-claude: dialog stands");
        loop {
            self.wait(None, |claude| !claude.keys.is_empty() || claude.resized)?;
            if std::mem::take(&mut self.resized) {
                // As the real CLI: all of the screen, from its first row.
                self.draw("\x1b[H\x1b[J")?;
                self.draw(&asked.dialog.draw(columns, focus))?;
            }
            let keys = std::mem::take(&mut self.keys);
            let mut rest = keys.as_slice();
            while let Some((key, after)) = next_key(rest) {
                rest = after;
                let moved = match key {
                    Key::Enter => {
                        let choice = asked.choices.get(focus).copied();
                        return self.answered(asked, focus, choice.unwrap_or(Choice::GoOn));
                    }
                    Key::Escape => return Err(Halt::Exit(asked.escape)),
                    Key::Down => (focus + 1).min(asked.dialog.options.len() - 1),
                    Key::Up => focus.saturating_sub(1),
                    Key::Other => focus,
                };
                if moved != focus {
                    self.draw(&asked.dialog.erase(columns, focus))?;
                    focus = moved;
                    self.draw(&asked.dialog.draw(columns, focus))?;
                }
            }
        }
    }

    fn answered(&mut self, asked: &Asked, focus: usize, choice: Choice) -> Result<(), Halt> {
        let option = &asked.dialog.options[focus];
        self.records.debug(&format!("fake-claude: dialog answered with {option:?}"));
        self.draw(&asked.dialog.erase(self.terminal.columns, focus))?;
        match choice {
            Choice::GoOn => Ok(()),
            Choice::Exit(status) => Err(Halt::Exit(status)),
        }
    }

    fn draw_in_pieces(&mut self, bytes: &[u8]) -> Result<(), Halt> {
        let size = match self.conf.dialog_piece_bytes {
            0 => bytes.len(),
            size => size,
        };
        // The last piece begins with the end of the footer: what follows it is not seen, and who
        // sees a whole dialog may answer it.
        let footer = b"cancel";
        let seen = bytes.windows(footer.len()).rposition(|window| window == footer);
        let seen = seen.map_or(bytes.len(), |at| at + footer.len());
        let last = seen.saturating_sub(1) / size * size;
        for piece in bytes[..last].chunks(size) {
            self.draw_bytes(piece)?;
            self.records.debug("fake-claude: a piece of a dialog");
            self.pause(self.conf.dialog_pause())?;
        }
        // Looked for before the last piece: behind it an answer may come at any moment.
        self.pump(Some(Instant::now()), false)?;
        if !self.keys.is_empty() {
            let keys = String::from_utf8_lossy(&self.keys).into_owned();
            self.records.debug(&format!("fake-claude: keys before the dialog stood: {keys:?}"));
            self.keys.clear();
        }
        self.draw_bytes(&bytes[last..])
    }

    /// The real CLI finds out only after the dialogs.
    fn refuse_missing_conversation(&mut self) -> Result<(), Halt> {
        let Conversation::Resumed(id) = self.arguments.conversation else { return Ok(()) };
        if !self.records.keeps_transcript() || self.records.places.transcript().exists() {
            return Ok(());
        }
        let text = format!("No conversation found with session ID: {id}");
        self.draw(&format!("\x1b[38;5;211m{text}\x1b[39m\r\n"))?;
        Err(Halt::Exit(1))
    }

    /// Starts the server and shakes hands. A server that cannot be had is only logged.
    fn connect(&mut self) -> Result<(), Halt> {
        let Some(path) = self.arguments.mcp_config.clone() else { return Ok(()) };
        self.log("Starting connection with timeout of 30000ms");
        let id = self.arguments.conversation.id().to_string();
        let own: [(&str, OsString); 4] = [
            ("CLAUDECODE", "1".into()),
            ("CLAUDE_CODE_ENTRYPOINT", "cli".into()),
            ("CLAUDE_CODE_SESSION_ID", id.into()),
            ("CLAUDE_PROJECT_DIR", self.records.places.cwd.clone().into()),
        ];
        let started = server::find(&path, &self.name)
            .and_then(|entry| Server::start(&entry, &own, self.records.debug_file()));
        match started {
            Ok(server) => self.server = Some(server),
            Err(error) => {
                self.log(&format!("Connection failed: {error}"));
                return Ok(());
            }
        }
        if std::env::var_os("MCP_PROTOCOL_NEGOTIATION").is_none_or(|value| value != "legacy") {
            self.ask_server(wire::PROBE, &wire::probe(), PROBE_WITHIN)?;
        }
        Ok(())
    }

    /// initialize, initialized, tools/list; then the gate's verdict.
    fn register(&mut self) -> Result<(), Halt> {
        let begun = Instant::now();
        let answer = self.ask_server(0, &wire::initialize(), CONNECT_WITHIN)?;
        let Some(Ok(server)) = answer else {
            self.log("Connection failed: no answer to initialize");
            return Ok(());
        };
        self.send(&wire::initialized());
        let ms = begun.elapsed().as_millis();
        self.log(&format!("Successfully connected (transport: stdio) in {ms}ms"));
        self.ask_server(1, &wire::list_tools(), CONNECT_WITHIN)?;
        self.next_id = 2;
        self.pause(self.conf.registration_delay())?;
        self.reach("unregistered")?;
        if self.conf.never_registers {
            return Ok(());
        }
        match self.refusal(&server) {
            Some(reason) => self.log(&format!("Channel notifications skipped: {reason}")),
            None => {
                self.registered = true;
                self.log("Channel notifications registered");
            }
        }
        Ok(())
    }

    /// The gates in the CLI's order, as far as they depend on anything here.
    fn refusal(&self, server: &Value) -> Option<String> {
        let name = &self.name;
        if !server["capabilities"]["experimental"]["claude/channel"].is_object() {
            return Some("server did not declare claude/channel capability".to_owned());
        }
        if let Some(reason) = &self.conf.skip_reason {
            return Some(reason.clone());
        }
        let listed = self.arguments.channels.contains(&format!("server:{name}"));
        (!listed).then(|| format!("server {name} not in --channels list for this session"))
    }

    fn ask_server(
        &mut self,
        id: u64,
        line: &str,
        within: Duration,
    ) -> Result<Option<Result<Value, Value>>, Halt> {
        self.awaited = Some(id);
        self.answer = None;
        self.send(line);
        let deadline = Instant::now() + within;
        self.wait(Some(deadline), |claude| claude.answer.is_some() || claude.server_is_gone())?;
        self.awaited = None;
        Ok(self.answer.take())
    }

    fn print_much(&mut self) -> Result<(), Halt> {
        let line = "all work and no play makes a dull terminal line of sixty-four..\r\n";
        let block = line.repeat(1024 * 1024 / line.len());
        for _ in 0..self.conf.print_mib {
            self.draw(&block)?;
        }
        Ok(())
    }

    pub(super) fn log(&self, text: &str) {
        self.records.debug(&format!("MCP server \"{}\": {text}", self.name));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Enter,
    Escape,
    Up,
    Down,
    Other,
}

fn next_key(keys: &[u8]) -> Option<(Key, &[u8])> {
    match keys {
        [] => None,
        [b'\r', rest @ ..] => Some((Key::Enter, rest)),
        [0x1b, b'[' | b'O', b'A', rest @ ..] => Some((Key::Up, rest)),
        [0x1b, b'[' | b'O', b'B', rest @ ..] => Some((Key::Down, rest)),
        [0x1b, b'[', rest @ ..] => Some((Key::Other, rest)),
        [0x1b, rest @ ..] => Some((Key::Escape, rest)),
        [_, rest @ ..] => Some((Key::Other, rest)),
    }
}
