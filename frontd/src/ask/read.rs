//! The one pass over a body's bytes. What is not used is skipped without being built, so memory
//! stays within a small multiple of the body, whatever its shape, and nesting cannot go deeper
//! than the types here. Each value's reader knows its field and what it takes; the first fault is
//! kept in [`Fault`], because serde's own messages would quote foreign text at length.

mod messages;
mod parts;

use std::borrow::Cow;
use std::cell::RefCell;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::BadRequest;

pub(super) use messages::Messages;

/// Whose words the messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Responses,
    Ui,
}

impl Dialect {
    /// The list of messages.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Chat | Self::Ui => "messages",
            Self::Responses => "input",
        }
    }
}

/// Reads a whole body with `seed`, which notes its faults in `fault`.
pub(super) fn document<'de, S: DeserializeSeed<'de>>(
    bytes: &'de [u8],
    fault: &Fault,
    seed: S,
) -> Result<S::Value, BadRequest> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value)).map_err(
        |error| match (error.classify(), fault.0.take()) {
            (Category::Data, Some(bad)) => bad,
            (Category::Data, None) => {
                BadRequest::new("invalid_type", "the body must be a JSON object")
            }
            (Category::Syntax | Category::Eof | Category::Io, _) => {
                let (line, column) = (error.line(), error.column());
                let message = format!("the body is not valid JSON: line {line}, column {column}");
                BadRequest::new("invalid_json", message)
            }
        },
    )
}

/// The first fault that was found.
#[derive(Default)]
pub(super) struct Fault(RefCell<Option<BadRequest>>);

impl Fault {
    fn note(&self, bad: impl FnOnce() -> BadRequest) {
        self.0.borrow_mut().get_or_insert_with(bad);
    }

    /// Notes it and gives serde an error to stop with.
    pub(super) fn refuse<E: Error>(&self, bad: BadRequest) -> E {
        self.note(|| bad);
        E::custom("refused")
    }
}

fn wrong_type(param: &str, wanted: &str) -> BadRequest {
    BadRequest::of(param, "invalid_type", format!("`{param}` must be {wanted}"))
}

/// The next value of a map, read by `seed`; another type is the fault of `param`.
pub(super) fn field<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
    map: &mut A,
    fault: &Fault,
    param: &str,
    wanted: &str,
    seed: S,
) -> Result<S::Value, A::Error> {
    map.next_value_seed(seed).inspect_err(|_| fault.note(|| wrong_type(param, wanted)))
}

/// The next value: a string or null.
pub(super) fn text<'de, A: MapAccess<'de>>(
    map: &mut A,
    fault: &Fault,
    param: &str,
) -> Result<Option<String>, A::Error> {
    field(map, fault, param, "a string", plain())
}

/// The next value: a boolean, or null for false.
pub(super) fn flag<'de, A: MapAccess<'de>>(
    map: &mut A,
    fault: &Fault,
    param: &str,
) -> Result<bool, A::Error> {
    let value: Option<bool> = field(map, fault, param, "a boolean", plain())?;
    Ok(value.unwrap_or(false))
}

/// A reader of a typed value, without a fault of its own.
pub(super) fn plain<T>() -> std::marker::PhantomData<T> {
    std::marker::PhantomData
}

macro_rules! seed {
    ($name:ident => $value:ty, $method:ident) => {
        impl<'de> serde::de::DeserializeSeed<'de> for $name<'_> {
            type Value = $value;
            fn deserialize<D: serde::de::Deserializer<'de>>(
                self,
                from: D,
            ) -> Result<$value, D::Error> {
                from.$method(self)
            }
        }
    };
}

macro_rules! expecting {
    ($text:literal) => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str($text)
        }
    };
}

pub(super) use {expecting, seed};

/// A string, the body's own bytes where they need no unescaping; anything else is `None`.
struct Lenient;

impl<'de> DeserializeSeed<'de> for Lenient {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Lenient {
    type Value = Option<Cow<'de, str>>;
    expecting!("anything");

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
