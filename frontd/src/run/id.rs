//! What a run is called.

use std::fmt;

use uuid::Uuid;

/// Names a run to its clients; 122 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(Uuid);

/// What a run's 32 hexadecimal digits may follow, by the API that shows the run.
const PREFIXES: [&str; 4] = ["run_", "chatcmpl-", "resp_", "msg_"];

impl RunId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads every form that a client was shown.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        if digits.len() != 32 {
            return None;
        }
        Uuid::try_parse(digits).ok().map(Self)
    }

    /// As the store keeps it.
    pub(crate) fn bytes(&self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    pub(crate) fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id of a chat completion that shows this run.
    pub fn chat_completion(&self) -> String {
        format!("chatcmpl-{}", self.0.simple())
    }

    /// The id of a response that shows this run.
    pub fn response(&self) -> String {
        format!("resp_{}", self.0.simple())
    }

    /// The id of the answer as a message.
    pub fn answer(&self) -> String {
        format!("msg_{}", self.0.simple())
    }

    /// The id of the message that began this run, as claude sees it.
    pub fn message_id(&self) -> proto::ids::MessageId {
        proto::ids::MessageId::new(self.0.simple().to_string()).expect("32 hexadecimal digits")
    }

    /// The run that this message of claude's began.
    pub fn of_message(message: &proto::ids::MessageId) -> Option<Self> {
        let digits = message.as_str();
        (digits.len() == 32).then(|| Uuid::try_parse(digits).ok().map(Self)).flatten()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run_{}", self.0.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_every_form_and_no_other() {
        let id = RunId::random();
        for form in [id.to_string(), id.chat_completion(), id.response(), id.answer()] {
            assert_eq!(RunId::parse(&form), Some(id));
        }
        let digits = id.message_id().to_string();
        for wrong in ["", "run_", "run_../../x", &digits, &format!("run_{digits}0"), "run-1"] {
            assert_eq!(RunId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(RunId::of_message(&id.message_id()), Some(id));
        assert_eq!(RunId::of_bytes(id.bytes()), id);
    }
}
