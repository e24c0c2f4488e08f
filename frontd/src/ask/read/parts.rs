//! A message's content: a string, null, or an array of parts.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::messages::At;
use super::{Dialect, Lenient, expecting, seed};
use crate::ask::attachment::MAX_FILES;
use crate::ask::message::{FileContent, FilePart};

const BY_ID: &str = "no files are kept here under an id: send the file itself as a data URL";
const NO_AUDIO: &str = "audio is not taken";
const OTHER: &str = "this type of part is not taken: send text, images or files";

/// What a content comes to.
#[derive(Default)]
pub(super) struct Content<'a> {
    /// Of all text parts, joined by a line feed.
    pub(super) text: String,
    /// Those after the first one too many are left out: the message is refused anyway.
    pub(super) files: Vec<FilePart<'a>>,
}

#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) at: At<'a>,
    /// `content` or `parts`.
    pub(super) name: &'static str,
}

seed!(Parts => Content<'de>, deserialize_any);

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = Content<'de>;
    expecting!("content");

    fn visit_unit<E: Error>(self) -> Result<Content<'de>, E> {
        Ok(Content::default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content<'de>, E> {
        Ok(Content { text: text.to_owned(), files: Vec::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
        let mut content = Content::default();
        let mut first = true;
        for index in 0.. {
            let place = || format!("{}.[{index}]", self.name);
            let part = seq
                .next_element_seed(Part(self.at, &place))
                .inspect_err(|_| self.at.note(&place(), "an object"))?;
            match part {
                None => break,
                Some(Found::Text(text)) => {
                    if !first {
                        content.text.push('\n');
                    }
                    content.text.push_str(&text);
                    first = false;
                }
                Some(Found::File(file)) => {
                    if content.files.len() <= MAX_FILES {
                        let param = self.at.param(&place());
                        content.files.push(FilePart { param, content: file });
                    }
                }
                Some(Found::Nothing) => {}
            }
        }
        Ok(content)
    }
}

enum Found<'a> {
    Text(Cow<'a, str>),
    File(FileContent<'a>),
    Nothing,
}

/// The reader of one part; the function tells its place.
struct Part<'a>(At<'a>, &'a dyn Fn() -> String);

seed!(Part => Found<'de>, deserialize_map);

#[derive(serde::Deserialize)]
#[serde(field_identifier)]
enum PartKey {
    #[serde(rename = "type")]
    Type,
    #[serde(rename = "text")]
    Text,
    #[serde(rename = "refusal")]
    Refusal,
    /// A URL, or an object with one.
    #[serde(rename = "image_url")]
    ImageUrl,
    /// An object with the fields that `input_file` has itself.
    #[serde(rename = "file")]
    File,
    #[serde(rename = "url", alias = "file_url", alias = "file_data")]
    Url,
    #[serde(rename = "filename")]
    Name,
    #[serde(rename = "mediaType")]
    MediaType,
    #[serde(rename = "file_id")]
    Id,
    #[serde(other)]
    Other,
}

/// What a part may hold, whatever its type.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    refusal: Option<Cow<'a, str>>,
    url: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    media_type: Option<Cow<'a, str>>,
    has_id: bool,
}

impl<'de> Fields<'de> {
    /// `inner`: the object within `image_url` or `file`, which says nothing but where the file is.
    fn read<A: MapAccess<'de>>(&mut self, map: &mut A, inner: bool) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<PartKey>()? {
            let slot = match key {
                PartKey::Type if !inner => &mut self.kind,
                PartKey::Text if !inner => &mut self.text,
                PartKey::Refusal if !inner => &mut self.refusal,
                PartKey::Name => &mut self.name,
                PartKey::MediaType => &mut self.media_type,
                PartKey::Url => {
                    // `file_data` beside an empty `file_url`: what is there counts.
                    if let Some(url) = map.next_value_seed(Lenient)? {
                        self.url = Some(url);
                    }
                    continue;
                }
                PartKey::Id => {
                    self.has_id = map.next_value_seed(Lenient)?.is_some();
                    continue;
                }
                PartKey::ImageUrl | PartKey::File if !inner => {
                    map.next_value_seed(Inner(self))?;
                    continue;
                }
                PartKey::Type
                | PartKey::Text
                | PartKey::Refusal
                | PartKey::ImageUrl
                | PartKey::File
                | PartKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = map.next_value_seed(Lenient)?;
        }
        Ok(())
    }

    fn file(self) -> Option<FileContent<'de>> {
        match self.url {
            Some(url) => Some(FileContent::Url {
                url,
                name: self.name.map(Cow::into_owned),
                media_type: self.media_type.map(Cow::into_owned),
            }),
            None => self.has_id.then_some(FileContent::Unsupported(BY_ID)),
        }
    }
}

/// The value of `image_url` or `file`: the URL itself, or an object.
struct Inner<'a, 'de>(&'a mut Fields<'de>);

impl<'de> DeserializeSeed<'de> for Inner<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_, 'de> {
    type Value = ();
    expecting!("a URL or an object with one");

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, url: &'de str) -> Result<(), E> {
        self.0.url = Some(Cow::Borrowed(url));
        Ok(())
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<(), E> {
        self.0.url = Some(Cow::Owned(url.to_owned()));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.read(&mut map, true)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Found<'de>;
    expecting!("a part");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let Self(at, place) = self;
        let mut fields = Fields::default();
        fields.read(&mut map, false)?;
        let kind = fields.kind.take();
        let (found, needs) = match meaning(at.dialect, kind.as_deref()) {
            Meaning::Text => (fields.text.map(Found::Text), "needs `text`"),
            // What an assistant message of the history may hold instead.
            Meaning::Refusal => (fields.refusal.map(Found::Text), "needs `refusal`"),
            Meaning::File => (fields.file().map(Found::File), "needs the file, as a data URL"),
            Meaning::Unsupported(why) => (Some(Found::File(FileContent::Unsupported(why))), ""),
            Meaning::Nothing => (Some(Found::Nothing), ""),
            Meaning::Untyped => (None, "needs a `type`"),
        };
        found.ok_or_else(|| at.refuse(&place(), "invalid_value", needs))
    }
}

enum Meaning {
    Text,
    Refusal,
    File,
    Unsupported(&'static str),
    /// Nothing that was said.
    Nothing,
    Untyped,
}

fn meaning(dialect: Dialect, kind: Option<&str>) -> Meaning {
    let Some(kind) = kind else { return Meaning::Untyped };
    match (dialect, kind) {
        (Dialect::Chat | Dialect::Ui, "text")
        | (Dialect::Responses, "input_text" | "output_text" | "text") => Meaning::Text,
        (Dialect::Chat | Dialect::Responses, "refusal") => Meaning::Refusal,
        (Dialect::Chat, "image_url" | "file")
        | (Dialect::Responses, "input_image" | "input_file")
        | (Dialect::Ui, "file") => Meaning::File,
        (Dialect::Chat | Dialect::Responses, "input_audio") => Meaning::Unsupported(NO_AUDIO),
        (Dialect::Chat | Dialect::Responses, _) => Meaning::Unsupported(OTHER),
        // Reasoning, tools, sources, steps and data.
        (Dialect::Ui, _) => Meaning::Nothing,
    }
}
