//! What a session of the real Claude Code CLI tells its frontd, which the test plays: spawnd and
//! launch start it as in production, the mock model speaks for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proto::spawn::PermissionMode;
use serde_json::{Value, json};
use tests::harness::seqpacket::Client;
use tests::harness::spawnd::{Daemon, PATIENCE, Place, Settings, User};
use tests::harness::{binary, have_root, skip};
use tests::mock_model::MockModel;
use tests::offline_claude::Offline;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

struct Session {
    link: WebSocket<UnixStream>,
    turns: u32,
    workspace: PathBuf,
    // In the order in which they end.
    _client: Client,
    _daemon: Daemon,
    _mock: MockModel,
}

/// One turn: the events of hooks and replies, in order.
struct Turn(Vec<Value>);

/// A session that is ready for its first message. `None`, loudly, where there is no CLI.
async fn session(mode: PermissionMode) -> Option<Session> {
    let Some(cli) = std::env::var_os("SYNTHESIS_TEST_CLAUDE").map(PathBuf::from) else {
        skip("no real CLI: SYNTHESIS_TEST_CLAUDE names none (make test installs it)");
        return None;
    };
    if !have_root() {
        return None;
    }
    let mock = MockModel::start().await.unwrap();
    let place = Place::new();
    let folder = place.path.join("bin");
    let offline = Offline::new(cli, mock.url());
    let claude = offline.install(&binary("offline-claude"), &folder).unwrap();
    let visible: Vec<String> =
        offline.visible(&folder).split(':').map(|path| format!("{path:?}")).collect();
    let user = User::nobody().with(&format!("visible = [{}]", visible.join(", ")));
    let settings = Settings { claude, users: vec![user], ..Settings::default() };
    // The mock model answers meanwhile.
    tokio::task::spawn_blocking(move || start(place, settings, mode, mock)).await.unwrap().into()
}

fn start(place: Place, settings: Settings, mode: PermissionMode, mock: MockModel) -> Session {
    let daemon = Daemon::start_in(place, settings);
    let mut client = daemon.client();
    let workspace = daemon.place.workspace(&daemon.users[0], "w");
    let mut request = daemon.request(&workspace);
    request.permission_mode = mode;
    let started = client.spawn(&request).unwrap();
    std::thread::spawn(move || answer_dialog(started.leader));
    let (stream, _) = daemon.place.bridge.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let link = tungstenite::accept(stream).unwrap();
    let mut session =
        Session { link, turns: 0, workspace, _client: client, _daemon: daemon, _mock: mock };
    assert_eq!(session.next()["type"], "hello");
    session.send(&json!({"type": "hello_ack", "version": 3, "received": 0}));
    while session.next_but_hooks()["type"] != "registered" {}
    session
}

/// Answers the one dialog that is expected, when it stands, and drains the terminal until its end.
fn answer_dialog(leader: OwnedFd) {
    let mut leader = File::from(leader);
    let (mut seen, mut answered) = (String::new(), false);
    let mut buffer = [0; 65536];
    loop {
        let stands = !answered && seen.contains("development");
        // A screen that stands still has been drawn.
        let patience = if stands { PollTimeout::from(200_u16) } else { PollTimeout::NONE };
        let quiet = {
            use std::os::fd::AsFd as _;
            let mut fds = [PollFd::new(leader.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, patience) == Ok(0)
        };
        if quiet {
            answered = leader.write_all(b"\r").is_ok();
            continue;
        }
        match leader.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if !answered {
                    seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}

impl Session {
    fn next(&mut self) -> Value {
        loop {
            match self.link.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Binary(_) | Message::Close(_) | Message::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }

    /// The next frame; events are acknowledged.
    fn next_but_hooks(&mut self) -> Value {
        let frame = self.next();
        if frame["type"] == "event" {
            self.send(&json!({"type": "ack", "seq": frame["seq"], "refused": null}));
        }
        frame
    }

    fn send(&mut self, frame: &Value) {
        self.link.send(Message::text(frame.to_string())).unwrap();
    }

    fn turn(&mut self, text: &str) -> Turn {
        self.turn_with(text, &[])
    }

    /// Pushes a message with these pictures and takes what comes until the turn has ended.
    fn turn_with(&mut self, text: &str, pictures: &[&[u8]]) -> Turn {
        self.turns += 1;
        let message = format!("m{}", self.turns);
        let file = |(index, bytes): (usize, &&[u8])| {
            json!({"id": index.to_string(), "name": "a \"b\".png", "media_type": "image/png",
                "bytes": bytes.len()})
        };
        let files: Vec<Value> = pictures.iter().enumerate().map(file).collect();
        let meta = json!({"chat_id": "c", "message_id": message, "ts": "2026-11-21T00:00:00Z"});
        self.send(&json!({"type": "inbound", "content": text, "meta": meta, "files": files}));
        let mut events = Vec::new();
        loop {
            let mut frame = self.next_but_hooks();
            if frame["type"] == "file_get" {
                let index: usize = frame["id"].as_str().unwrap().parse().unwrap();
                let data = data_encoding::BASE64.encode(pictures[index]);
                self.send(&json!({"type": "file", "id": frame["id"], "offset": 0, "data": data,
                    "last": true}));
                continue;
            }
            assert_eq!(frame["type"], "event", "{frame}");
            let event = frame["event"].take();
            assert!(event.get("missed").is_none(), "{event}");
            let ended = event["hook"].get("stop").is_some();
            events.push(event);
            if ended {
                return Turn(events);
            }
        }
    }

    /// The exact tokens of the turn that has just ended, unless the CLI was too late to write them.
    fn exact(&mut self) -> Option<Value> {
        let wait = |link: &mut WebSocket<UnixStream>, time| {
            link.get_mut().set_read_timeout(Some(time)).unwrap();
        };
        wait(&mut self.link, proto::limits::USAGE_WITHIN * 4);
        let usage = loop {
            match self.link.read() {
                Ok(Message::Text(text)) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    self.send(&json!({"type": "ack", "seq": frame["seq"], "refused": null}));
                    if frame["event"]["usage"]["exact"] == true {
                        break Some(frame["event"]["usage"].take());
                    }
                }
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        wait(&mut self.link, PATIENCE);
        usage
    }
}

impl Turn {
    /// What hooks of this kind told.
    fn hooks(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter_map(|event| event["hook"].get(kind)).collect()
    }

    fn hook(&self, kind: &str) -> &Value {
        let [hook] = self.hooks(kind)[..] else { panic!("one {kind}: {:#?}", self.0) };
        hook
    }

    fn reply(&self) -> &str {
        let replies: Vec<&Value> = self.0.iter().filter_map(|event| event.get("reply")).collect();
        let [reply] = replies[..] else { panic!("one reply: {:#?}", self.0) };
        reply["content"].as_str().unwrap()
    }

    /// Claude was denied a tool, was told so, and went on to the turn's end.
    fn was_denied(&self, tool: &str) {
        let (asked, began) = (self.hook("permission_request"), self.hook("pre_tool_use"));
        assert_eq!((&asked["tool_name"], &asked["allowed"]), (&json!(tool), &json!(false)));
        assert_eq!(asked["tool_use_id"], began["tool_use_id"]);
        assert_eq!(self.reply(), asked["reason"].as_str().unwrap());
        assert!(self.reply().contains("permission_mode"), "{}", self.reply());
        assert!(self.hooks("post_tool_use").is_empty());
        self.hook("stop");
    }
}

/// The parts of a test that wait run beside the mock model.
async fn played(session: Session, play: impl FnOnce(&mut Session) + Send + 'static) {
    let mut session = session;
    tokio::task::spawn_blocking(move || play(&mut session)).await.unwrap();
}

const QUESTION: &str = r#"USE_TOOL AskUserQuestion {"questions":[{"question":"Which?","header":"H","multiSelect":false,"options":[{"label":"A","description":"a"},{"label":"B","description":"b"}]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_real_session_tells_of_text_tools_and_tokens() {
    let Some(session) = session(PermissionMode::AcceptEdits).await else { return };
    played(session, |session| {
        let turn = session.turn("DISPLAY 3");
        let text = |hook: &&Value| hook["delta"]["text"].as_str().unwrap().to_owned();
        let mut shown = turn.hooks("message_display");
        let first = shown[0]["message_id"].clone();
        shown.retain(|hook| hook["message_id"] == first);
        // Each piece comes by a process of its own.
        shown.sort_by_key(|hook| hook["index"].as_u64());
        let shown: String = shown.iter().map(text).collect();
        assert!(shown.starts_with("display 1/3\ndisplay 2/3\ndisplay 3/3"), "{shown:?}");
        assert_eq!(turn.hooks("message_display")[0]["turn"], "m1");

        let turn = session.turn(r#"USE_TOOL Bash {"command":"echo hi","description":"x"}"#);
        let (began, ended) = (turn.hook("pre_tool_use"), turn.hook("post_tool_use"));
        assert_eq!(began["tool_use_id"], ended["tool_use_id"]);
        let json = |excerpt: &Value| -> Value {
            serde_json::from_str(excerpt["text"].as_str().unwrap()).unwrap()
        };
        assert_eq!(json(&began["input"])["command"], "echo hi");
        assert_eq!(
            (&json(&ended["output"])["stdout"], &ended["is_error"]),
            (&json!("hi"), &json!(false))
        );
        assert!(ended["duration_ms"].is_u64());
        let turn = session.turn(r#"USE_TOOL Bash {"command":"echo no; exit 3","description":"x"}"#);
        let ended = turn.hook("post_tool_use");
        assert_eq!(ended["is_error"], true);
        assert_eq!(json(&ended["output"]), "Exit code 3\nno");

        // The model speaks once more after its reply: that is known only when the turn has ended.
        let exact = (0..10).find_map(|_| {
            let turn = session.turn("hello");
            // All that the turn before has cost may be told late, in this one.
            let mut told = turn.0.iter().filter_map(|event| event.get("usage"));
            let known = told.rfind(|usage| usage["exact"] == false).cloned()?;
            let exact = session.exact()?;
            (known["message_id"] == exact["message_id"]).then_some((known, exact))
        });
        let (known, exact) = exact.unwrap();
        let tokens = |usage: &Value| usage["usage"]["input_tokens"].as_u64().unwrap();
        assert!(tokens(&exact) >= tokens(&known) && tokens(&exact) > 0, "{known} {exact}");

        session
            .turn(r#"USE_TOOL WebFetch {"url":"http://127.0.0.1:1/","prompt":"x"}"#)
            .was_denied("WebFetch");
        session.turn(QUESTION).was_denied("AskUserQuestion");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn in_plan_mode_a_real_session_replies_and_changes_nothing() {
    let Some(session) = session(PermissionMode::Plan).await else { return };
    played(session, |session| {
        let turn = session.turn("SAY the plan");
        assert_eq!(turn.reply(), "the plan");
        let asked = turn.hook("permission_request");
        assert_eq!(
            (&asked["tool_name"], &asked["allowed"]),
            (&json!("mcp__synthesis__reply"), &json!(true))
        );
        turn.hook("stop");

        let denied = |session: &mut Session, tool: &str, input: &Value| {
            let mut turn = session.turn(&format!("USE_TOOL {tool} {input}"));
            // The reply's own.
            turn.0.retain(|event| event["hook"]["permission_request"]["allowed"] != true);
            turn.was_denied(tool);
        };
        let made = session.workspace.join("made");
        let command = format!("touch {}", made.display());
        denied(session, "Bash", &json!({"command": command, "description": "x"}));
        denied(session, "Write", &json!({"file_path": made, "content": "x"}));
        denied(session, "ExitPlanMode", &json!({"plan": "do it"}));
        assert!(!made.exists());
        // What only reads in the workspace passes.
        let turn = session.turn(r#"USE_TOOL Bash {"command":"pwd","description":"x"}"#);
        assert_eq!(turn.reply(), session.workspace.to_str().unwrap());
    })
    .await;
}

/// The smallest picture.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_real_session_reads_an_attached_picture() {
    let Some(session) = session(PermissionMode::AcceptEdits).await else { return };
    played(session, |session| {
        let picture = data_encoding::BASE64.decode(PICTURE.as_bytes()).unwrap();
        let turn = session.turn_with("FILES", &[&picture]);
        let began = turn.hook("pre_tool_use");
        let input: Value = serde_json::from_str(began["input"]["text"].as_str().unwrap()).unwrap();
        let path = Path::new(input["file_path"].as_str().unwrap());
        assert_eq!(
            (&began["tool_name"], path.extension().unwrap()),
            (&json!("Read"), "png".as_ref())
        );
        assert!(turn.hooks("permission_request").is_empty(), "Read may read it");
        assert!(turn.reply().starts_with("picture image/png"), "{}", turn.reply());
    })
    .await;
}
