//! JSON-RPC between the fake and its MCP server: lines in, lines out, as the real CLI writes
//! them. Pure. What the server sends is read tolerantly; what makes no sense is [`Incoming::Other`].

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

/// One line from the server.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Incoming {
    /// `notifications/claude/channel`, well formed.
    Push(Push),
    /// An answer to the request of this id.
    Answer {
        id: u64,
        answer: Result<Value, Value>,
    },
    /// A request of the server's own; it is refused.
    Request {
        id: Value,
    },
    Other,
}

/// A pushed message, meta in wire order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Push {
    pub(super) content: String,
    #[serde(default)]
    pub(super) meta: Pairs,
}

impl Push {
    pub(super) fn meta(&self, key: &str) -> Option<&str> {
        self.meta.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    id: Option<Value>,
    result: Option<Value>,
    error: Option<Value>,
    #[serde(rename = "params")]
    _params: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct WithPush {
    params: Push,
}

/// Reads one line.
pub(super) fn read(line: &[u8]) -> Incoming {
    let Ok(head) = serde_json::from_slice::<Head<'_>>(line) else { return Incoming::Other };
    match (head.method.as_deref(), head.id) {
        (Some("notifications/claude/channel"), None) => serde_json::from_slice::<WithPush>(line)
            .map_or(Incoming::Other, |found| Incoming::Push(found.params)),
        (Some(_), Some(id)) => Incoming::Request { id },
        (None, Some(id)) => match (id.as_u64(), head.result, head.error) {
            (Some(id), Some(result), None) => Incoming::Answer { id, answer: Ok(result) },
            (Some(id), _, Some(error)) => Incoming::Answer { id, answer: Err(error) },
            // The probe has a text id; its number is reserved for it.
            (None, None, Some(error)) if id == PROBE_ID => {
                Incoming::Answer { id: PROBE, answer: Err(error) }
            }
            (None, Some(result), None) if id == PROBE_ID => {
                Incoming::Answer { id: PROBE, answer: Ok(result) }
            }
            (Some(_) | None, _, _) => Incoming::Other,
        },
        (Some(_) | None, None) => Incoming::Other,
    }
}

/// The number under which the probe's answer is found.
pub(super) const PROBE: u64 = u64::MAX;
const PROBE_ID: &str = "server-discover-probe-1";

fn client_info() -> Value {
    json!({"name": "claude-code", "title": "Claude Code", "version": super::VERSION,
        "description": "Anthropic's agentic coding tool",
        "websiteUrl": "https://claude.com/claude-code"})
}

pub(super) fn probe() -> String {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {"roots": {"listChanged": true},
            "elicitation": {"form": {}, "url": {}},
            "extensions": {"io.modelcontextprotocol/tasks": {}}}});
    line(&json!({"jsonrpc": "2.0", "id": PROBE_ID, "method": "server/discover",
        "params": {"_meta": meta}}))
}

pub(super) fn initialize() -> String {
    line(&json!({"method": "initialize", "params": {"protocolVersion": "2025-11-25",
        "capabilities": {"roots": {"listChanged": true}, "elicitation": {"form": {}, "url": {}}},
        "clientInfo": client_info()}, "jsonrpc": "2.0", "id": 0}))
}

pub(super) fn initialized() -> String {
    line(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
}

pub(super) fn list_tools() -> String {
    line(&json!({"method": "tools/list", "jsonrpc": "2.0", "id": 1}))
}

pub(super) fn refuse(id: &Value) -> String {
    line(&json!({"jsonrpc": "2.0", "id": id,
        "error": {"code": -32601, "message": "Method not found"}}))
}

/// `tools/call` of the reply tool. Built by hand: it is the hot path of the benchmark.
pub(super) fn call_reply(id: u64, tool_use_id: &str, arguments: &str) -> String {
    format!(
        "{{\"method\":\"tools/call\",\"params\":{{\"name\":\"reply\",\"arguments\":{arguments},\
         \"_meta\":{{\"claudecode/toolUseId\":\"{tool_use_id}\",\"progressToken\":{id}}}}},\
         \"jsonrpc\":\"2.0\",\"id\":{id}}}\n"
    )
}

/// The reply tool's arguments, keys in the order in which the CLI sends them.
pub(super) fn reply_arguments(text: &str, is_final: bool, message_id: Option<&str>) -> String {
    let mut out = format!("{{\"final\":{is_final},");
    if let Some(id) = message_id {
        out.push_str("\"message_id\":");
        out.push_str(&quoted(id));
        out.push(',');
    }
    out.push_str("\"text\":");
    out.push_str(&quoted(text));
    out.push('}');
    out
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_keeps_the_order_of_its_meta() {
        let line = br#"{"jsonrpc":"2.0","method":"notifications/claude/channel",
            "params":{"content":"hi \u00e9","meta":{"z":"1","a":"2"}}}"#;
        let Incoming::Push(push) = read(line) else { panic!("no push") };
        assert_eq!(push.content, "hi é");
        assert_eq!(push.meta.0[0].0, "z");
        assert_eq!(push.meta("a"), Some("2"));
    }

    #[test]
    fn what_is_not_well_formed_is_dropped() {
        for line in [
            "",
            "nonsense",
            "[]",
            r#"{"method":"notifications/claude/channel","params":{"content":3}}"#,
            r#"{"method":"notifications/claude/channel","params":{"content":"a","meta":{"b":1}}}"#,
            r#"{"id":null,"result":{}}"#,
        ] {
            assert_eq!(read(line.as_bytes()), Incoming::Other, "{line}");
        }
    }

    #[test]
    fn answers_find_their_request() {
        let answer = read(br#"{"jsonrpc":"2.0","id":3,"result":{"content":[]}}"#);
        assert_eq!(answer, Incoming::Answer { id: 3, answer: Ok(json!({"content": []})) });
        let probe = read(br#"{"jsonrpc":"2.0","id":"server-discover-probe-1","error":{"code":1}}"#);
        assert_eq!(probe, Incoming::Answer { id: PROBE, answer: Err(json!({"code": 1})) });
    }

    #[test]
    fn a_call_is_valid_json() {
        let arguments = reply_arguments("a \"b\"\n", false, Some("m1"));
        let call: Value = serde_json::from_str(&call_reply(7, "toolu_1", &arguments)).unwrap();
        assert_eq!(call["params"]["arguments"]["text"], "a \"b\"\n");
        assert_eq!(call["params"]["_meta"]["progressToken"], 7);
    }
}
