//! The one pass over the bytes. Each value's reader knows its field and what it takes; the first
//! fault is kept in `Fault`, because serde's own messages would quote foreign text at length.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{BadRequest, ChatRequest, Message, Role};

pub(super) fn body(bytes: &[u8]) -> Result<ChatRequest, BadRequest> {
    let fault = Fault::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Body { fault: &fault }.deserialize(&mut json);
    match read.and_then(|request| json.end().map(|()| request)) {
        Ok(request) => Ok(request),
        Err(error) => Err(match (error.classify(), fault.0.into_inner()) {
            (Category::Data, Some(bad)) => bad,
            (Category::Data, None) => {
                BadRequest::new("invalid_type", "the body must be a JSON object")
            }
            (Category::Syntax | Category::Eof | Category::Io, _) => {
                let (line, column) = (error.line(), error.column());
                let message = format!("the body is not valid JSON: line {line}, column {column}");
                BadRequest::new("invalid_json", message)
            }
        }),
    }
}

/// The first fault that was found.
#[derive(Default)]
struct Fault(RefCell<Option<BadRequest>>);

impl Fault {
    fn note(&self, bad: impl FnOnce() -> BadRequest) {
        self.0.borrow_mut().get_or_insert_with(bad);
    }

    /// Notes it and gives serde an error to stop with.
    fn refuse<E: Error>(&self, bad: BadRequest) -> E {
        self.note(|| bad);
        E::custom("refused")
    }
}

fn wrong_type(param: &str, wanted: &str) -> BadRequest {
    BadRequest::of(param, "invalid_type", format!("`{param}` must be {wanted}"))
}

/// The next value of a map, read by `seed`; another type is the fault of `param`.
fn field<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
    map: &mut A,
    fault: &Fault,
    param: &str,
    wanted: &str,
    seed: S,
) -> Result<S::Value, A::Error> {
    map.next_value_seed(seed).inspect_err(|_| fault.note(|| wrong_type(param, wanted)))
}

/// A reader of a typed value, without a fault of its own.
fn plain<T>() -> std::marker::PhantomData<T> {
    std::marker::PhantomData
}

macro_rules! seed {
    ($name:ident => $value:ty, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<$value, D::Error> {
                from.$method(self)
            }
        }
    };
}

macro_rules! expecting {
    ($text:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($text)
        }
    };
}

mod content;

// ---- the body ----------------------------------------------------------------------------------

struct Body<'a> {
    fault: &'a Fault,
}

seed!(Body => ChatRequest, deserialize_map);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ChatRequest;
    expecting!("an object");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ChatRequest, A::Error> {
        let fault = self.fault;
        let mut request = ChatRequest {
            model: None,
            stream: false,
            include_usage: false,
            user: None,
            prompt_cache_key: None,
            messages: Vec::new(),
        };
        while let Some(key) = map.next_key::<BodyField>()? {
            let (name, map) = (key.name(), &mut map);
            match key {
                BodyField::Model => request.model = field(map, fault, name, "a string", plain())?,
                BodyField::User => request.user = field(map, fault, name, "a string", plain())?,
                BodyField::PromptCacheKey => {
                    request.prompt_cache_key = field(map, fault, name, "a string", plain())?;
                }
                BodyField::Stream => {
                    let value: Option<bool> = field(map, fault, name, "a boolean", plain())?;
                    request.stream = value.unwrap_or(false);
                }
                BodyField::StreamOptions => {
                    let seed = StreamOptions { fault };
                    request.include_usage = field(map, fault, name, "an object", seed)?;
                }
                BodyField::N => {
                    let value: Option<u64> =
                        field(map, fault, name, "a positive whole number", plain())?;
                    if value.is_some_and(|n| n != 1) {
                        let message = "`n` must be 1: a conversation has one answer";
                        return Err(fault.refuse(BadRequest::of(name, "invalid_value", message)));
                    }
                }
                BodyField::Messages => {
                    request.messages =
                        field(map, fault, name, "an array of messages", Messages { fault })?;
                }
                BodyField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(request)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum BodyField {
    Model,
    Stream,
    StreamOptions,
    User,
    PromptCacheKey,
    N,
    Messages,
    #[serde(other)]
    Other,
}

impl BodyField {
    fn name(&self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::User => "user",
            Self::PromptCacheKey => "prompt_cache_key",
            Self::N => "n",
            Self::Messages => "messages",
            Self::Other => "",
        }
    }
}

struct StreamOptions<'a> {
    fault: &'a Fault,
}

seed!(StreamOptions => bool, deserialize_any);

impl<'de> Visitor<'de> for StreamOptions<'_> {
    type Value = bool;
    expecting!("an object");

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum OptionKey {
            IncludeUsage,
            #[serde(other)]
            Other,
        }
        let mut include_usage: Option<bool> = None;
        while let Some(key) = map.next_key::<OptionKey>()? {
            match key {
                OptionKey::IncludeUsage => {
                    let name = "stream_options.include_usage";
                    include_usage = field(&mut map, self.fault, name, "a boolean", plain())?;
                }
                OptionKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(include_usage.unwrap_or(false))
    }
}

// ---- messages ----------------------------------------------------------------------------------

struct Messages<'a> {
    fault: &'a Fault,
}

seed!(Messages => Vec<Message>, deserialize_seq);

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = Vec<Message>;
    expecting!("an array");

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Message>, A::Error> {
        let mut messages = Vec::new();
        loop {
            let at = At { fault: self.fault, index: messages.len() };
            match seq.next_element_seed(at).inspect_err(|_| at.note("", "an object"))? {
                Some(message) => messages.push(message),
                None => return Ok(messages),
            }
        }
    }
}

/// The reader of one message; knows its place.
#[derive(Clone, Copy)]
struct At<'a> {
    fault: &'a Fault,
    index: usize,
}

impl At<'_> {
    fn param(self, name: &str) -> String {
        let dot = if name.is_empty() { "" } else { "." };
        format!("messages.[{}]{dot}{name}", self.index)
    }

    fn note(self, name: &str, wanted: &str) {
        self.fault.note(|| wrong_type(&self.param(name), wanted));
    }

    fn refuse<E: Error>(self, name: &str, code: &'static str, message: &str) -> E {
        let param = self.param(name);
        let message = format!("`{param}`: {message}");
        self.fault.refuse(BadRequest::of(param, code, message))
    }
}

seed!(At => Message, deserialize_map);

impl<'de> Visitor<'de> for At<'_> {
    type Value = Message;
    expecting!("an object");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum MessageKey {
            Role,
            Content,
            ToolCalls,
            FunctionCall,
            #[serde(other)]
            Other,
        }
        let (mut role, mut text) = (None, String::new());
        let (mut calls_tools, mut calls_function) = (false, false);
        while let Some(key) = map.next_key::<MessageKey>()? {
            match key {
                MessageKey::Role => {
                    let name: String =
                        map.next_value().inspect_err(|_| self.note("role", "a string"))?;
                    role = Some(role_of(&name).ok_or_else(|| {
                        let message = "must be system, developer, user, assistant or tool";
                        self.refuse("role", "invalid_value", message)
                    })?);
                }
                MessageKey::Content => {
                    text = map.next_value_seed(content::Content(self)).inspect_err(|_| {
                        self.note("content", "a string, null or an array of text parts");
                    })?;
                }
                MessageKey::ToolCalls => {
                    let calls: Option<Vec<IgnoredAny>> =
                        map.next_value().inspect_err(|_| self.note("tool_calls", "an array"))?;
                    calls_tools = calls.is_some_and(|calls| !calls.is_empty());
                }
                MessageKey::FunctionCall => {
                    calls_function = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                MessageKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let Some(role) = role else {
            return Err(self.refuse("role", "missing_required_parameter", "is missing"));
        };
        Ok(Message { role, text, has_tool_calls: calls_tools || calls_function })
    }
}

fn role_of(name: &str) -> Option<Role> {
    Some(match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => Role::Function,
        _ => return None,
    })
}
