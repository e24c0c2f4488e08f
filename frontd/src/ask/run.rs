//! The body of `POST /v1/runs`. The API is our own, so a field that we do not know is a mistake
//! and is refused.

use std::borrow::Cow;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};

use super::message::{FileContent, FilePart, Message, Role, Settled, settle};
use super::read::{Fault, document, expecting, field, plain, seed, text};
use super::{Ask, BadRequest};

/// Bytes of a message's id.
const MAX_ID: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAsk {
    pub ask: Ask,
    /// `session`, as the header `x-synthesis-session`.
    pub session: Option<String>,
    /// `workspace`, as the header `x-openclaw-workspace`.
    pub workspace: Option<String>,
}

#[derive(Default)]
struct Request<'a> {
    input: Option<Input<'a>>,
    session: Option<String>,
    model: Option<String>,
    workspace: Option<String>,
}

#[derive(Default)]
struct Input<'a> {
    text: String,
    id: Option<String>,
    files: Vec<File<'a>>,
}

#[derive(Default)]
struct File<'a> {
    name: Option<String>,
    data: Cow<'a, str>,
}

/// Reads a whole body, whose size is the caller's to bound.
///
/// # Errors
/// Broken JSON, a wrong type, an unknown field, nothing said, a file that is not taken.
pub fn parse(body: &[u8]) -> Result<RunAsk, BadRequest> {
    let fault = Fault::default();
    let Request { input, session, model, workspace } =
        document(body, &fault, Body { fault: &fault })?;
    let missing = |param: &str, message: &str| {
        BadRequest::of(param, "missing_required_parameter", message.to_owned())
    };
    let input = input.ok_or_else(|| missing("input", "`input` is missing"))?;
    if input.text.trim().is_empty() && input.files.is_empty() {
        return Err(missing("input", "`input` says nothing and holds no file"));
    }
    let id = input.id.filter(|id| !id.is_empty());
    if id.as_ref().is_some_and(|id| id.len() > MAX_ID) {
        let message = format!("`input.id` is longer than {MAX_ID} bytes");
        return Err(BadRequest::of("input.id", "too_long", message));
    }
    let files = input.files.into_iter().enumerate().map(of_file).collect();
    let message = Message { id, role: Role::User, text: input.text, files, is_answer: false };
    let Settled { runtime, instructions, history, new, hashes } = settle(vec![message], "input")?;
    let ask = Ask {
        model,
        stream: false,
        include_usage: false,
        user: None,
        prompt_cache_key: None,
        runtime,
        instructions,
        history,
        hashes,
        new,
    };
    Ok(RunAsk { ask, session, workspace })
}

fn of_file<'a>((index, file): (usize, File<'a>)) -> FilePart<'a> {
    let content = FileContent::Url { url: file.data, name: file.name, media_type: None };
    FilePart { param: format!("input.files.[{index}].data"), content }
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
            let map = &mut map;
            match key {
                BodyField::Input => {
                    let wanted = "a string or an object";
                    let input = field(map, fault, "input", wanted, InputSeed { fault })?;
                    request.input = Some(input);
                }
                BodyField::Session => request.session = text(map, fault, "session")?,
                BodyField::Model => request.model = text(map, fault, "model")?,
                BodyField::Workspace => request.workspace = text(map, fault, "workspace")?,
                BodyField::Other => return Err(unknown(fault, "the body")),
            }
        }
        Ok(request)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum BodyField {
    Input,
    Session,
    Model,
    Workspace,
    #[serde(other)]
    Other,
}

/// `"text"` or `{"text":…,"id":…,"files":[…]}`.
struct InputSeed<'a> {
    fault: &'a Fault,
}

seed!(InputSeed => Input<'de>, deserialize_any);

impl<'de> Visitor<'de> for InputSeed<'_> {
    type Value = Input<'de>;
    expecting!("a message");

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Input { text: text.to_owned(), ..Input::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Text,
            Id,
            Files,
            #[serde(other)]
            Other,
        }
        let fault = self.fault;
        let mut input = Input::default();
        while let Some(key) = map.next_key::<Key>()? {
            let map = &mut map;
            match key {
                Key::Text => input.text = text(map, fault, "input.text")?.unwrap_or_default(),
                Key::Id => input.id = text(map, fault, "input.id")?,
                Key::Files => {
                    let wanted = "an array of files";
                    input.files = field(map, fault, "input.files", wanted, Files { fault })?;
                }
                Key::Other => return Err(unknown(fault, "`input`")),
            }
        }
        Ok(input)
    }
}

struct Files<'a> {
    fault: &'a Fault,
}

seed!(Files => Vec<File<'de>>, deserialize_seq);

impl<'de> Visitor<'de> for Files<'_> {
    type Value = Vec<File<'de>>;
    expecting!("files");

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut files = Vec::new();
        while let Some(file) = seq.next_element_seed(OneFile { fault: self.fault })? {
            files.push(file);
        }
        Ok(files)
    }
}

/// `{"name":…,"data":"data:…"}`.
struct OneFile<'a> {
    fault: &'a Fault,
}

seed!(OneFile => File<'de>, deserialize_map);

impl<'de> Visitor<'de> for OneFile<'_> {
    type Value = File<'de>;
    expecting!("a file");

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Name,
            Data,
            #[serde(other)]
            Other,
        }
        let fault = self.fault;
        let mut file = File::default();
        while let Some(key) = map.next_key::<Key>()? {
            let map = &mut map;
            match key {
                Key::Name => file.name = text(map, fault, "input.files.name")?,
                Key::Data => {
                    let (param, wanted) = ("input.files.data", "a data URL");
                    file.data = field(map, fault, param, wanted, plain::<Borrowed<'de>>())?.0;
                }
                Key::Other => return Err(unknown(fault, "a file")),
            }
        }
        Ok(file)
    }
}

/// The body's own bytes where they need no unescaping.
#[derive(serde::Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// Foreign text is not repeated.
fn unknown<E: Error>(fault: &Fault, of: &str) -> E {
    let message = format!("{of} has a field that this API does not know");
    fault.refuse(BadRequest::new("unknown_parameter", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &serde_json::Value) -> (&'static str, String) {
        let bad = parse(body.to_string().as_bytes()).unwrap_err();
        (bad.code, bad.param.unwrap_or_default())
    }

    #[test]
    fn the_input_is_a_text_or_a_message_with_files() {
        let run = parse(br#"{"input":"hi","session":"s","workspace":"/w","model":"m"}"#).unwrap();
        assert_eq!((&*run.ask.new.text, run.ask.new.client_id), ("hi", None));
        assert_eq!((run.session.as_deref(), run.workspace.as_deref()), (Some("s"), Some("/w")));
        assert_eq!(run.ask.model.as_deref(), Some("m"));

        let file = json!({ "name": "../a.txt", "data": "data:text/plain;base64,aGk=" });
        let body = json!({ "input": { "text": "see", "id": "m1", "files": [file] } });
        let new = parse(body.to_string().as_bytes()).unwrap().ask.new;
        assert_eq!((new.client_id.as_deref(), &*new.text), (Some("m1"), "see"));
        assert_eq!((&*new.files[0].name, &new.files[0].data[..]), ("a.txt", &b"hi"[..]));

        let alone = json!({ "input": { "files": [{ "data": "data:text/plain;base64,aGk=" }] } });
        assert_eq!(parse(alone.to_string().as_bytes()).unwrap().ask.new.files.len(), 1);
    }

    #[test]
    fn what_it_does_not_know_or_cannot_use_is_refused_by_name() {
        let missing = "missing_required_parameter";
        for (body, code, param) in [
            (json!({}), missing, "input"),
            (json!({ "input": "" }), missing, "input"),
            (json!({ "input": { "text": " \n" } }), missing, "input"),
            (json!({ "input": 5 }), "invalid_type", "input"),
            (json!({ "input": null }), "invalid_type", "input"),
            (json!({ "input": { "text": 5 } }), "invalid_type", "input.text"),
            (json!({ "input": { "text": "a", "role": "user" } }), "unknown_parameter", ""),
            (json!({ "input": "a", "stream": true }), "unknown_parameter", ""),
            (json!({ "input": "a", "session": 1 }), "invalid_type", "session"),
            (json!({ "input": { "files": {} } }), "invalid_type", "input.files"),
            (json!({ "input": { "files": [{ "data": 1 }] } }), "invalid_type", "input.files.data"),
            (json!({ "input": { "files": [{ "url": "x" }] } }), "unknown_parameter", ""),
            (json!({ "input": { "id": "x".repeat(513), "text": "a" } }), "too_long", "input.id"),
            (json!([]), "invalid_type", ""),
        ] {
            assert_eq!(refused(&body), (code, param.to_owned()), "{body}");
        }
        let remote = json!({ "input": { "files": [{ "data": "https://example.com/a.png" }] } });
        assert_eq!(refused(&remote).1, "input.files.[0].data");
    }
}
