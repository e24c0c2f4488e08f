//! Does claude know what was said before? What the client tells of the past, held against what
//! this session's claude has seen.
//!
//! A hash of the person's messages has its last bit clear, one of our answers has it set, so that
//! both can stand in one list in the order in which claude saw them. The person's messages decide;
//! the answers help where a client changes the person's words after it sent them.

use sha2::{Digest, Sha256};

use super::{Ask, Said, Speaker};
use crate::openclaw;

/// Messages that are compared backwards from one that fits: as good as all of a conversation.
const COMPARED: usize = 64;
/// Bytes of words in an answer that tells something: many conversations have a "Done."
const TELLING: usize = 24;
const ANSWER: u64 = 1;

/// What claude must be told of the past before the new message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// Nothing: it knows.
    Continue,
    /// This, once, in the conversation as it is.
    WithContext(Vec<Said>),
    /// This, in a conversation of its own: the client went back, or tells of another one.
    Fresh(Vec<Said>),
}

/// Judges the past of a request by the hashes of what claude has seen, in order. `rewinds`: the
/// client says that it went back, and shows all that was said before.
///
/// The history is taken out of `ask`, and so is what claude has seen of the new message: a client
/// shows a message that got no answer again, before the next one.
pub fn judge(ask: &mut Ask, rewinds: bool, seen: &[u64]) -> Past {
    let mut history = std::mem::take(&mut ask.history);
    let hashes = std::mem::take(&mut ask.hashes);
    // Where each of the person's messages stands in the history, and its hash.
    let of_person = |(index, hash): (usize, &Option<u64>)| Some((index, hash.filter(is_person)?));
    let told: Vec<(usize, u64)> = hashes.iter().enumerate().filter_map(of_person).collect();
    let earlier = ask.new.earlier_hashes();
    let all: Vec<u64> = told.iter().map(|(_, hash)| *hash).chain(earlier).collect();

    if !seen.iter().any(is_person) {
        return with_context(history);
    }
    if all.is_empty() {
        return if rewinds { Past::Fresh(history) } else { Past::Continue };
    }
    let seen_persons: Vec<u64> = seen.iter().copied().filter(is_person).collect();
    match known(&all, told.len(), &seen_persons, rewinds) {
        Some(known) if known > told.len() => {
            ask.new.leave_out(known - told.len());
            Past::Continue
        }
        Some(known) => {
            // What claude answered to the last message that it knows, it knows.
            let unknown = told.get(known).map_or(history.len(), |(index, _)| *index);
            with_context(history.split_off(unknown))
        }
        None if !is_proper_prefix(&all, &seen_persons) => match answered(&hashes, seen) {
            Some(answer) => {
                let of_person = told.iter().find(|(index, _)| *index > answer);
                let unknown = of_person.map_or(history.len(), |(index, _)| *index);
                with_context(history.split_off(unknown))
            }
            None => Past::Fresh(history),
        },
        None => Past::Fresh(history),
    }
}

fn with_context(said: Vec<Said>) -> Past {
    if said.is_empty() { Past::Continue } else { Past::WithContext(said) }
}

/// How many of `all` that the client tells, from the first, end with the last that claude has
/// seen; `None` if that is not among them or the client went back behind it. The first `old` of
/// them stand in the history.
///
/// The same words may have been said more than once: the place counts before which most fits.
fn known(all: &[u64], old: usize, seen: &[u64], rewinds: bool) -> Option<usize> {
    let last = seen.last()?;
    let fits = |place: usize| {
        let pairs = all.iter().take(place + 1).rev().zip(seen.iter().rev()).take(COMPARED);
        let compared = pairs.len();
        let same = pairs.take_while(|(told, seen)| told == seen).count();
        // At the end, what is new stays new: nothing that a person said may be lost.
        (same, same == compared, place < old, place)
    };
    let places = all.iter().enumerate().filter(|(_, hash)| *hash == last).map(|(place, _)| place);
    let place = places.max_by_key(|place| fits(*place))?;
    let told = all.get(..=place)?;
    let went_back = is_proper_prefix(told, seen) && (rewinds || !seen.ends_with(told));
    (!went_back).then_some(place + 1)
}

fn is_proper_prefix(told: &[u64], seen: &[u64]) -> bool {
    told.len() < seen.len() && seen.starts_with(told)
}

/// Where our latest answer stands in the history, if that is the last that claude has seen: then
/// the person's message before it was only told otherwise.
fn answered(hashes: &[Option<u64>], seen: &[u64]) -> Option<usize> {
    let answer = seen.last().filter(|hash| !is_person(hash))?;
    hashes.iter().rposition(|hash| hash.as_ref() == Some(answer))
}

fn is_person(hash: &u64) -> bool {
    hash & ANSWER == 0
}

/// `None`: it tells nothing of what claude has seen.
pub(super) fn hash_of(said: &Said) -> Option<u64> {
    match said.who {
        Speaker::Person => (!openclaw::is_summary(&said.text)).then(|| hash(&said.text)),
        Speaker::Assistant => hash_answer(&said.text),
    }
}

/// Of a message of the person's: the same for texts that differ only in white space or in the time
/// that OpenClaw puts before them. The same in every release, for it is stored.
pub fn hash(text: &str) -> u64 {
    digest(openclaw::without_time(text)) & !ANSWER
}

/// Of our answer. `None`: it is too short to tell one conversation from another.
pub fn hash_answer(text: &str) -> Option<u64> {
    let bytes: usize = text.split_whitespace().map(str::len).sum();
    (bytes >= TELLING).then(|| digest(text) | ANSWER)
}

fn digest(text: &str) -> u64 {
    let mut hash = Sha256::new();
    for word in text.split_whitespace() {
        hash.update(word);
        hash.update(b" ");
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes have a first 8");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests;
