//! One entry: its kind, whose word it is, its fields. Plain values.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::journal::{self, Field};

/// What is recorded; each has a MESSAGE_ID of its own for `journalctl MESSAGE_ID=` and the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody did not prove who he is.
    Authentication,
    /// A request was let in.
    Admitted,
    /// A request was not.
    Refused,
    /// claude was given a message.
    TurnStart,
    /// A run is over, and how.
    TurnEnd,
    /// All tokens of a run, known a moment after its end.
    Usage,
    /// claude called a tool.
    Tool,
    /// A run is to end before its time.
    Abort,
    /// frontd serves.
    Restart,
    /// A process of an earlier frontd was taken over.
    Adopted,
    /// Entries of one peer that were counted instead of written.
    Counted,
    /// Entries that could not be written at all.
    Lost,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Authentication,
        Self::Admitted,
        Self::Refused,
        Self::TurnStart,
        Self::TurnEnd,
        Self::Usage,
        Self::Tool,
        Self::Abort,
        Self::Restart,
        Self::Adopted,
        Self::Counted,
        Self::Lost,
    ];

    pub fn message_id(self) -> &'static str {
        match self {
            Self::Authentication => "f307ee17fc5c08c80f97e5e2aeadf9e0",
            Self::Admitted => "0432e0d58a4e959a66e76381c897007c",
            Self::Refused => "c3b46090831a4b10b3cc89457eb9b358",
            Self::TurnStart => "1160bf3723cda569d34b5e6a1fa71f3f",
            Self::TurnEnd => "c867a1df1e572a4065b35b40e4d44c74",
            Self::Usage => "305b9884e7b8e296356579fbd5a6d793",
            Self::Tool => "4d672edd87c87bb7afe636688c08adab",
            Self::Abort => "443fbae5cd6e930049d2d7b2b8a2644a",
            Self::Restart => "5b6817f2a355b0c809c055cb981418e4",
            Self::Adopted => "4c1845e6e62843d0c4cbd95add1f6500",
            Self::Counted => "8aff17194d240950d6527fb818f76cd2",
            Self::Lost => "75bf8fc6c8fce7ec8d2aa1e948bede38",
        }
    }

    /// `SYNTHESIS_KIND`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::TurnStart => "turn-start",
            Self::TurnEnd => "turn-end",
            Self::Usage => "usage",
            Self::Tool => "tool",
            Self::Abort => "abort",
            Self::Restart => "restart",
            Self::Adopted => "adopted",
            Self::Counted => "counted",
            Self::Lost => "lost",
        }
    }

    /// syslog's levels: what an administrator should see is a warning.
    fn priority(self) -> &'static str {
        match self {
            Self::Authentication | Self::Counted | Self::Lost => "4",
            Self::TurnStart | Self::TurnEnd | Self::Restart | Self::Abort | Self::Refused => "5",
            Self::Admitted | Self::Usage | Self::Tool | Self::Adopted => "6",
        }
    }

    /// By whose word: what a session says of itself is its own testimony.
    fn witness(self) -> &'static str {
        match self {
            Self::Usage | Self::Tool => "session",
            Self::Authentication
            | Self::Admitted
            | Self::Refused
            | Self::TurnStart
            | Self::TurnEnd
            | Self::Abort
            | Self::Restart
            | Self::Adopted
            | Self::Counted
            | Self::Lost => "frontd",
        }
    }
}

/// The other end of a connection, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    Uid(u32),
    Address(IpAddr),
}

/// Who is to blame for a flood of entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    Principal(Arc<str>),
    /// Who has not said who he is.
    Peer(Peer),
    /// Many, counted together.
    Others,
}

#[derive(Debug, Clone)]
pub struct Entry {
    /// It may wait before it is written.
    at: SystemTime,
    fields: Vec<Field>,
}

impl Entry {
    /// `message` is for people and of our own words.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut fields = Vec::with_capacity(20);
        fields.extend([
            ("MESSAGE", message.into()),
            ("MESSAGE_ID", kind.message_id().to_owned()),
            ("SYNTHESIS_KIND", kind.name().to_owned()),
            ("SYNTHESIS_WITNESS", kind.witness().to_owned()),
            ("PRIORITY", kind.priority().to_owned()),
            ("SYSLOG_IDENTIFIER", "synthesis-frontd".to_owned()),
        ]);
        Self { at: SystemTime::now(), fields }
    }

    pub(super) fn counted(cause: &Cause, kind: Kind, count: u64) -> Self {
        let message = format!("{count} more entries ({}) within a second", kind.name());
        let entry = Self::new(Kind::Counted, message);
        let entry = match cause {
            Cause::Principal(principal) => entry.with("SYNTHESIS_PRINCIPAL", principal),
            Cause::Peer(peer) => entry.client(*peer),
            Cause::Others => entry,
        };
        entry.with("SYNTHESIS_COUNT", count).with("SYNTHESIS_COUNTED", kind.message_id())
    }

    pub(super) fn lost(count: u64) -> Self {
        let message = format!("{count} audit entries could not be written");
        Self::new(Kind::Lost, message).with("SYNTHESIS_COUNT", count)
    }

    /// Whose connection it was.
    #[must_use]
    pub fn client(self, peer: Peer) -> Self {
        match peer {
            Peer::Uid(uid) => self.with("SYNTHESIS_CLIENT_UID", uid),
            Peer::Address(address) => self.with("SYNTHESIS_CLIENT_ADDRESS", address),
        }
    }

    /// Why; whoever reads only messages sees it, too.
    #[must_use]
    pub fn reason(self, reason: impl fmt::Display) -> Self {
        let mut entry = self.with("SYNTHESIS_REASON", reason);
        if let [(_, message), .., (_, reason)] = entry.fields.as_mut_slice() {
            message.push_str(": ");
            message.push_str(reason);
        }
        entry
    }

    /// A field with what may come from outside.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((name, journal::escaped(value)));
        self
    }

    /// Likewise, where there is something to say.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// For the journal's socket.
    pub(super) fn native(&self) -> Vec<u8> {
        journal::native(&self.fields)
    }

    /// For a file or a pipe.
    pub(super) fn json(&self) -> Vec<u8> {
        let since = self.at.duration_since(UNIX_EPOCH);
        journal::json_line(&self.fields, since.map_or(0, |since| since.as_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_adds_no_field_and_no_line() {
        let key = "chat\nSYNTHESIS_PRINCIPAL=root\n\x1b[2J\u{202e}";
        let entry = Entry::new(Kind::Tool, "a tool was called").with("SYNTHESIS_TOOL", key);
        let native = String::from_utf8(entry.native()).unwrap();
        assert_eq!(native.lines().count(), 7);
        assert!(!native.contains(['\u{1b}', '\u{202e}']));
        assert!(native.contains(r"SYNTHESIS_TOOL=chat\nSYNTHESIS_PRINCIPAL=root\n\u{1b}[2J"));
        let line = entry.json();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert!(json.get("SYNTHESIS_PRINCIPAL").is_none());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn each_kind_has_an_id_and_a_name_of_its_own() {
        let ids: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.message_id()).collect();
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!((ids.len(), names.len()), (Kind::ALL.len(), Kind::ALL.len()));
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn a_session_is_the_witness_of_what_it_says_of_itself() {
        for kind in Kind::ALL {
            let native = String::from_utf8(Entry::new(kind, "m").native()).unwrap();
            let by_session = native.contains("\nSYNTHESIS_WITNESS=session\n");
            assert_eq!(by_session, matches!(kind, Kind::Usage | Kind::Tool), "{kind:?}");
        }
    }

    #[test]
    fn a_reason_ends_the_message() {
        let entry = Entry::new(Kind::Refused, "refused").reason("x\ny");
        let native = String::from_utf8(entry.native()).unwrap();
        assert!(native.starts_with("MESSAGE=refused: x\\ny\n"), "{native}");
    }
}
