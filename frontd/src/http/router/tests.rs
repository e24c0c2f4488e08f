use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::run::failure::LASTING;

fn document() -> Value {
    serde_json::from_slice(routes::ops::OPENAPI).unwrap()
}

/// Every operation: its path, its method in small letters, and what it says.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &Value)| -> Vec<(String, String, Value)> {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, says)| (path.clone(), method.clone(), says.clone())).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let documented: BTreeSet<(String, String)> = operations(&document())
        .into_iter()
        .map(|(path, method, _)| (path.replace("{key}", "{id}"), method.to_uppercase()))
        .collect();
    let routed: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|(path, method, _)| (path.replace("{*id}", "{id}"), method.to_string()))
        .collect();
    assert_eq!(documented, routed);
    assert_eq!(routed.len(), TABLE.len(), "a route stands twice");
}

#[test]
fn every_operation_says_what_it_takes_and_what_it_answers() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, method, says) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(ids.insert(says["operationId"].to_string()), "{place}: the id stands twice");
        assert!(says["summary"].is_string() && says["tags"].is_array(), "{place}");
        let answers = says["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{place}");
        assert!(answers.contains_key("403"), "{place}: anyone may be a stranger");
        let known = says["security"].is_null();
        assert!(answers.contains_key("503"), "{place}: the server may be stopping");
        for status in ["401", "429"] {
            assert_eq!(answers.contains_key(status), known, "{place}: {status}");
        }
        let parameters = says["parameters"].as_array().cloned().unwrap_or_default();
        let resolved: Vec<&Value> = parameters.iter().map(|one| resolve(&document, one)).collect();
        let of_path: Vec<&Value> = resolved.iter().copied().filter(|p| p["in"] == "path").collect();
        assert_eq!(of_path.len(), path.matches('{').count(), "{place}");
        for parameter in of_path {
            let name = parameter["name"].as_str().unwrap();
            assert!(path.contains(&format!("{{{name}}}")), "{place}: {name}");
        }
        // What reads a body can find it too long, too slow, cut, or too much at once.
        if !says["requestBody"].is_null() {
            for status in ["400", "408", "413", "500", "503"] {
                assert!(answers.contains_key(status), "{place}: {status}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let target = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(target).is_some(), "{reference}");
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        // These are named, not referred to.
        if kind == "securitySchemes" {
            continue;
        }
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(&reference), "{reference} is not used");
        }
    }
}

/// A name that stands twice would hide the one before it.
#[test]
fn no_name_stands_twice_in_one_object() {
    let Names(doubled) = serde_json::from_slice(routes::ops::OPENAPI).unwrap();
    assert_eq!(doubled, Vec::<String>::new());
}

/// Names that stand twice in an object, anywhere within.
#[derive(Default)]
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Within)
    }
}

struct Within;

impl<'de> serde::de::Visitor<'de> for Within {
    type Value = Names;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let (mut names, mut doubled) = (BTreeSet::new(), Vec::new());
        while let Some((name, Names(within))) = map.next_entry::<String, Names>()? {
            doubled.extend(within);
            if !names.insert(name.clone()) {
                doubled.push(name);
            }
        }
        Ok(Names(doubled))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
        let mut doubled = Vec::new();
        while let Some(Names(within)) = seq.next_element()? {
            doubled.extend(within);
        }
        Ok(Names(doubled))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Names, E> {
        Ok(Names::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Names, E> {
        Ok(Names::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Names, E> {
        Ok(Names::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Names, E> {
        Ok(Names::default())
    }

    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names::default())
    }
}

/// The causes that a run can fail for, as a client finds them in an error's `code`.
#[test]
fn every_lasting_failure_is_told() {
    let text = String::from_utf8_lossy(routes::ops::OPENAPI);
    for code in LASTING {
        assert!(text.contains(code), "{code}");
    }
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
