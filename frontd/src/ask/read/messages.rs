//! The list of messages, and one message, in any of the three dialects.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::parts::{Content, Parts};
use super::{Dialect, Fault, Lenient, expecting, seed, wrong_type};
use crate::ask::BadRequest;
use crate::ask::message::{Message, Role};

/// Messages of one request: a conversation of so many would not fit a model's context, and each
/// costs us more memory than the 16 bytes that it may take in the body.
const MAX_MESSAGES: usize = 65_536;

pub(in crate::ask) struct Messages<'a> {
    pub(in crate::ask) fault: &'a Fault,
    pub(in crate::ask) dialect: Dialect,
}

seed!(Messages => Vec<Message<'de>>, deserialize_any);

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = Vec<Message<'de>>;
    expecting!("an array");

    /// `input` may be the person's text alone.
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match self.dialect {
            Dialect::Responses => Ok(vec![Message {
                id: None,
                role: Role::User,
                text: text.to_owned(),
                files: Vec::new(),
                is_answer: false,
            }]),
            Dialect::Chat | Dialect::Ui => Err(E::custom("a string")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut messages: Vec<Message<'de>> = Vec::new();
        for index in 0.. {
            let at = At { fault: self.fault, dialect: self.dialect, index };
            let entry = seq.next_element_seed(at).inspect_err(|_| at.note("", "an object"))?;
            match entry {
                None => break,
                Some(Entry::Message(_)) if messages.len() == MAX_MESSAGES => {
                    let list = self.dialect.list();
                    let message = format!("`{list}` holds over {MAX_MESSAGES} messages");
                    return Err(self.fault.refuse(BadRequest::of(
                        list,
                        "too_many_messages",
                        message,
                    )));
                }
                Some(Entry::Message(message)) => messages.push(message),
                Some(Entry::Call) => {
                    // What was said before the call is a part of the turn, and no answer.
                    if let Some(last) = messages.last_mut().filter(|last| last.is_answer) {
                        last.is_answer = false;
                    }
                }
                Some(Entry::Other) => {}
            }
        }
        Ok(messages)
    }
}

/// One entry of the list.
pub(super) enum Entry<'a> {
    Message(Message<'a>),
    /// A tool call beside the messages, as in `input`, which the client has to carry out.
    Call,
    /// Nothing that was said.
    Other,
}

/// The reader of one message; knows its place.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) fault: &'a Fault,
    pub(super) dialect: Dialect,
    pub(super) index: usize,
}

impl At<'_> {
    pub(super) fn param(self, name: &str) -> String {
        let dot = if name.is_empty() { "" } else { "." };
        format!("{}.[{}]{dot}{name}", self.dialect.list(), self.index)
    }

    pub(super) fn note(self, name: &str, wanted: &str) {
        self.fault.note(|| wrong_type(&self.param(name), wanted));
    }

    pub(super) fn refuse<E: Error>(self, name: &str, code: &'static str, message: &str) -> E {
        let param = self.param(name);
        let message = format!("`{param}`: {message}");
        self.fault.refuse(BadRequest::of(param, code, message))
    }
}

seed!(At => Entry<'de>, deserialize_map);

impl<'de> Visitor<'de> for At<'_> {
    type Value = Entry<'de>;
    expecting!("an object");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry<'de>, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum MessageKey {
            Id,
            Type,
            Role,
            Content,
            Parts,
            ToolCalls,
            FunctionCall,
            #[serde(other)]
            Other,
        }
        let (mut id, mut kind, mut role) = (None, None, None);
        let (mut content, mut parts) = (Content::default(), None);
        let (mut calls_tools, mut calls_function) = (false, false);
        while let Some(key) = map.next_key::<MessageKey>()? {
            match (key, self.dialect) {
                (MessageKey::Id, Dialect::Responses | Dialect::Ui) => {
                    id = map.next_value_seed(Lenient)?;
                }
                (MessageKey::Type, Dialect::Responses) => kind = map.next_value_seed(Lenient)?,
                (MessageKey::Role, _) => {
                    let name: String =
                        map.next_value().inspect_err(|_| self.note("role", "a string"))?;
                    role = Some(role_of(&name, self.dialect).ok_or_else(|| {
                        self.refuse("role", "invalid_value", roles(self.dialect))
                    })?);
                }
                (MessageKey::Content, _) => {
                    let reader = Parts { at: self, name: "content" };
                    content = map.next_value_seed(reader).inspect_err(|_| {
                        self.note("content", "a string, null or an array of parts");
                    })?;
                }
                (MessageKey::Parts, Dialect::Ui) => {
                    let reader = Parts { at: self, name: "parts" };
                    parts = Some(
                        map.next_value_seed(reader)
                            .inspect_err(|_| self.note("parts", "an array of parts"))?,
                    );
                }
                (MessageKey::ToolCalls, Dialect::Chat) => {
                    let calls: Option<Vec<IgnoredAny>> =
                        map.next_value().inspect_err(|_| self.note("tool_calls", "an array"))?;
                    calls_tools = calls.is_some_and(|calls| !calls.is_empty());
                }
                (MessageKey::FunctionCall, Dialect::Chat) => {
                    calls_function = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                (
                    MessageKey::Id
                    | MessageKey::Type
                    | MessageKey::Parts
                    | MessageKey::ToolCalls
                    | MessageKey::FunctionCall
                    | MessageKey::Other,
                    _,
                ) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Some(kind) = kind.as_deref().filter(|kind| *kind != "message") {
            return Ok(item(kind, id.as_deref()));
        }
        let Some(role) = role else {
            return Err(self.refuse("role", "missing_required_parameter", "is missing"));
        };
        let Content { text, files } = parts.unwrap_or(content);
        let calls = calls_tools || calls_function;
        let is_answer = role == Role::Assistant && !calls && !text.trim().is_empty();
        let id = id.map(Cow::into_owned).filter(|id| !id.is_empty());
        Ok(Entry::Message(Message { id, role, text, files, is_answer }))
    }
}

/// What an item of `input` that is no message comes to. Of another server's calls, reasoning and
/// the like nothing was said; a reference to a message stands for an answer that we gave.
fn item<'a>(kind: &str, id: Option<&str>) -> Entry<'a> {
    match kind {
        "item_reference" if id.is_some_and(|id| id.starts_with("msg_")) => {
            Entry::Message(Message {
                id: None,
                role: Role::Assistant,
                text: String::new(),
                files: Vec::new(),
                is_answer: true,
            })
        }
        "function_call" | "custom_tool_call" | "computer_call" | "local_shell_call"
        | "shell_call" | "apply_patch_call" => Entry::Call,
        _ => Entry::Other,
    }
}

fn role_of(name: &str, dialect: Dialect) -> Option<Role> {
    let role = match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => return None,
    };
    let known = match dialect {
        Dialect::Chat => true,
        Dialect::Responses => role != Role::Tool,
        Dialect::Ui => matches!(role, Role::System | Role::User | Role::Assistant),
    };
    known.then_some(role)
}

fn roles(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "must be system, developer, user, assistant or tool",
        Dialect::Responses => "must be system, developer, user or assistant",
        Dialect::Ui => "must be system, user or assistant",
    }
}
