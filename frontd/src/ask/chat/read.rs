//! The body of a chat-completions request, field by field.

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use super::ChatRequest;
use crate::ask::BadRequest;
use crate::ask::read::{
    Dialect, Fault, Messages, document, expecting, field, flag, plain, seed, text,
};

pub(super) fn body(bytes: &[u8]) -> Result<ChatRequest<'_>, BadRequest> {
    let fault = Fault::default();
    document(bytes, &fault, Body { fault: &fault })
}

struct Body<'a> {
    fault: &'a Fault,
}

seed!(Body => ChatRequest<'de>, deserialize_map);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ChatRequest<'de>;
    expecting!("an object");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ChatRequest<'de>, A::Error> {
        let fault = self.fault;
        let mut request = ChatRequest::default();
        while let Some(key) = map.next_key::<BodyField>()? {
            let (name, map) = (key.name(), &mut map);
            match key {
                BodyField::Model => request.model = text(map, fault, name)?,
                BodyField::User => request.user = text(map, fault, name)?,
                BodyField::PromptCacheKey => request.prompt_cache_key = text(map, fault, name)?,
                BodyField::Stream => request.stream = flag(map, fault, name)?,
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
                    let seed = Messages { fault, dialect: Dialect::Chat };
                    request.messages = field(map, fault, name, "an array of messages", seed)?;
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
        let mut include_usage = false;
        while let Some(key) = map.next_key::<OptionKey>()? {
            match key {
                OptionKey::IncludeUsage => {
                    let name = "stream_options.include_usage";
                    include_usage = flag(&mut map, self.fault, name)?;
                }
                OptionKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(include_usage)
    }
}
