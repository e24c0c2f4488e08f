//! Does claude know what was said before? What the client tells of the past, held against what
//! this session's claude has seen.

use sha2::{Digest, Sha256};

use super::{Ask, Said};

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

/// Judges the past of a request by the hashes of what claude has seen, in order.
pub fn judge(ask: &mut Ask, rewinds: bool, seen: &[u64]) -> Past {
    let _ = (ask, rewinds, seen);
    Past::Continue
}

/// The same for texts that differ only in white space; the same in every release, for it is stored.
pub fn hash(text: &str) -> u64 {
    let mut hash = Sha256::new();
    for word in text.split_whitespace() {
        hash.update(word);
        hash.update(b" ");
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes have a first 8");
    u64::from_be_bytes(*first)
}

/// The earlier conversation as one text for claude, at most 256 KiB.
pub fn context(said: &[Said]) -> String {
    let _ = said;
    String::new()
}
