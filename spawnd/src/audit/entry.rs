//! One entry: its kind and its fields.

use proto::ids::{AbsolutePath, ConversationId, SessionId, UnixUser};
use proto::journal::{self, Field};
use proto::spawn::{ExitCause, Usage};

use crate::policy::Proved;

/// What is recorded; each has a MESSAGE_ID of its own for `journalctl MESSAGE_ID=` and the
/// catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A frontd said hello, or was refused before it could.
    Hello,
    /// A connection ended.
    Goodbye,
    /// A start was judged and allowed; nothing runs yet.
    Spawn,
    /// claude was executed.
    Started,
    Refused,
    /// A credential proved nobody. Strangers cause these at will: counted apart from refused starts.
    Denied,
    /// Entries of one peer that were counted instead of written.
    Counted,
    Signal,
    Ready,
    Exit,
    /// A terminal was handed over again, or a session taken over after a restart.
    Adopted,
    /// Entries that could not be written at all.
    Lost,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Hello,
        Self::Goodbye,
        Self::Spawn,
        Self::Started,
        Self::Refused,
        Self::Denied,
        Self::Counted,
        Self::Signal,
        Self::Ready,
        Self::Exit,
        Self::Adopted,
        Self::Lost,
    ];

    pub fn message_id(self) -> &'static str {
        match self {
            Self::Hello => "cc1342aa309948098b5739f74ee8ac36",
            Self::Goodbye => "29f422abd1ec4457978d94638c0cb5b9",
            Self::Spawn => "d259f11a18624920b82257e0f376a4d0",
            Self::Started => "d97c119b6c2744e186a6e82fd1c80f04",
            Self::Refused => "df4128cf0f2547458da881ded27ea161",
            Self::Denied => "9b92b00702be426b8b8eba0751fe6101",
            Self::Counted => "17588316393841d6b5de4e6b6b011df6",
            Self::Signal => "f07d02c52b7849eea26782ae35a961f6",
            Self::Ready => "99f9698544fe41b0a295d36fe82bee67",
            Self::Exit => "2bc42d62a6a9467a82acd32c94b93a07",
            Self::Adopted => "c94c262e1a0e4696a6e9699080a83cd4",
            Self::Lost => "f077716c309f417796f94623804a6810",
        }
    }

    /// Is it of a process that ran or runs? No more of these come than sessions were let in, while
    /// a peer can cause any number of the others.
    pub(super) fn is_of_a_process(self) -> bool {
        match self {
            Self::Started | Self::Exit => true,
            Self::Hello
            | Self::Goodbye
            | Self::Spawn
            | Self::Refused
            | Self::Denied
            | Self::Counted
            | Self::Signal
            | Self::Ready
            | Self::Adopted
            | Self::Lost => false,
        }
    }

    /// By whose word: the kernel names uids and pids and counts what was used; the rest is what spawnd
    /// judged or did.
    fn witness(self) -> &'static str {
        match self {
            Self::Hello | Self::Started | Self::Ready | Self::Exit => "kernel",
            Self::Goodbye
            | Self::Spawn
            | Self::Refused
            | Self::Denied
            | Self::Counted
            | Self::Signal
            | Self::Adopted
            | Self::Lost => "spawnd",
        }
    }

    /// syslog's levels: what an administrator should see is a warning.
    fn priority(self) -> &'static str {
        match self {
            Self::Refused | Self::Denied | Self::Counted | Self::Lost => "4",
            Self::Spawn | Self::Started | Self::Exit => "5",
            Self::Hello | Self::Goodbye | Self::Signal | Self::Ready | Self::Adopted => "6",
        }
    }
}

pub struct Entry {
    pub(super) kind: Kind,
    fields: Vec<Field>,
}

/// Microseconds since 1970, as journald has them.
fn now() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros())
}

impl Entry {
    /// `message` is for people and of our own words.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let fields = vec![
            ("MESSAGE", message.into()),
            ("MESSAGE_ID", kind.message_id().to_owned()),
            ("SYNTHESIS_KIND", format!("{kind:?}").to_lowercase()),
            ("SYNTHESIS_WITNESS", kind.witness().to_owned()),
            ("PRIORITY", kind.priority().to_owned()),
            ("SYSLOG_IDENTIFIER", "synthesis-spawnd".to_owned()),
        ];
        Self { kind, fields }
    }

    pub(super) fn counted(peer: u32, kind: Kind, count: u64) -> Self {
        let message = format!("{count} more entries ({kind:?}) by uid {peer} within a second");
        let entry = Self::new(Kind::Counted, message).peer(peer).with("SYNTHESIS_COUNT", count);
        entry.with("SYNTHESIS_COUNTED", kind.message_id())
    }

    pub(super) fn lost(count: u64) -> Self {
        let message = format!("{count} audit entries could not be written");
        Self::new(Kind::Lost, message).with("SYNTHESIS_COUNT", count)
    }

    #[must_use]
    pub fn session(self, session: &SessionId) -> Self {
        self.with("SYNTHESIS_SESSION", session)
    }

    /// The session, and whose it is.
    #[must_use]
    pub fn of(self, session: &SessionId, conversation: ConversationId, user: &UnixUser) -> Self {
        let entry = self.session(session).with("SYNTHESIS_CONVERSATION", conversation);
        entry.with("SYNTHESIS_USER", user)
    }

    #[must_use]
    pub fn workspace(self, workspace: &AbsolutePath) -> Self {
        self.with("SYNTHESIS_WORKSPACE", workspace)
    }

    #[must_use]
    pub fn reason(self, reason: impl std::fmt::Display) -> Self {
        let mut entry = self.with("SYNTHESIS_REASON", reason);
        // Escaped by now; whoever reads only messages sees why, too.
        if let [(_, message), .., (_, reason)] = entry.fields.as_mut_slice() {
            message.push_str(": ");
            message.push_str(reason);
        }
        entry
    }

    /// How the person behind it is known.
    #[must_use]
    pub fn proved(self, proved: &Proved) -> Self {
        match proved {
            Proved::Not => self.with("SYNTHESIS_PROOF", "none"),
            Proved::Peer(principal) => {
                self.with("SYNTHESIS_PROOF", "peer").with("SYNTHESIS_PRINCIPAL", principal)
            }
            Proved::Token { id, principal } => {
                let entry = self.with("SYNTHESIS_PROOF", "token");
                entry.with("SYNTHESIS_PRINCIPAL", principal).with("SYNTHESIS_TOKEN", id)
            }
        }
    }

    #[must_use]
    pub fn peer(self, uid: u32) -> Self {
        self.with("SYNTHESIS_PEER_UID", uid)
    }

    #[must_use]
    pub fn pid(self, pid: u32) -> Self {
        self.with("SYNTHESIS_PID", pid)
    }

    #[must_use]
    pub fn exit(self, cause: ExitCause, usage: Usage) -> Self {
        self.with("SYNTHESIS_EXIT", cause)
            .with("SYNTHESIS_USER_USEC", usage.user_micros)
            .with("SYNTHESIS_SYSTEM_USEC", usage.system_micros)
            .with("SYNTHESIS_MAX_RSS_KIB", usage.max_rss_kib)
    }

    /// A field with what may come from outside.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.fields.push((name, journal::escaped(value)));
        self
    }

    /// For the journal's socket.
    pub(super) fn native(&self) -> Vec<u8> {
        journal::native(&self.fields)
    }

    /// For a file or a pipe.
    pub(super) fn json(&self) -> Vec<u8> {
        journal::json_line(&self.fields, now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_field_and_ends_the_message() {
        let entry = Entry::new(Kind::Refused, "refused").reason("x\nSYNTHESIS_USER=root\n\x1b[2J");
        let journal = String::from_utf8(entry.native()).unwrap();
        assert_eq!(journal.lines().count(), 7);
        assert!(journal.starts_with(r"MESSAGE=refused: x\nSYNTHESIS_USER=root\n\u{1b}[2J"));
        assert!(journal.contains("\nSYNTHESIS_REASON=x\\n"));
    }

    #[test]
    fn each_kind_has_an_id_of_its_own() {
        let ids: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.message_id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
