//! The CLI's transcript of the conversation, one JSON object a line: does it have a message, and
//! how many tokens has the turn cost? Only what was added since the push is ever read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use proto::bridge::TokenUsage;
use proto::ids::{ConversationId, MessageId};
use serde::Deserialize;

/// Bytes that one search reads. A message without receipt stands at the start of what was added.
const SEARCHED: u64 = 16 * 1024 * 1024;
/// Bytes that one count of tokens reads; the rest is left for the next one.
const COUNTED: u64 = 16 * 1024 * 1024;
/// A longer line is passed over: a model's message has at most some 500 KiB.
const LINE: usize = 4 * 1024 * 1024;
/// Messages of the model in one turn that are told apart.
const MESSAGES: usize = 4096;

pub(crate) struct Transcript {
    path: PathBuf,
    /// Where a search begins: before the first message that lacks its receipt.
    search_from: u64,
    /// The turn that is counted.
    count: Option<Count>,
}

/// What is left to count of a turn that has ended, while the next one may be counted already.
pub(crate) struct Rest {
    path: PathBuf,
    count: Count,
}

/// The tokens of one turn.
struct Count {
    /// The message that began it.
    message: MessageId,
    /// Where the next look begins. The CLI writes late, so lines of the turn before may still come.
    from: u64,
    /// Was the line of that message seen?
    begun: bool,
    /// Was the last message of the turn seen? What follows is another turn's.
    over: bool,
    /// Tokens of each of the turn's messages: the CLI repeats them with every block of a message.
    turn: Vec<(String, Tokens)>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    message: Message,
    #[serde(default, rename = "isSidechain")]
    is_sidechain: bool,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    usage: Tokens,
    stop_reason: Option<String>,
}

impl Transcript {
    pub(crate) fn new(config_dir: &Path, workspace: &Path, conversation: ConversationId) -> Self {
        let folder = slug(&workspace.to_string_lossy());
        let path = config_dir.join("projects").join(folder).join(format!("{conversation}.jsonl"));
        let mut transcript = Self { path, search_from: 0, count: None };
        transcript.pushed(true, None);
        transcript
    }

    /// A hook names the transcript: its word is better than our guess.
    pub(crate) fn is_at(&mut self, path: &str) {
        if self.path.as_os_str() != path && path.starts_with('/') {
            self.path = PathBuf::from(path);
            self.search_from = 0;
            if let Some(count) = &mut self.count {
                count.from = 0;
            }
        }
    }

    /// A message leaves for claude; `alone` when no earlier one lacks its receipt.
    pub(crate) fn pushed(&mut self, alone: bool, message: Option<&MessageId>) {
        let end = std::fs::metadata(&self.path).map_or(0, |data| data.len());
        if alone {
            self.search_from = end;
        }
        self.count = message.map(|message| Count {
            message: message.clone(),
            from: end,
            begun: false,
            over: false,
            turn: Vec::new(),
        });
    }

    /// Is the message in what was added since it was pushed?
    pub(crate) fn has(&self, message: &MessageId) -> bool {
        self.has_since(self.search_from, message)
    }

    /// Is the message in the conversation's last stretch, by whatever process?
    pub(crate) fn ever_had(&self, message: &MessageId) -> bool {
        let end = std::fs::metadata(&self.path).map_or(0, |data| data.len());
        self.has_since(end.saturating_sub(SEARCHED), message)
    }

    fn has_since(&self, from: u64, message: &MessageId) -> bool {
        let tag = tag(message);
        let found = |line: &[u8]| std::str::from_utf8(line).is_ok_and(|line| line.contains(&tag));
        let mut has = false;
        lines(&self.path, from, SEARCHED, |line| {
            has = has || found(line);
        });
        has
    }

    /// The turn's tokens so far; `None` when the transcript tells none. The CLI writes a message
    /// 100 to 250 ms after it was said, so the last one is often missing.
    pub(crate) fn usage(&mut self) -> Option<(MessageId, TokenUsage)> {
        let count = self.count.as_mut()?;
        count.read_on(&self.path);
        count.sum()
    }

    /// The counted turn has ended: gives what is left to do for its exact tokens, once. `message`
    /// is the one that began the turn that ended, where known.
    pub(crate) fn rest(&mut self, message: Option<&MessageId>) -> Option<Rest> {
        let of_it = |count: &mut Count| message.is_none_or(|message| count.message == *message);
        let count = self.count.take_if(of_it)?;
        Some(Rest { path: self.path.clone(), count })
    }
}

impl Rest {
    /// All tokens of the turn, once the transcript has its last message.
    pub(crate) fn exact(&mut self) -> Option<(MessageId, TokenUsage)> {
        self.count.read_on(&self.path);
        if self.count.over { self.count.sum() } else { None }
    }
}

impl Count {
    fn read_on(&mut self, path: &Path) {
        let tag = tag(&self.message);
        let (mut turn, mut begun, mut over) =
            (std::mem::take(&mut self.turn), self.begun, self.over);
        self.from = lines(path, self.from, COUNTED, |line| {
            if !begun {
                begun = begins(line, &tag);
            } else if !over {
                over = count(line, &mut turn);
            }
        });
        (self.turn, self.begun, self.over) = (turn, begun, over);
    }

    fn sum(&self) -> Option<(MessageId, TokenUsage)> {
        if self.turn.is_empty() {
            return None;
        }
        let sum = |of: fn(&Tokens) -> u64| {
            self.turn.iter().fold(0, |sum: u64, (_, tokens)| sum.saturating_add(of(tokens)))
        };
        let usage = TokenUsage {
            input_tokens: sum(|tokens| tokens.input_tokens),
            output_tokens: sum(|tokens| tokens.output_tokens),
            cache_read_input_tokens: sum(|tokens| tokens.cache_read_input_tokens),
            cache_creation_input_tokens: sum(|tokens| tokens.cache_creation_input_tokens),
        };
        Some((self.message.clone(), usage))
    }
}

/// Calls `each` with every complete line in the `bound` bytes after `from`; tells where the last of
/// them ended.
fn lines(path: &Path, from: u64, bound: u64, mut each: impl FnMut(&[u8])) -> u64 {
    let Some(file) = open_at(path, from) else {
        return from;
    };
    let mut reader = BufReader::with_capacity(64 * 1024, file.take(bound));
    let mut line = Vec::new();
    let mut end = from;
    loop {
        line.clear();
        match read_line(&mut reader, &mut line) {
            Some(length) => end += length,
            None => return end,
        }
        each(&line);
    }
}

fn open_at(path: &Path, from: u64) -> Option<File> {
    let mut file = super::open_plain(path)?;
    // Nothing was added: no need for the buffer.
    if file.metadata().ok()?.len() <= from {
        return None;
    }
    file.seek(SeekFrom::Start(from)).ok()?;
    Some(file)
}

/// One line with its end, into `line` unless it is longer than [`LINE`] (then nothing of it).
/// `None` at the end, or when what is left has no end yet.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Option<u64> {
    let mut length = 0;
    loop {
        let piece = reader.fill_buf().ok().filter(|piece| !piece.is_empty())?;
        let end = piece.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let taken = end.unwrap_or(piece.len());
        length += u64::try_from(taken).ok()?;
        if length <= LINE as u64 {
            line.extend_from_slice(piece.get(..taken)?);
        } else {
            line.clear();
        }
        reader.consume(taken);
        if end.is_some() {
            return Some(length);
        }
    }
}

/// The message as JSON has it inside a text: the attribute's quotation marks are escaped.
fn tag(message: &MessageId) -> String {
    format!("message_id=\\\"{message}\\\"")
}

/// Is this the line with which the message's turn begins?
fn begins(line: &[u8], tag: &str) -> bool {
    std::str::from_utf8(line)
        .is_ok_and(|line| line.contains("\"type\":\"user\"") && line.contains(tag))
}

/// Counts a line; is it of the turn's last message?
fn count(line: &[u8], turn: &mut Vec<(String, Tokens)>) -> bool {
    // Most bytes of a transcript are other lines; only a model's message is worth parsing.
    let Ok(text) = std::str::from_utf8(line) else { return false };
    if !text.contains("\"usage\":{") || !text.contains("\"type\":\"assistant\"") {
        return false;
    }
    let Ok(line) = serde_json::from_str::<Line>(text) else { return false };
    if line.r#type != "assistant" {
        return false;
    }
    let Message { id, usage, stop_reason } = line.message;
    match turn.iter().rposition(|(known, _)| *known == id) {
        Some(at) => turn[at].1 = usage,
        None if turn.len() < MESSAGES => turn.push((id, usage)),
        None => {}
    }
    // The end of a subagent is not that of the turn.
    let ends = |reason: String| !matches!(reason.as_str(), "tool_use" | "pause_turn");
    !line.is_sidechain && stop_reason.is_some_and(ends)
}

/// The CLI's name for the folder of a workspace: every UTF-16 unit outside `[a-zA-Z0-9]` becomes
/// `-`; of more than 200, the first 200, `-`, and a hash in base 36.
fn slug(workspace: &str) -> String {
    let plain: String = workspace
        .encode_utf16()
        .map(|unit| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii_alphanumeric() => char::from(byte),
            _ => '-',
        })
        .collect();
    if plain.len() <= 200 {
        return plain;
    }
    let hash = workspace
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    format!("{}-{}", plain.get(..200).unwrap_or_default(), base36(hash.unsigned_abs()))
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Folder {
        _folder: tempfile::TempDir,
        file: PathBuf,
    }

    impl Folder {
        fn new() -> (Self, Transcript) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("t.jsonl");
            let mut transcript = Transcript { path: PathBuf::new(), search_from: 0, count: None };
            transcript.is_at(file.to_str().unwrap());
            (Self { _folder: folder, file }, transcript)
        }

        fn add(&self, text: &str) {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).append(true).open(&self.file).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    }

    fn said(id: &str, output: u64) -> String {
        let line = serde_json::json!({"parentUuid": null, "type": "assistant", "message": {"id": id,
            "content": [{"type": "text", "text": "\"usage\":{"}],
            "usage": {"input_tokens": 10, "output_tokens": output, "service_tier": "standard"}}});
        format!("{line}\n")
    }

    fn asked(id: &str) -> String {
        let text = format!("<channel source=\"synthesis\" message_id=\"{id}\">\nhi\n</channel>");
        format!("{}\n", serde_json::json!({"type": "user", "message": {"content": text}}))
    }

    #[test]
    fn tokens_are_those_of_distinct_messages_since_the_push() {
        let (folder, mut transcript) = Folder::new();
        assert_eq!(transcript.usage(), None, "no file");
        folder.add(&said("before", 1000));
        let id = MessageId::new("m1").unwrap();
        transcript.pushed(true, Some(&id));
        assert_eq!(transcript.usage(), None, "nothing was added");
        folder.add(&said("late, of the turn before", 1000));
        folder.add(&asked("m1"));
        assert_eq!(transcript.usage(), None, "nothing of this turn");
        folder.add(&said("a", 1));
        folder.add(&said("a", 42));
        folder
            .add("{\"type\":\"user\",\"message\":{\"content\":\"\\\"usage\\\":{\"}}\nnonsense\n\n");
        let usage = transcript.usage().unwrap().1;
        assert_eq!((usage.input_tokens, usage.output_tokens), (10, 42));
        let (start, rest) = (said("b", 8).split_at(30).0.to_owned(), said("b", 8)[30..].to_owned());
        folder.add(&start);
        assert_eq!(transcript.usage().unwrap().1.output_tokens, 42, "half a line waits");
        folder.add(&rest);
        assert_eq!(transcript.usage().unwrap().1.output_tokens, 50);
        transcript.pushed(true, Some(&id));
        assert_eq!(transcript.usage(), None, "a new turn");
    }

    fn ended(id: &str, output: u64, stop_reason: &str) -> String {
        let line = serde_json::json!({"type": "assistant", "message": {"id": id,
            "stop_reason": stop_reason, "usage": {"output_tokens": output}}});
        format!("{line}\n")
    }

    #[test]
    fn a_turns_tokens_are_exact_once_its_last_message_is_there() {
        let (folder, mut transcript) = Folder::new();
        let (m1, m2) = (MessageId::new("m1").unwrap(), MessageId::new("m2").unwrap());
        transcript.pushed(true, Some(&m1));
        folder.add(&asked("m1"));
        folder.add(&ended("a", 1, "tool_use"));
        assert_eq!(transcript.usage().unwrap().1.output_tokens, 1);
        assert!(transcript.rest(Some(&m2)).is_none(), "another turn's end");
        let mut rest = transcript.rest(Some(&m1)).unwrap();
        assert!(transcript.rest(None).is_none(), "once");
        assert_eq!(rest.exact(), None, "the last message is missing");
        transcript.pushed(true, Some(&m2));
        let sidechain =
            ended("s", 4, "end_turn").replace("\"type\"", "\"isSidechain\":true,\"type\"");
        folder.add(&sidechain);
        assert_eq!(rest.exact(), None, "a subagent's end");
        folder.add(&ended("b", 2, "end_turn"));
        folder.add(&asked("m2"));
        folder.add(&ended("c", 1000, "end_turn"));
        let (message, usage) = rest.exact().unwrap();
        assert_eq!((message, usage.output_tokens), (m1, 7), "and nothing of the next turn");
        assert_eq!(transcript.usage().unwrap().1.output_tokens, 1000);
    }

    #[test]
    fn a_message_is_found_only_in_what_was_added() {
        let (folder, mut transcript) = Folder::new();
        let id = MessageId::new("m1").unwrap();
        let line = asked;
        folder.add(&line("m1"));
        transcript.pushed(true, Some(&id));
        assert!(!transcript.has(&id), "an older line");
        assert!(transcript.ever_had(&id) && !transcript.ever_had(&MessageId::new("m").unwrap()));
        folder.add(&line("m10"));
        assert!(!transcript.has(&id), "another id");
        folder.add(&line("m1"));
        transcript.pushed(false, Some(&id));
        assert!(transcript.has(&id), "a later push does not hide it");
        assert!(transcript.usage().is_none());
    }

    #[test]
    fn a_line_without_end_or_measure_does_no_harm() {
        let (folder, mut transcript) = Folder::new();
        transcript.pushed(true, Some(&MessageId::new("m1").unwrap()));
        folder.add(&"x".repeat(LINE + 1));
        assert_eq!(transcript.usage(), None);
        folder.add("\n");
        folder.add(&asked("m1"));
        folder.add(&said("a", 3));
        assert_eq!(transcript.usage().unwrap().1.output_tokens, 3);
    }

    #[test]
    fn a_fifo_or_folder_is_not_read() {
        let (folder, mut transcript) = Folder::new();
        nix::unistd::mkfifo(&folder.file, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(transcript.usage(), None);
        transcript.is_at("/proc");
        assert_eq!(transcript.usage(), None);
    }

    #[test]
    fn the_folder_is_named_as_the_cli_names_it() {
        assert_eq!(slug("/home/a.b/w_s"), "-home-a-b-w-s");
        assert_eq!(slug("/ü/😀"), "---".to_owned() + "--");
        let long = slug(&format!("/{}", "a".repeat(250)));
        assert!(long.starts_with(&format!("-{}-", "a".repeat(199))), "{long}");
        assert_eq!(base36(35 * 36 + 10), "za");
    }
}
