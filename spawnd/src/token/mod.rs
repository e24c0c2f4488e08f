//! Bearer tokens: who may come in with which text. The table keeps a hash of each, one JSON object a
//! line; the text itself is shown once, when it is made. Here is the table, pure; [`shelf`] is its
//! file, [`command`] what root says to it, [`date`] how people write times.

pub mod command;
pub mod date;
pub mod shelf;
#[cfg(test)]
mod tests;

use hmac_sha256::Hash;
use proto::ids::{PrincipalName, TokenId, TokenText, UnixUser};
use proto::spawn::Scope;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Tokens of all users: each is compared with at every look-up.
pub const MOST: usize = 4096;
/// Bytes of the file: a line is under 400.
pub const FILE: u64 = MOST as u64 * 512;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub id: TokenId,
    pub user: UnixUser,
    pub principal: PrincipalName,
    pub scopes: Vec<Scope>,
    pub sha256: Digest,
    /// Seconds since 1970, as `expires`.
    pub created: u64,
    /// From then on it opens nothing.
    pub expires: Option<u64>,
}

impl Token {
    pub fn has_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// SHA-256 of a token's text: 160 random bits need no salt and no slow hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(token: &TokenText) -> Self {
        Self(Hash::hash(token.expose().as_bytes()))
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit =
            |byte: &u8| char::from(*byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("sha256 is not 64 digits of [0-9a-f]")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        hex(&digest.0)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with the table, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("has more than {MOST} tokens")]
    TooMany,
    #[error("has a token {0} already")]
    Taken(TokenId),
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Table(Vec<Token>);

impl Table {
    /// # Errors
    /// The first line that is no token; then none of the others counts either.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut table = Self::default();
        for (index, line) in text.lines().enumerate() {
            let fault = |what: String| Fault::Line {
                line: index + 1,
                // The parser repeats what it does not know.
                what: proto::journal::escaped(what),
            };
            let token: Token =
                serde_json::from_str(line).map_err(|error| fault(error.to_string()))?;
            if token.scopes.is_empty() || token.scopes.len() > Scope::ALL.len() {
                return Err(fault("needs one to three scopes".to_owned()));
            }
            table.add(token).map_err(|error| fault(error.to_string()))?;
        }
        Ok(table)
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn text(&self) -> String {
        let line = |token| serde_json::to_string(token).expect("plain fields");
        self.0.iter().map(|token| line(token) + "\n").collect()
    }

    /// # Errors
    /// When the table is full, or has one with that id.
    pub fn add(&mut self, token: Token) -> Result<(), Fault> {
        if self.0.len() >= MOST {
            return Err(Fault::TooMany);
        }
        if self.of_id(&token.id).is_some() {
            return Err(Fault::Taken(token.id));
        }
        self.0.push(token);
        Ok(())
    }

    /// Was it there?
    pub fn remove(&mut self, id: &TokenId) -> bool {
        let before = self.0.len();
        self.0.retain(|token| token.id != *id);
        self.0.len() < before
    }

    pub fn of_id(&self, id: &TokenId) -> Option<&Token> {
        self.0.iter().find(|token| token.id == *id)
    }

    /// The token of this text. Compares with every one of them, each in constant time: how long it
    /// takes says how many there are, and nothing of what they are.
    pub fn of_text(&self, text: &TokenText) -> Option<&Token> {
        let Digest(digest) = Digest::of(text);
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.sha256.0.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found
    }

    pub fn tokens(&self) -> &[Token] {
        &self.0
    }
}
