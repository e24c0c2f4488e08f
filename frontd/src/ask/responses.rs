//! The body of `POST /v1/responses`.

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use super::message::{Message, Settled, settle};
use super::read::{Dialect, Fault, Messages, document, expecting, field, flag, seed, text};
use super::{Ask, BadRequest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsesAsk {
    pub ask: Ask,
    /// `previous_response_id`.
    pub previous: Option<String>,
    /// `conversation`, or its id: names a session like a chat's id.
    pub conversation: Option<String>,
    pub background: bool,
}

/// The fields that we use.
#[derive(Default)]
struct Request<'a> {
    model: Option<String>,
    stream: bool,
    background: bool,
    user: Option<String>,
    prompt_cache_key: Option<String>,
    instructions: Option<String>,
    previous: Option<String>,
    conversation: Option<String>,
    input: Vec<Message<'a>>,
}

/// Reads a whole body, whose size is the caller's to bound. Unknown fields are ignored; so are
/// items of `input` that are no messages: other servers' calls and reasoning.
///
/// # Errors
/// Broken JSON, a wrong type, nothing new of the user, a part that is not taken.
pub fn parse(body: &[u8]) -> Result<ResponsesAsk, BadRequest> {
    let fault = Fault::default();
    let request = document(body, &fault, Body { fault: &fault })?;
    if request.input.is_empty() {
        let message = "`input` must be a text or hold at least one message";
        return Err(BadRequest::of("input", "missing_required_parameter", message));
    }
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    let (previous, conversation) = (named(request.previous), named(request.conversation));
    if previous.is_some() && conversation.is_some() {
        let message = "`previous_response_id` and `conversation` exclude each other";
        return Err(BadRequest::of("previous_response_id", "invalid_value", message));
    }
    let Settled { runtime, instructions, history, hashes, new } = settle(request.input, "input")?;
    let own = request.instructions.filter(|text| !text.trim().is_empty());
    let all: Vec<String> = own.into_iter().chain(instructions).collect();
    let ask = Ask {
        model: request.model,
        stream: request.stream,
        include_usage: false,
        user: request.user,
        prompt_cache_key: request.prompt_cache_key,
        runtime,
        instructions: (!all.is_empty()).then(|| all.join("\n\n")),
        history,
        hashes,
        new,
    };
    Ok(ResponsesAsk { ask, previous, conversation, background: request.background })
}

struct Body<'a> {
    fault: &'a Fault,
}

seed!(Body => Request<'de>, deserialize_map);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Request<'de>;
    expecting!("an object");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request<'de>, A::Error> {
        let fault = self.fault;
        let mut request = Request::default();
        while let Some(key) = map.next_key::<BodyField>()? {
            let (name, map) = (key.name(), &mut map);
            match key {
                BodyField::Model => request.model = text(map, fault, name)?,
                BodyField::User => request.user = text(map, fault, name)?,
                BodyField::PromptCacheKey => request.prompt_cache_key = text(map, fault, name)?,
                BodyField::Instructions => request.instructions = text(map, fault, name)?,
                BodyField::PreviousResponseId => request.previous = text(map, fault, name)?,
                BodyField::Stream => request.stream = flag(map, fault, name)?,
                BodyField::Background => request.background = flag(map, fault, name)?,
                BodyField::Conversation => {
                    let wanted = "a string or an object with an `id`";
                    let seed = Conversation { fault };
                    request.conversation = field(map, fault, name, wanted, seed)?;
                }
                BodyField::Input => {
                    let seed = Messages { fault, dialect: Dialect::Responses };
                    request.input = field(map, fault, name, "a string or an array of items", seed)?;
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
    Background,
    User,
    PromptCacheKey,
    Instructions,
    PreviousResponseId,
    Conversation,
    Input,
    #[serde(other)]
    Other,
}

impl BodyField {
    fn name(&self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::Background => "background",
            Self::User => "user",
            Self::PromptCacheKey => "prompt_cache_key",
            Self::Instructions => "instructions",
            Self::PreviousResponseId => "previous_response_id",
            Self::Conversation => "conversation",
            Self::Input => "input",
            Self::Other => "",
        }
    }
}

/// `"conv_1"`, `{"id":"conv_1"}` or null.
struct Conversation<'a> {
    fault: &'a Fault,
}

seed!(Conversation => Option<String>, deserialize_any);

impl<'de> Visitor<'de> for Conversation<'_> {
    type Value = Option<String>;
    expecting!("a conversation");

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<Self::Value, E> {
        Ok(Some(id.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Id,
            #[serde(other)]
            Other,
        }
        let mut id = None;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Id => id = text(&mut map, self.fault, "conversation.id")?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = || {
            let message = "`conversation.id` is missing";
            self.fault.refuse(BadRequest::of("conversation.id", "invalid_value", message))
        };
        id.map(Some).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests;
