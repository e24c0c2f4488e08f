//! What the fake claude has seen, from the transcripts that it leaves, and what a run's log says.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Server, client};

/// A message as it entered a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) conversation: String,
    /// The tag with its attributes, and the message in it.
    pub(crate) text: String,
    at: String,
}

impl Prompt {
    /// Was an earlier conversation told with it?
    pub(crate) fn has_context(&self) -> bool {
        self.text.contains("<earlier-conversation>")
    }
}

/// Every message that any claude of the server was given, in order.
pub(crate) fn prompts(server: &Server) -> Vec<Prompt> {
    let mut found = Vec::new();
    for (conversation, line) in lines(server) {
        if line["type"] == "user" && line["isMeta"] == true {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (text, at) = (text(&line["message"]["content"]), text(&line["timestamp"]));
            found.push(Prompt { conversation, text, at });
        }
    }
    found.sort_by(|one, other| one.at.cmp(&other.at));
    found
}

/// How many messages with these words any claude was given.
pub(crate) fn pushes(server: &Server, words: &str) -> usize {
    prompts(server).iter().filter(|prompt| prompt.text.contains(words)).count()
}

/// How many turns Esc has ended.
pub(crate) fn interruptions(server: &Server) -> usize {
    let is = |line: &Value| line.to_string().contains("[Request interrupted by user]");
    lines(server).iter().filter(|(_, line)| is(line)).count()
}

/// Every line of every transcript, with its conversation's id.
pub(crate) fn lines(server: &Server) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for file in transcripts(server) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // The last line may be half there.
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        found.extend(lines.map(|line| (name.clone(), line)));
    }
    found
}

pub(crate) fn transcripts(server: &Server) -> Vec<PathBuf> {
    let mut files = Vec::new();
    gather(&server.state.join("home/.claude/projects"), &mut files);
    files
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
}

/// Waits for a condition that has no event of its own.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_asked(what, async || holds()).await;
}

/// Likewise, for one that the server has to be asked about.
pub(crate) async fn until_asked(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + client::PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The body of a request with a conversation: each message a role's first letter and its text.
pub(crate) fn conversation(messages: &[(&str, &str)]) -> Value {
    let message = |(role, text): &(&str, &str)| {
        let role = match *role {
            "u" => "user",
            "a" => "assistant",
            other => other,
        };
        json!({ "role": role, "content": text })
    };
    let messages: Vec<Value> = messages.iter().map(message).collect();
    json!({ "messages": messages })
}

/// The statuses among a run's events, in order.
pub(crate) fn statuses(events: &[Value]) -> Vec<&str> {
    of_type(events, "status").iter().filter_map(|event| event["status"].as_str()).collect()
}

pub(crate) fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// How the run ended.
pub(crate) fn outcome(events: &[Value]) -> &str {
    let last = events.last().expect("events");
    assert_eq!(last["type"], "finished", "{events:?}");
    last["outcome"].as_str().unwrap()
}
