//! One session of two daemons whose claude waits at the points that the test names, and a run of
//! it as a client sees it who reads on with `Last-Event-ID` and asks again with its key.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::harness::client::PATIENCE;
use tests::harness::{Client, Stream, TwoDaemons, Wanted, processes};

/// What the run of a test says to the fake claude: a tool, a reply, the final reply.
pub(crate) const MESSAGE: &str = "STAGES";
pub(crate) use tests::directive::STAGES;

/// Waits for what has no event of its own.
pub(crate) async fn until(what: &str, daemons: &TwoDaemons, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(came, "not in time: {what}\n{}", daemons.log());
}

/// Sends a signal to a process of the test's own.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Two daemons whose claudes wait at these points.
pub(crate) async fn start(holds: &[&str], config: &str) -> TwoDaemons {
    let (fake, config) = (Some(json!({ "holds": holds })), config.to_owned());
    TwoDaemons::start(Wanted { config, fake, ..Wanted::default() }).await
}

/// Returns when a claude waits at the point.
pub(crate) async fn at(daemons: &TwoDaemons, point: &str) {
    let file = daemons.state.join("workspace").join(format!("at-{point}"));
    until(point, daemons, || file.exists()).await;
}

/// Lets every claude pass the point from now on.
pub(crate) fn release(daemons: &TwoDaemons, point: &str) {
    let file = daemons.state.join("workspace").join(format!("go-{point}"));
    std::fs::write(file, "").unwrap();
}

pub(crate) fn the_claude(daemons: &TwoDaemons) -> u32 {
    let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
    claude
}

/// Returns when the CLI's own word is that it does nothing.
pub(crate) async fn idle(daemons: &TwoDaemons) {
    let file = daemons.state.join(format!("home/.claude/sessions/{}.json", the_claude(daemons)));
    let state = || std::fs::read_to_string(&file).unwrap_or_default();
    until("idle", daemons, || state().contains(r#""status":"idle""#)).await;
}

pub(crate) fn channel_of(claude: u32) -> Option<u32> {
    let mut children = processes::children(claude).into_iter();
    children.find(|pid| processes::name(*pid).as_deref() == Some("channel"))
}

/// Every line of the fakes' journal: process, what happened, message.
pub(crate) fn journal(daemons: &TwoDaemons) -> Vec<(String, String, String)> {
    let path = daemons.state.join("workspace/journal");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        (word(), word(), word())
    };
    text.lines().map(line).collect()
}

/// How often claudes were given this run's message; checks that no process got it twice and none
/// after a receipt.
pub(crate) fn pushes(daemons: &TwoDaemons, run: &str) -> usize {
    let message = run.strip_prefix("run_").unwrap();
    let (mut given, mut received) = (BTreeSet::new(), false);
    let lines = journal(daemons);
    for (process, what, _) in lines.iter().filter(|(.., of)| of == message) {
        if what == "push" {
            assert!(!received, "pushed after its receipt: {lines:?}\n{}", daemons.log());
            assert!(given.insert(process), "pushed twice: {lines:?}\n{}", daemons.log());
        } else {
            received = true;
        }
    }
    given.len()
}

/// Begins the run of `text`, or finds it again; its id, and whether it is new.
pub(crate) async fn begin(client: &Client, key: &str, text: &str) -> (String, bool) {
    let reply =
        client.with("idempotency-key", key).post("/v1/runs", &json!({ "input": text })).await;
    assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
    (reply.json()["id"].as_str().unwrap().to_owned(), reply.status == 201)
}

/// A run's events as its reader has them, over however many connections.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) events: Vec<(u64, Value)>,
}

impl Read {
    /// Reads on from behind the last event, until `enough` or the end of the connection.
    pub(crate) async fn on(
        &mut self,
        client: &Client,
        run: &str,
        enough: impl Fn(&Value) -> bool,
    ) -> bool {
        let stream = self.open(client, run).await;
        self.from(stream, enough).await
    }

    /// A connection that goes on behind the last event.
    pub(crate) async fn open(&self, client: &Client, run: &str) -> Stream {
        let last = self.events.last().map_or(0, |(id, _)| *id).to_string();
        let client = client.with("last-event-id", &last);
        let path = format!("/v1/runs/{run}/events");
        let stream = client.stream_at("GET", &path, bytes::Bytes::new()).await;
        assert_eq!(stream.status, 200);
        stream
    }

    /// Reads until `enough`, or the end of the connection, however that comes.
    pub(crate) async fn from(
        &mut self,
        mut stream: Stream,
        enough: impl Fn(&Value) -> bool,
    ) -> bool {
        while let Ok(Some(event)) = stream.next_numbered().await {
            self.events.push(event);
            if self.events.last().is_some_and(|(_, event)| enough(event)) {
                return true;
            }
        }
        false
    }

    /// To the run's end, which must come.
    pub(crate) async fn until_over(&mut self, client: &Client, run: &str) {
        if !self.is_over() {
            self.on(client, run, |_| false).await;
        }
        assert!(self.is_over(), "{:?}", self.events);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.events.last().is_some_and(|(_, event)| event["type"] == "finished")
    }

    pub(crate) fn texts(&self) -> Vec<&str> {
        let of_reply = self.events.iter().filter(|(_, event)| event["type"] == "text-delta");
        of_reply.map(|(_, event)| event["delta"].as_str().unwrap()).collect()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|(_, event)| event["type"] == kind).count()
    }

    /// Checks that the whole run was seen, each event once and in order, and one end; gives that in
    /// a word: `answer`, `aborted`, or the error's code.
    pub(crate) async fn outcome(&self, client: &Client, run: &str) -> String {
        let places: Vec<u64> = self.events.iter().map(|(place, _)| *place).collect();
        let expected: Vec<u64> = (1..=places.len() as u64).collect();
        assert_eq!(places, expected, "{:?}", self.events);
        let mut again = Read::default();
        again.until_over(client, run).await;
        assert_eq!(again.events, self.events);
        assert_eq!(self.count("finished"), 1, "{:?}", self.events);
        let (_, end) = self.events.last().unwrap();
        match end["outcome"].as_str().unwrap() {
            "completed" => {
                assert_eq!(self.texts(), STAGES, "{:?}", self.events);
                "answer".to_owned()
            }
            "aborted" => "aborted".to_owned(),
            _ => {
                assert!(STAGES.starts_with(&self.texts()), "{:?}", self.events);
                let error = &end["error"];
                assert!(!error["message"].as_str().unwrap().is_empty(), "{end}");
                error["code"].as_str().unwrap().to_owned()
            }
        }
    }
}
