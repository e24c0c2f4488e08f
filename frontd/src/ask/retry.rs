//! Is this request the one that came before, sent again? The official clients send the same body
//! and count in a header. OpenClaw counts nothing: it writes the person's message anew and adds a
//! prompt of its own.

use proto::limits::MESSAGE_TEXT;

use super::{Ask, Speaker};
use crate::openclaw;

/// What stands before the person's message in the body of a turn that OpenClaw sends again.
const QUEUED: &str = "[Queued user message from a previous active turn; preserved as context only. \
                      Continue with the active prompt below.]\n";
/// How the prompt begins that stands after it, or in a message of its own.
const CONTINUE: &str = "Continue the current task from the existing transcript";
/// A note of OpenClaw's about a turn that it gave up.
const ABORTED: (&str, &str) = ("<turn_aborted>\n", "\n</turn_aborted>");
/// Messages of the new one that are held against the run's text.
const MESSAGES: usize = 64;

/// What a message of the user is, once OpenClaw's rewriting is taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The person's own words.
    Once(String),
    /// The person's own words, which OpenClaw sends again.
    Again(String),
    /// A prompt of OpenClaw's to go on.
    Continue(String),
    /// A note of OpenClaw's: nobody's words.
    Note,
}

/// Takes off what OpenClaw writes around a message that it sends again. The time stays.
pub(super) fn written(text: String) -> Written {
    let said = openclaw::without_time(&text);
    if is_continuation(said) {
        return Written::Continue(text);
    }
    if said.starts_with(ABORTED.0) && said.ends_with(ABORTED.1) {
        return Written::Note;
    }
    let stamp = text.len() - said.len();
    match original(said) {
        Some(original) => {
            let stamp = text.get(..stamp).unwrap_or_default();
            Written::Again(format!("{stamp}{original}"))
        }
        None => Written::Once(text),
    }
}

/// The person's message in a rewritten one.
fn original(said: &str) -> Option<&str> {
    let rest = said.strip_prefix(QUEUED)?;
    let (original, prompt) = rest.rsplit_once("\n\n")?;
    is_continuation(prompt).then_some(original)
}

/// One line that begins as OpenClaw's prompt does.
fn is_continuation(text: &str) -> bool {
    text.starts_with(CONTINUE) && !text.contains('\n')
}

/// Does the request ask for the run that began with the person's text `of`?
///
/// It does when its text is that run's, and either the client says that it tries again
/// (`x-stainless-retry-count`) or OpenClaw wrote the message anew. Messages before the run's own
/// may stand in the request that claude had seen already.
pub fn repeats(ask: &Ask, of: &str, stainless_retry: u32) -> bool {
    if !ask.new.again() && stainless_retry == 0 {
        return false;
    }
    let of = plain(of);
    if ask.new.continues() {
        let persons = |said: &&super::Said| said.who == Speaker::Person;
        return ask.history.iter().rfind(persons).is_some_and(|said| plain(&said.text) == of);
    }
    let latest = ask.new.latest().take(MESSAGES);
    latest.take_while(|text| text.len() <= 2 * MESSAGE_TEXT).any(|text| plain(text) == of)
}

/// The words, without the time that each message may begin with.
fn plain(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(openclaw::without_time);
    let words: Vec<&str> = paragraphs.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
