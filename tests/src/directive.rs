//! What a message asks an instrument to do: the words that tests write into their messages.
//! Pure: text in, [`Script`] out. Both the mock model and the fake claude obey it.
//!
//! A directive stands at the start of a line (blanks and one `[…]` prefix may come before it);
//! the last such line of the message counts, so that earlier turns given as context do not.
//! Modifiers (`SLOW`, `FLOOD`, `UTF8`, `TWICE`, `LATE_LINES`, `LATE_DISPLAY`) may stand before one
//! action on the same line.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Waits and texts longer than this are cut: a typing error must not eat the machine.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const BIGGEST_KIB: usize = 64 * 1024;
const MOST_CHUNKS: usize = 10_000;

/// One message, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Wait before anything else happens in the turn.
    pub slow: Duration,
    /// KiB of output on the terminal during the turn (fake claude only).
    pub flood_kib: usize,
    /// Multi-byte terminal output, cut inside characters (fake claude only).
    pub utf8: bool,
    /// Run each hook of the turn twice (fake claude only).
    pub twice: bool,
    /// Write the turn's last message into the transcript so long after `Stop` (fake claude only).
    pub late_lines: Duration,
    /// Tell of the turn's last displayed text only after `Stop` (fake claude only).
    pub late_display: bool,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Action {
    /// Reply with the message itself behind the instrument's own words.
    #[default]
    Echo,
    /// Reply with exactly this.
    Say(String),
    /// End the turn with this text and call no reply tool.
    TextOnly(String),
    /// Call this tool first, then reply with its result.
    UseTool { name: String, input: String },
    /// Display a text of so many lines before the reply, one piece each.
    Display { count: usize, pause: Duration },
    /// Read the attached files and reply with what they are; the mock model has the first one read
    /// by the tool for it.
    Files,
    /// `count` replies, the last of them final, with a pause between them.
    Chunks { count: usize, pause: Duration },
    /// A tool, one reply, the final reply ([`STAGES`]); a test may hold it in between (fake claude
    /// only).
    Stages,
    /// A reply of this many KiB.
    Big { kib: usize },
    /// Begin, and never go on.
    Hang,
    /// The model's service fails with this status.
    ApiError { status: u16 },
    /// Fake claude only, from here on. SIGKILL itself in the turn.
    Crash,
    /// Exit with this status in the turn.
    Exit { status: i32 },
    /// End the turn with `Stop` and no text at all.
    Mute,
    /// Reply, then go idle without a `Stop`.
    NoStop,
    /// End the turn first, then reply without an id.
    Late { after: Duration },
    /// `Stop` before the reply of the same turn.
    WrongOrder,
    /// Two final replies.
    Double,
    /// A reply to a message that never was, then the true one.
    ForeignId,
    /// Kill the channel process and go on.
    KillChannel,
    /// Reply with claude's own environment.
    EchoEnv,
    /// Reply with what it was told at its start, behind the CLI's own prompt.
    EchoInstructions,
    /// Claim to have used this tool, whatever it is, then reply.
    ClaimTool(ClaimedTool),
    /// Condense the context in the turn, then reply.
    Compact,
    /// Deliver an answer, but never say that the turn began (no `UserPromptSubmit`).
    NoReceipt,
}

/// A tool call as hooks tell of it; all of it is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedTool {
    pub name: String,
    pub input: String,
    pub output: String,
    pub fails: bool,
}

/// `{"name": …, "input": …, "output": …, "fails": …}`; with `fails`, `output` is the error's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimedJson<'a> {
    name: String,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    output: &'a RawValue,
    #[serde(default)]
    fails: bool,
}

fn claimed(text: &str) -> Option<ClaimedTool> {
    let ClaimedJson { name, input, output, fails } = serde_json::from_str(text).ok()?;
    let [input, output] = [input, output].map(|raw| raw.get().to_owned());
    Some(ClaimedTool { name, input, output, fails })
}

/// Reads a message's text.
pub fn parse(content: &str) -> Script {
    let mut found = None;
    let mut at = 0;
    for line in content.split_inclusive('\n') {
        let skipped = line.len() - without_prefix(line).len();
        if let Some(script) = parse_at(&content[at + skipped..]) {
            found = Some(script);
        }
        at += line.len();
    }
    found.unwrap_or_default()
}

/// Drops blanks and one prefix like `[Fri 2026-11-20 23:17 UTC] `.
fn without_prefix(line: &str) -> &str {
    let line = line.trim_start();
    match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, after)) => after.trim_start(),
        None => line,
    }
}

fn parse_at(mut text: &str) -> Option<Script> {
    let mut script = Script::default();
    let mut modified = false;
    loop {
        let (word, rest) = split_word(text);
        match word {
            "SLOW" => {
                let (wait, rest) = number(rest)?;
                script.slow = millis(wait);
                text = rest;
            }
            "FLOOD" => {
                let (kib, rest) = number(rest)?;
                script.flood_kib = kib.min(BIGGEST_KIB);
                text = rest;
            }
            "UTF8" => {
                script.utf8 = true;
                text = rest;
            }
            "TWICE" => {
                script.twice = true;
                text = rest;
            }
            "LATE_LINES" => {
                let (wait, rest) = number(rest)?;
                script.late_lines = millis(wait);
                text = rest;
            }
            "LATE_DISPLAY" => {
                script.late_display = true;
                text = rest;
            }
            _ => {
                script.action = match action(word, rest) {
                    Some(action) => action,
                    None if modified => Action::Echo,
                    None => return None,
                };
                return Some(script);
            }
        }
        modified = true;
    }
}

fn action(word: &str, rest: &str) -> Option<Action> {
    let first = || number(rest).map(|(value, _)| value);
    Some(match word {
        "ECHO" => Action::Echo,
        "SAY" => Action::Say(rest.to_owned()),
        "TEXT_ONLY" => Action::TextOnly(rest.to_owned()),
        "USE_TOOL" => {
            let (name, input) = split_word(line(rest));
            Action::UseTool { name: name.to_owned(), input: input.trim().to_owned() }
        }
        "TOOL" => Action::UseTool {
            name: "Bash".to_owned(),
            input: r#"{"command":"echo hi","description":"say hi"}"#.to_owned(),
        },
        "CHUNKS" => {
            let (count, pause) = counted(rest)?;
            Action::Chunks { count, pause }
        }
        "STAGES" => Action::Stages,
        "DISPLAY" => {
            let (count, pause) = counted(rest)?;
            Action::Display { count, pause }
        }
        "FILES" => Action::Files,
        "CLAIM_TOOL" => Action::ClaimTool(claimed(line(rest))?),
        "COMPACT" => Action::Compact,
        "BIG" => Action::Big { kib: first()?.min(BIGGEST_KIB) },
        "HANG" => Action::Hang,
        "API_ERROR" => {
            let status = first().and_then(|value| u16::try_from(value).ok());
            Action::ApiError { status: status.filter(|s| (400..600).contains(s)).unwrap_or(529) }
        }
        "CRASH" => Action::Crash,
        "EXIT" => Action::Exit { status: first().and_then(|n| i32::try_from(n).ok()).unwrap_or(1) },
        "MUTE" => Action::Mute,
        "NO_STOP" => Action::NoStop,
        "LATE" => Action::Late { after: first().map_or(Duration::ZERO, millis) },
        "WRONG_ORDER" => Action::WrongOrder,
        "DOUBLE" => Action::Double,
        "FOREIGN_ID" => Action::ForeignId,
        "KILL_CHANNEL" => Action::KillChannel,
        "ECHO_ENV" => Action::EchoEnv,
        "ECHO_INSTRUCTIONS" => Action::EchoInstructions,
        "NO_RECEIPT" => Action::NoReceipt,
        _ => return None,
    })
}

/// The word at the start and what follows the one blank behind it.
fn split_word(text: &str) -> (&str, &str) {
    match text.find(char::is_whitespace) {
        Some(end) => (&text[..end], text[end..].strip_prefix(' ').unwrap_or(&text[end..])),
        None => (text, ""),
    }
}

/// A count and a pause.
fn counted(text: &str) -> Option<(usize, Duration)> {
    let (count, rest) = number(text)?;
    let pause = number(rest).map_or(Duration::ZERO, |(value, _)| millis(value));
    Some((count.clamp(1, MOST_CHUNKS), pause))
}

fn line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn number(text: &str) -> Option<(usize, &str)> {
    let (word, rest) = split_word(text.trim_start_matches(' '));
    Some((word.parse().ok()?, rest))
}

fn millis(value: usize) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(u64::MAX)).min(LONGEST_WAIT)
}

/// The replies of [`Action::Stages`].
pub const STAGES: [&str; 2] = ["the first half of the answer, ", "and the second half of it."];

/// The text of chunk `index` (from 1) of `count`.
pub fn chunk_text(index: usize, count: usize) -> String {
    format!("chunk {index}/{count}\n")
}

/// Line `index` (from 1) of a displayed text of `count`.
pub fn display_text(index: usize, count: usize) -> String {
    format!("display {index}/{count}\n")
}

/// `kib` KiB of lines of 64 bytes that carry their number, so that a lost or doubled part shows.
pub fn big_text(kib: usize) -> String {
    let mut text = String::with_capacity(kib * 1024);
    for number in 0..kib * 16 {
        text.push_str(&format!(
            "{number:08} the quick brown fox jumps over the lazy dog 1234567890\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(content: &str) -> Action {
        parse(content).action
    }

    #[test]
    fn ordinary_text_is_echoed() {
        for text in ["hello", "", "please SAY it", "CHUNKS many", "SAYING", "SLOW", "say x"] {
            assert_eq!(parse(text), Script::default(), "{text}");
        }
    }

    #[test]
    fn directives_carry_their_arguments() {
        assert_eq!(acts("SAY  two\nlines"), Action::Say(" two\nlines".to_owned()));
        assert_eq!(
            acts("USE_TOOL Bash {\"command\":\"true\"}\nx"),
            Action::UseTool { name: "Bash".into(), input: "{\"command\":\"true\"}".into() }
        );
        assert_eq!(acts("CHUNKS 3"), Action::Chunks { count: 3, pause: Duration::ZERO });
        assert_eq!(
            acts("[Fri 2026-11-20 23:17 UTC] CHUNKS 3 20"),
            Action::Chunks { count: 3, pause: Duration::from_millis(20) }
        );
        assert_eq!(
            acts("CLAIM_TOOL {\"name\":\"T\",\"input\":{\"b\":1,\"a\":2},\"output\":[ 1 ]}\nx"),
            Action::ClaimTool(ClaimedTool {
                name: "T".into(),
                input: "{\"b\":1,\"a\":2}".into(),
                output: "[ 1 ]".into(),
                fails: false,
            })
        );
        assert_eq!(acts("CLAIM_TOOL {}"), Action::Echo);
        assert_eq!(acts("DISPLAY 2"), Action::Display { count: 2, pause: Duration::ZERO });
        assert_eq!(acts("API_ERROR"), Action::ApiError { status: 529 });
        assert_eq!(acts("API_ERROR 400"), Action::ApiError { status: 400 });
    }

    #[test]
    fn modifiers_stand_before_one_action() {
        let script = parse("SLOW 20 UTF8 FLOOD 4 TEXT_ONLY hi");
        assert_eq!(script.slow, Duration::from_millis(20));
        assert_eq!(script.flood_kib, 4);
        assert!(script.utf8);
        assert_eq!(script.action, Action::TextOnly("hi".to_owned()));
        assert_eq!(parse("SLOW 5\nrest").action, Action::Echo);
        let script = parse("TWICE LATE_LINES 7 LATE_DISPLAY COMPACT");
        assert!(script.twice && script.late_display && script.action == Action::Compact);
        assert_eq!(script.late_lines, Duration::from_millis(7));
    }

    #[test]
    fn the_last_line_with_a_directive_counts() {
        assert_eq!(acts("user: HANG\nSAY a\nCRASH"), Action::Crash);
    }

    #[test]
    fn big_text_has_its_size() {
        assert_eq!(big_text(3).len(), 3 * 1024);
    }
}
