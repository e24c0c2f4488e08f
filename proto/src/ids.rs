//! Ids, names, paths and secrets as types that cannot be swapped. Each is checked where it is
//! made, so that a value of the type is always valid.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits;

/// Why a text is not a value of one of these types.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("not a valid {what}: {rule}")]
pub struct Invalid {
    /// The type that was asked for.
    pub what: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The checked text.
            ///
            /// # Errors
            /// [`Invalid`] names the rule that `text` breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(Invalid { what: $what, rule: $rule }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype!(
    /// One process of a session: fresh for each spawn, so that an exit can never be taken for
    /// that of a successor. 26 characters of `[a-z0-9]`; safe in a path and in a unit name.
    SessionId,
    "session id",
    "26 characters of [a-z0-9]",
    |s| s.len() == 26 && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

text_newtype!(
    /// A Unix account's name, in the form that useradd accepts.
    UnixUser,
    "user name",
    "1 to 32 characters of [a-z0-9_-], the first a letter or _",
    |s| {
        (1..=32).contains(&s.len())
            && s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);

text_newtype!(
    /// Whose sessions and runs these are: mostly the name of a [`UnixUser`].
    PrincipalName,
    "principal",
    "1 to 32 characters of [a-z0-9_-], the first no -",
    |s| {
        (1..=32).contains(&s.len())
            && !s.starts_with('-')
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    }
);

impl From<UnixUser> for PrincipalName {
    fn from(user: UnixUser) -> Self {
        Self(user.0)
    }
}

text_newtype!(
    /// What a bearer token is called where it is not shown.
    TokenId,
    "token id",
    "1 to 32 characters of [a-z0-9]",
    |s| (1..=32).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

text_newtype!(
    /// One message to claude. Rendered as an attribute of the message's tag, so plain.
    MessageId,
    "message id",
    "1 to 64 characters of [A-Za-z0-9_-]",
    |s| {
        (1..=64).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }
);

text_newtype!(
    /// A file of a message, as frontd calls it.
    FileId,
    "file id",
    "1 to 64 characters of [A-Za-z0-9_-]",
    |s| {
        (1..=64).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }
);

text_newtype!(
    /// A model's name as claude takes it after `--model=`. Never starts with a dash.
    ModelName,
    "model name",
    "1 to 128 characters of [A-Za-z0-9._:/@[]-], the first a letter or digit",
    |s| {
        (1..=128).contains(&s.len())
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@[]-".contains(&b))
    }
);

text_newtype!(
    /// An absolute path, by its text alone: no empty, `.` or `..` component, no control
    /// character, no trailing slash. Whether it may be used is policy's and the kernel's word.
    AbsolutePath,
    "absolute path",
    "starts with /, at most 4096 bytes, no control character, no empty, . or .. component",
    |s| {
        s.len() <= limits::PATH
            && !s.chars().any(char::is_control)
            && s.strip_prefix('/').is_some_and(|rest| {
                rest.is_empty() || rest.split('/').all(|c| !c.is_empty() && c != "." && c != "..")
            })
    }
);

impl AbsolutePath {
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }

    /// Is this path `root` itself or below it, component by component?
    pub fn is_within(&self, root: &AbsolutePath) -> bool {
        self.as_path().starts_with(root.as_path())
    }
}

impl SessionId {
    /// A fresh id from the system's random source (the uuid's 122 random bits in base 32).
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bits = Uuid::new_v4().as_u128();
        let mut text = String::with_capacity(26);
        for _ in 0..26 {
            let index = usize::try_from(bits & 31).expect("five bits");
            text.push(char::from(ALPHABET[index]));
            bits >>= 5;
        }
        Self(text)
    }
}

/// The conversation as the CLI knows it: the uuid of `--session-id` and `--resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(pub Uuid);

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Place of an event in what one channel tells frontd; counts from 1 for each secret.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// What a session's channel proves itself with: 64 hexadecimal digits (256 bits). Neither
/// `Debug` nor `Display`, so that it cannot reach a log by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret(String);

impl Secret {
    /// # Errors
    /// [`Invalid`] unless `text` is 64 lowercase hexadecimal digits.
    pub fn new(text: String) -> Result<Self, Invalid> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(Invalid { what: "secret", rule: "64 digits of [0-9a-f]" })
        }
    }

    /// Two random uuids are 244 bits from the system's random source.
    pub fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The text itself. Name every place where it leaves the process.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl From<Secret> for String {
    fn from(value: Secret) -> String {
        value.0
    }
}

macro_rules! hidden_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $longest:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`Invalid`] names the rule that `text` breaks.
            pub fn new(text: String) -> Result<Self, Invalid> {
                let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
                if (1..=$longest).contains(&text.len()) && text.bytes().all(plain) {
                    Ok(Self(text))
                } else {
                    Err(Invalid { what: $what, rule: $rule })
                }
            }

            /// The text itself. Name every place where it leaves the process.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        /// Tells nothing.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

hidden_newtype!(
    /// What a client gives as its bearer token: whether it is one is spawnd's to say. `==` takes
    /// a time that tells how much is alike: never against a token that is not the asker's own.
    TokenText,
    "token",
    256,
    "1 to 256 printable ASCII characters, no space, quote or backslash"
);

hidden_newtype!(
    /// spawnd's word that somebody was proved a moment ago: whoever has it may start sessions of
    /// that user's for a while. What is in it is spawnd's alone.
    Grant,
    "grant",
    512,
    "1 to 512 printable ASCII characters, no space, quote or backslash"
);

/// What a session's claude is told beside the CLI's own instructions: somebody's words, so
/// they are shown nowhere. Not empty.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instructions(String);

impl Instructions {
    /// # Errors
    /// [`Invalid`] when the text is empty, too long (also escaped, [`limits::INSTRUCTIONS_JSON`]) or
    /// holds a zero byte, at which other programs may take a text to end.
    pub fn new(text: String) -> Result<Self, Invalid> {
        let length = (1..=limits::INSTRUCTIONS).contains(&text.len());
        if length && !text.contains('\0') && json_len(&text) <= limits::INSTRUCTIONS_JSON {
            Ok(Self(text))
        } else {
            let rule = "1 byte to 48 KiB, 54 KiB as a JSON string, without a zero byte";
            Err(Invalid { what: "instructions", rule })
        }
    }

    /// The text itself, for the session's own file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Tells the length alone.
impl fmt::Debug for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instructions({} bytes)", self.0.len())
    }
}

impl TryFrom<String> for Instructions {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl From<Instructions> for String {
    fn from(value: Instructions) -> String {
        value.0
    }
}

/// Bytes of a text as serde_json writes it.
fn json_len(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => "\\u001f".len(),
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + "\"\"".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_bounded_as_they_are_and_as_they_are_written() {
        let ok = |text: String| Instructions::new(text).is_ok();
        assert!(ok("a".repeat(limits::INSTRUCTIONS)));
        assert!(!ok("a".repeat(limits::INSTRUCTIONS + 1)));
        assert!(ok("\u{1}".repeat((limits::INSTRUCTIONS_JSON - 2) / 6)));
        assert!(!ok("\u{1}".repeat((limits::INSTRUCTIONS_JSON - 2) / 6 + 1)));
        assert!(!ok(String::new()) && !ok("a\0b".to_owned()));
    }

    #[test]
    fn the_length_of_json_is_that_which_is_written() {
        for c in (0..0x100).filter_map(char::from_u32).chain(['\u{2028}', '終', '\u{1f600}']) {
            let text = c.to_string();
            assert_eq!(json_len(&text), serde_json::to_string(&text).unwrap().len(), "{c:?}");
        }
    }

    #[test]
    fn paths_are_judged_by_component() {
        for good in ["/", "/a", "/a.b/_c", "/a/..b"] {
            assert!(AbsolutePath::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a/", "//a", "/a//b", "/a/../b", "/./a", "/a\0b", "/a\nb"] {
            assert!(AbsolutePath::new(bad).is_err(), "{bad:?}");
        }
        let root = AbsolutePath::new("/home/al").expect("valid");
        assert!(AbsolutePath::new("/home/al/x").expect("valid").is_within(&root));
        assert!(!AbsolutePath::new("/home/alice").expect("valid").is_within(&root));
    }

    #[test]
    fn random_ids_are_valid_and_differ() {
        let (one, two) = (SessionId::random(), SessionId::random());
        assert!(SessionId::new(one.as_str()).is_ok());
        assert_ne!(one, two);
        let secret = Secret::random();
        assert!(Secret::new(secret.expose().to_owned()).is_ok());
    }

    #[test]
    fn what_opens_doors_is_bounded_and_shown_nowhere() {
        let token = TokenText::new("syn-abc".to_owned()).unwrap();
        let grant = Grant::new("v1.abc".to_owned()).unwrap();
        assert_eq!(format!("{token:?} {grant:?}"), "TokenText(…) Grant(…)");
        for bad in ["", "a b", "a\n", "é", "\u{7f}", "a\"", "a\\", &"x".repeat(257)] {
            assert!(TokenText::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(TokenText::new("!".repeat(256)).is_ok());
        assert!(Grant::new("~".repeat(512)).is_ok() && Grant::new("~".repeat(513)).is_err());
    }

    #[test]
    fn a_name_that_is_an_option_is_refused() {
        assert!(ModelName::new("--help").is_err());
        assert!(UnixUser::new("-root").is_err());
        assert!(SessionId::new("../../../../../etc/passwd1").is_err());
    }
}
