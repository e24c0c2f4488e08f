//! A message's content: a string, null, or an array of text parts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::At;

const TEXT_ONLY: &str = "only text is accepted: a string, or parts of the type `text`";

pub(super) struct Content<'a>(pub(super) At<'a>);

seed!(Content => String, deserialize_any);

impl<'de> Visitor<'de> for Content<'_> {
    type Value = String;
    expecting!("content");

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        let mut text = String::new();
        let mut first = true;
        while let Some(part) = seq
            .next_element_seed(Part(self.0))
            .inspect_err(|_| self.0.note("content", "an array of text parts"))?
        {
            if !first {
                text.push('\n');
            }
            text.push_str(&part);
            first = false;
        }
        Ok(text)
    }
}

struct Part<'a>(At<'a>);

seed!(Part => String, deserialize_map);

impl<'de> Visitor<'de> for Part<'_> {
    type Value = String;
    expecting!("a part");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum PartKey {
            Type,
            Text,
            Refusal,
            #[serde(other)]
            Other,
        }
        let (mut kind, mut text, mut refusal) = (None::<String>, None, None);
        while let Some(key) = map.next_key::<PartKey>()? {
            match key {
                PartKey::Type => kind = Some(map.next_value()?),
                PartKey::Text => text = map.next_value::<Option<String>>()?,
                PartKey::Refusal => refusal = map.next_value::<Option<String>>()?,
                PartKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let found = match kind.as_deref() {
            Some("text") => text,
            // What an assistant message of the history may hold instead.
            Some("refusal") => refusal,
            Some(_) => return Err(self.0.refuse("content", "unsupported_content", TEXT_ONLY)),
            None => None,
        };
        found.ok_or_else(|| {
            self.0.refuse("content", "invalid_value", "a text part needs `type` and `text`")
        })
    }
}
