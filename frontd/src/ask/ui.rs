//! The body of the AI SDK's `POST /api/chat`.

use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::fingerprint;
use super::message::{Message, Role, Settled, settle};
use super::read::{Dialect, Fault, Messages, document, expecting, field, seed, text};
use super::{Ask, BadRequest};

/// Bytes of an id: those of the SDK's own are 16.
const MAX_ID: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiAsk {
    /// The chat's id, 1 to 512 bytes.
    pub chat: String,
    /// The trigger was `regenerate-message`.
    pub regenerate: bool,
    /// The person went back: regenerates, edited an older message or sends one again.
    pub rewinds: bool,
    pub ask: Ask,
}

impl UiAsk {
    /// By which the same submit is known when it comes again; none if the message has no id or the
    /// person wants another answer. The words count beside the id: an edited message keeps its id.
    pub fn key(&self) -> Option<[u8; 32]> {
        let new = &self.ask.new;
        let id = new.client_id.as_deref().filter(|_| !self.regenerate)?;
        let names = new.files.iter().map(|file| file.name.as_bytes());
        let datas = new.files.iter().map(|file| &*file.data);
        let said = [self.chat.as_bytes(), id.as_bytes(), new.text.as_bytes()];
        Some(fingerprint::of_parts(said.into_iter().chain(names).chain(datas)))
    }
}

/// The fields that we use.
#[derive(Default)]
struct Request<'a> {
    id: Option<String>,
    trigger: Option<String>,
    message_id: Option<String>,
    model: Option<String>,
    messages: Vec<Message<'a>>,
}

/// Reads a whole body, whose size is the caller's to bound. Unknown fields are ignored: `body` and
/// `prepareSendMessagesRequest` of the SDK's transport add any.
///
/// # Errors
/// Broken JSON, a wrong type, an unknown trigger, nothing new of the user, a file that is not
/// taken.
pub fn parse(body: &[u8]) -> Result<UiAsk, BadRequest> {
    let fault = Fault::default();
    let request = document(body, &fault, Body { fault: &fault })?;
    let chat = id("id", request.id.unwrap_or_default())?;
    let chat = chat.ok_or_else(|| {
        BadRequest::of("id", "missing_required_parameter", "`id`, the chat's, is missing")
    })?;
    let regenerate = match request.trigger.as_deref() {
        None | Some("submit-message") => false,
        Some("regenerate-message") => true,
        Some(_) => {
            let message = "`trigger` must be submit-message or regenerate-message";
            return Err(BadRequest::of("trigger", "invalid_value", message));
        }
    };
    if request.messages.is_empty() {
        let message = "`messages` must hold at least one message";
        return Err(BadRequest::of("messages", "missing_required_parameter", message));
    }
    // The SDK sends an answer's tool results by itself; claude has its own already.
    if request.messages.last().is_some_and(|last| last.role != Role::User) {
        let message = "the last of `messages` must be the user's";
        return Err(BadRequest::of("messages", "no_new_message", message));
    }
    let Settled { runtime, instructions, history, hashes, mut new } =
        settle(request.messages, "messages")?;
    new.client_id = id("messages", new.client_id.unwrap_or_default())?;
    // A message that is sent for the first time is named by nothing but its own id.
    let edited = new.client_id.is_some() && request.message_id == new.client_id;
    let ask = Ask {
        model: request.model,
        stream: true,
        include_usage: false,
        user: None,
        prompt_cache_key: None,
        runtime,
        instructions,
        history,
        hashes,
        new,
    };
    Ok(UiAsk { chat, regenerate, rewinds: regenerate || edited, ask })
}

/// An id of the client's; an empty one is none.
fn id(param: &str, id: String) -> Result<Option<String>, BadRequest> {
    if id.len() > MAX_ID {
        let message = format!("an id in `{param}` is longer than {MAX_ID} bytes");
        return Err(BadRequest::of(param, "too_long", message));
    }
    Ok((!id.is_empty()).then_some(id))
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
                BodyField::Id => request.id = text(map, fault, name)?,
                BodyField::Trigger => request.trigger = text(map, fault, name)?,
                BodyField::MessageId => request.message_id = text(map, fault, name)?,
                BodyField::Model => request.model = text(map, fault, name)?,
                BodyField::Messages => {
                    let seed = Messages { fault, dialect: Dialect::Ui };
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
#[serde(field_identifier, rename_all = "camelCase")]
enum BodyField {
    Id,
    Trigger,
    MessageId,
    Model,
    Messages,
    #[serde(other)]
    Other,
}

impl BodyField {
    fn name(&self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Trigger => "trigger",
            Self::MessageId => "messageId",
            Self::Model => "model",
            Self::Messages => "messages",
            Self::Other => "",
        }
    }
}

#[cfg(test)]
mod tests;
