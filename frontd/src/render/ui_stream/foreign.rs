//! JSON that a tool wrote, in a form that every version of the AI SDK reads. Their parser refuses a
//! whole stream for a key that could touch an object's prototype. What it would not bear is shown
//! as text. How deep JSON is nested, and what numbers it has, [`Json`] bounds already.

use serde::Serialize;
use serde_json::Value;

use crate::run::Json;

/// The same JSON, or its text.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Foreign<'a> {
    Json(&'a Json),
    Text(&'a str),
}

impl<'a> From<&'a Json> for Foreign<'a> {
    fn from(json: &'a Json) -> Self {
        if is_borne(json.get()) { Self::Json(json) } else { Self::Text(json.get()) }
    }
}

fn is_borne(json: &str) -> bool {
    // A key may be spelled with escapes; those of ASCII begin like this.
    let is_plain = !["__proto__", "prototype", "\\u00"].iter().any(|sign| json.contains(sign));
    is_plain || serde_json::from_str::<Value>(json).is_ok_and(|value| !touches_prototypes(&value))
}

/// The rule of their parser. No deeper than what was read.
fn touches_prototypes(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(values) => values.iter().any(touches_prototypes),
        Value::Object(fields) => {
            let constructor = fields.get("constructor").and_then(Value::as_object);
            fields.contains_key("__proto__")
                || constructor.is_some_and(|fields| fields.contains_key("prototype"))
                || fields.values().any(touches_prototypes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_they_would_refuse_becomes_text() {
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        for (json, borne) in [
            (r#"{"a":[1,"two",null,{"b":1e40}]}"#, true),
            (r#"{"__proto__":1}"#, false),
            (r#"[{"a":[{"__proto__":null}]}]"#, false),
            (r#"{"\u005f_proto__":1}"#, false),
            (r#"{"constructor":{"prototype":1}}"#, false),
            (r#"{"constructor":"of prototypes","a":"__proto__","prototype":1}"#, true),
            (r#"{"\u0061":1}"#, true),
            (&deep(100), true),
            (&deep(120), true),
            (&format!("[{}1]", "[1],".repeat(1000)), true),
        ] {
            assert_eq!(is_borne(json), borne, "{}", &json[..json.len().min(80)]);
            let json = Json::of(json);
            let shown = serde_json::to_string(&Foreign::from(&json)).unwrap();
            let wanted = serde_json::to_string(json.get()).unwrap();
            assert_eq!(shown, if borne { json.get() } else { &wanted });
        }
    }

    #[test]
    fn what_hardly_anybody_could_read_is_text_before_it_comes_here() {
        for odd in ["1e400", r#""\ud83d""#, r#"{"__proto__":1e400}"#, &"[".repeat(100_000)] {
            let json = Json::of(odd);
            let shown = serde_json::to_string(&Foreign::from(&json)).unwrap();
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), odd);
        }
    }
}
