//! Which conversation a request belongs to: headers, body and OpenClaw's Runtime line in, a key
//! out. Pure; the order of precedence is in [`identify`]. Whether the workspace may be used is
//! policy's word.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use proto::ids::AbsolutePath;

use crate::ask::{Ask, BadRequest};
use crate::openclaw::RuntimeLine;

/// Bytes of one part of an identity: ids of chats and agents are far shorter, and a key stands in
/// the store, in logs and in claude's view of the message.
const PART: usize = 512;
/// Bytes of a key: the principal and two parts, each byte of which may have become three.
const KEY: usize = 4096;

/// What a key can name, and in how many parts.
const KINDS: [(&str, usize); 8] = [
    ("session", 1),
    ("chat", 2),
    ("agent", 1),
    ("affinity", 1),
    ("runtime", 2),
    ("once", 1),
    ("response", 1),
    ("ui", 1),
];

const SESSION: HeaderName = HeaderName::from_static("x-synthesis-session");
const AGENT: HeaderName = HeaderName::from_static("x-openclaw-agent-id");
const CHAT: HeaderName = HeaderName::from_static("x-openclaw-chat-id");
const AFFINITY: HeaderName = HeaderName::from_static("x-session-affinity");
const SESSION_ID: HeaderName = HeaderName::from_static("session_id");
const WORKSPACE: HeaderName = HeaderName::from_static("x-openclaw-workspace");

/// The agent of a request that names nothing.
const DEFAULT: &str = "default";

/// One conversation of one principal.
///
/// The text is the principal and the parts as netstrings, `5:local,5:agent,4:main,`: each part
/// says its length, so no separator inside a part can make two keys equal. Bytes that are not
/// plain are written as `%XX`, so a key is printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Arc<str>);

impl SessionKey {
    fn new(principal: &str, kind: &str, parts: &[&str]) -> Self {
        let mut key = String::new();
        for part in [principal, kind].iter().chain(parts) {
            let plain = plain(part);
            key.push_str(&format!("{}:{plain},", plain.len()));
        }
        Self(key.into())
    }

    /// Reads a key that the store kept.
    pub(crate) fn of_stored(text: &str) -> Option<Self> {
        let key = Self(text.into());
        let known = !key.principal().is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        known.then_some(key)
    }

    /// Reads a key that a client of `principal` was shown; nothing else is one.
    pub fn of_client(principal: &str, text: &str) -> Option<Self> {
        if text.len() > KEY {
            return None;
        }
        let mut parts = text.strip_prefix(&Self::prefix(principal))?;
        let mut read = Vec::new();
        while !parts.is_empty() {
            let (length, rest) = parts.split_once(':')?;
            let part = rest.get(..length.parse().ok()?)?;
            parts = rest.get(part.len()..)?.strip_prefix(',')?;
            read.push(part);
        }
        let (kind, names) = read.split_first()?;
        KINDS.iter().find(|known| **known == (kind, names.len()))?;
        // Written anew it must be the same: each name has one spelling.
        let names: Option<Vec<String>> = names.iter().map(|name| of_plain(name)).collect();
        let names = names?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Some(Self::new(principal, kind, &names)).filter(|key| key.as_str() == text)
    }

    /// Reads a key of whichever principal, as it is shown to an administrator.
    pub fn of_anybody(text: &str) -> Option<Self> {
        if text.len() > KEY {
            return None;
        }
        let principal = of_plain(Self::of_stored(text)?.principal())?;
        Self::of_client(&principal, text)
    }

    /// Whose conversation it is.
    pub fn principal_name(&self) -> String {
        of_plain(self.principal()).unwrap_or_default()
    }

    /// With which all keys of `principal`, and no others, begin.
    pub(crate) fn prefix(principal: &str) -> String {
        let plain = plain(principal);
        format!("{}:{plain},", plain.len())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does this principal's name begin it?
    pub fn is_of(&self, principal: &str) -> bool {
        self.principal() == plain(principal)
    }

    /// Whose conversation it is, as written in the key.
    pub fn principal(&self) -> &str {
        let part = self.0.split_once(':').and_then(|(length, rest)| {
            let length: usize = length.parse().ok()?;
            rest.get(..length)
        });
        part.unwrap_or_default()
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As a part stands in a key.
pub(crate) fn plain(part: &str) -> String {
    let mut plain = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.@:/".contains(&byte) {
            plain.push(char::from(byte));
        } else {
            plain.push_str(&format!("%{byte:02X}"));
        }
    }
    plain
}

/// What [`plain`] was made of.
fn of_plain(plain: &str) -> Option<String> {
    String::from_utf8(percent_encoding::percent_decode_str(plain).collect()).ok()
}

/// Who a request says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub key: SessionKey,
    /// Chooses a configured workspace.
    pub agent: Option<String>,
    /// `X-OpenClaw-Workspace`.
    pub workspace: Option<AbsolutePath>,
    /// The conversation in the client's own words, for the message's tag.
    pub chat_id: String,
}

/// What the body says about identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyHints<'a> {
    /// Like `X-Synthesis-Session`, which beats it.
    pub session: Option<&'a str>,
    /// Like a chat's id, when no header names the conversation.
    pub conversation: Option<&'a str>,
    pub user: Option<&'a str>,
    pub prompt_cache_key: Option<&'a str>,
    pub runtime: Option<RuntimeLine>,
    /// The response that the request asks for: one that names no conversation begins its own.
    pub response: Option<&'a str>,
}

impl<'a> BodyHints<'a> {
    pub fn of(ask: &'a Ask) -> Self {
        Self {
            session: None,
            conversation: None,
            response: None,
            user: ask.user.as_deref(),
            prompt_cache_key: ask.prompt_cache_key.as_deref(),
            runtime: ask.runtime.clone(),
        }
    }
}

/// Names the conversation of a request. Headers beat the body, what is said for the purpose beats
/// what is derived. The first that is there decides:
///
/// 1. `X-Synthesis-Session`, then the body's `session`: a name, or the whole key as a client was
///    shown it;
/// 2. `X-OpenClaw-Agent-Id` and `X-OpenClaw-Chat-Id`, one or both; a chat without an agent is one
///    of the body's `user`, else of the agent `default`;
/// 3. `X-Session-Affinity`, then `session_id`;
/// 4. the body's `conversation`, as a chat;
/// 5. the body's `user`, as an agent;
/// 6. the body's `prompt_cache_key`, which clients set to the value of (3);
/// 7. the Runtime line's session and session id;
/// 8. the response's own conversation; for the other APIs the agent `default`: one conversation for
///    everything unnamed.
///
/// # Errors
/// A header that is empty, doubled, not plain text or too long; a body field that is too long.
pub fn identify(
    principal: &str,
    headers: &HeaderMap,
    body: &BodyHints<'_>,
) -> Result<Identity, BadRequest> {
    let user = field("user", body.user)?;
    let cache_key = field("prompt_cache_key", body.prompt_cache_key)?;
    let conversation = field("conversation", body.conversation)?;
    let session = only(headers, &SESSION)?;
    let session = match (session, body.session) {
        (Some(session), _) => Some(("x-synthesis-session", session)),
        (None, Some("") | None) => None,
        (None, Some(session)) => Some(("session", session)),
    };
    let known = session.and_then(|(_, text)| SessionKey::of_client(principal, text));
    let session = match (session, &known) {
        (Some((name, text)), None) => field(name, Some(text))?,
        (Some((_, text)), Some(_)) => Some(text),
        (None, _) => None,
    };
    let (agent, chat) = (header(headers, &AGENT)?, header(headers, &CHAT)?);
    // Both are looked at: one that cannot be used is refused beside one that beats it, too.
    let (affinity, session_id) = (header(headers, &AFFINITY)?, header(headers, &SESSION_ID)?);
    let affinity = affinity.or(session_id);
    let runtime = body.runtime.as_ref();
    let of_runtime = runtime.and_then(conversation_of);

    let one = |kind: &str, name: &str| (SessionKey::new(principal, kind, &[name]), name.to_owned());
    let two = |kind: &str, of: &str, name: &str| SessionKey::new(principal, kind, &[of, name]);
    let of_chat =
        |chat: &str| (two("chat", agent.or(user).unwrap_or(DEFAULT), chat), chat.to_owned());
    let (key, chat_id) = session
        .map(|session| match known {
            Some(key) => (key, session.to_owned()),
            None => one("session", session),
        })
        .or_else(|| chat.map(of_chat))
        .or_else(|| agent.map(|agent| one("agent", agent)))
        .or_else(|| affinity.map(|affinity| one("affinity", affinity)))
        .or_else(|| conversation.map(of_chat))
        .or_else(|| user.map(|user| one("agent", user)))
        .or_else(|| cache_key.map(|value| one("affinity", value)))
        .or_else(|| {
            let (session, id) = of_runtime?;
            let name = if id.is_empty() { session } else { id };
            Some((two("runtime", session, id), name.to_owned()))
        })
        .or_else(|| body.response.map(|response| one("response", response)))
        .unwrap_or_else(|| one("agent", DEFAULT));
    let agent = agent.or(user).or_else(|| runtime.and_then(|line| line.agent.as_deref()));
    let workspace = workspace(headers)?;
    Ok(Identity { key, agent: agent.map(str::to_owned), workspace, chat_id })
}

/// The conversation of an AI SDK chat: the page names it by the chat's id alone, also in the path
/// by which it resumes. Headers say where it lives.
///
/// # Errors
/// An id that is empty or too long; a header that cannot be used.
pub fn of_ui(principal: &str, headers: &HeaderMap, chat: &str) -> Result<Identity, BadRequest> {
    let missing = || BadRequest::of("id", "missing_required_parameter", "the chat has no id");
    let chat = field("id", Some(chat))?.ok_or_else(missing)?;
    Ok(Identity {
        key: SessionKey::new(principal, "ui", &[chat]),
        agent: header(headers, &AGENT)?.map(str::to_owned),
        workspace: workspace(headers)?,
        chat_id: chat.to_owned(),
    })
}

/// A conversation that nobody else can name.
pub fn one_off(principal: &str) -> SessionKey {
    SessionKey::new(principal, "once", &[&uuid::Uuid::new_v4().simple().to_string()])
}

/// Is this one of [`one_off`]'s?
pub fn is_one_off(key: &SessionKey) -> bool {
    let principal = key.principal();
    let before = format!("{}:{principal},", principal.len());
    key.as_str().strip_prefix(&*before).is_some_and(|rest| rest.starts_with("4:once,"))
}

/// The conversation that a first-version channel means by `agent` or `agent::chat`.
///
/// # Errors
/// An empty, long or unprintable name.
pub fn of_first_version(principal: &str, name: &str) -> Result<SessionKey, BadRequest> {
    const FIELD: &str = "openclaw_session";
    let name = field(FIELD, Some(name))?
        .filter(|name| !name.chars().any(char::is_control))
        .ok_or_else(|| BadRequest::of(FIELD, "invalid_session", "the session has no name"))?;
    Ok(match name.split_once("::") {
        Some((agent, chat)) => SessionKey::new(principal, "chat", &[agent, chat]),
        None => SessionKey::new(principal, "agent", &[name]),
    })
}

/// The Runtime line's two names of a conversation; an absent one is empty. An agent alone names
/// none.
fn conversation_of(line: &RuntimeLine) -> Option<(&str, &str)> {
    let (session, id) = (line.session.as_deref(), line.session_id.as_deref());
    (session.is_some() || id.is_some())
        .then(|| (session.unwrap_or_default(), id.unwrap_or_default()))
}

/// A body field. An empty one counts as absent: libraries fill it in by themselves.
fn field<'a>(name: &str, value: Option<&'a str>) -> Result<Option<&'a str>, BadRequest> {
    match value {
        Some(value) if value.len() > PART => Err(too_long(name, PART)),
        Some("") | None => Ok(None),
        Some(value) => Ok(Some(value)),
    }
}

/// A header that somebody set on purpose: when it cannot be used, the request must not land in
/// another conversation.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, BadRequest> {
    let value = only(headers, name)?;
    match value {
        Some(value) if value.len() > PART => Err(too_long(name.as_str(), PART)),
        Some(_) | None => Ok(value),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, BadRequest> {
    let refuse = |rule: &str| {
        BadRequest::of(name.as_str(), "invalid_header", format!("the header `{name}` {rule}"))
    };
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse("stands twice"));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => Err(refuse("is empty")),
        Ok(text) if text.chars().any(char::is_control) => Err(refuse("holds a control character")),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(refuse("is not UTF-8")),
    }
}

fn workspace(headers: &HeaderMap) -> Result<Option<AbsolutePath>, BadRequest> {
    let text = only(headers, &WORKSPACE)?;
    text.map(|text| workspace_of(WORKSPACE.as_str(), text)).transpose()
}

/// The folder that a request names in `param`.
///
/// # Errors
/// A path that is not absolute, or not plain.
pub fn workspace_of(param: &str, text: &str) -> Result<AbsolutePath, BadRequest> {
    let trimmed = match text.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    match AbsolutePath::new(trimmed) {
        Ok(path) => Ok(path),
        Err(invalid) => {
            let message = format!("the workspace {text:?} is {invalid}");
            Err(BadRequest::of(param, "workspace_unusable", message))
        }
    }
}

fn too_long(name: &str, bytes: usize) -> BadRequest {
    BadRequest::of(name, "too_long", format!("`{name}` is longer than {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_off_key_is_known_by_its_kind_alone() {
        assert!(is_one_off(&one_off("local")) && one_off("local") != one_off("local"));
        for name in ["once", "4:once,", "1:x,4:once,1:a,"] {
            assert!(!is_one_off(&SessionKey::new("local", "session", &[name])), "{name}");
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn who(pairs: &[(&'static str, &str)], body: &BodyHints<'_>) -> Identity {
        identify("local", &headers(pairs), body).unwrap()
    }

    fn key(pairs: &[(&'static str, &str)], body: &BodyHints<'_>) -> String {
        who(pairs, body).key.to_string()
    }

    fn everything() -> BodyHints<'static> {
        let some = |text: &str| Some(text.to_owned());
        BodyHints {
            user: Some("u"),
            prompt_cache_key: Some("pck"),
            runtime: Some(RuntimeLine {
                agent: some("main"),
                session: some("agent:main:x"),
                session_id: some("s-1"),
            }),
            ..BodyHints::default()
        }
    }

    /// Each step takes away what decided the one before.
    #[test]
    fn the_order_of_precedence_is_the_documented_one() {
        let all = [
            ("x-synthesis-session", "sess"),
            ("x-openclaw-agent-id", "ag"),
            ("x-openclaw-chat-id", "ch"),
            ("x-session-affinity", "aff"),
            ("session_id", "sid"),
        ];
        let mut body = everything();
        assert_eq!(key(&all, &body), "5:local,7:session,4:sess,");
        assert_eq!(key(&all[1..], &body), "5:local,4:chat,2:ag,2:ch,");
        assert_eq!(key(&all[2..], &body), "5:local,4:chat,1:u,2:ch,");
        assert_eq!(key(&all[2..], &BodyHints::default()), "5:local,4:chat,7:default,2:ch,");
        assert_eq!(key(&[all[1], all[3]], &body), "5:local,5:agent,2:ag,");
        assert_eq!(key(&all[3..], &body), "5:local,8:affinity,3:aff,");
        assert_eq!(key(&all[4..], &body), "5:local,8:affinity,3:sid,");
        assert_eq!(key(&[], &body), "5:local,5:agent,1:u,");
        body.user = None;
        assert_eq!(key(&[], &body), "5:local,8:affinity,3:pck,");
        body.prompt_cache_key = None;
        assert_eq!(key(&[], &body), "5:local,7:runtime,12:agent:main:x,3:s-1,");
        body.runtime = None;
        assert_eq!(key(&[], &body), "5:local,5:agent,7:default,");
    }

    #[test]
    fn a_key_that_a_client_was_shown_names_the_same_conversation() {
        let (long, odd) = ("x".repeat(PART), "\\\0/../ü%2e,1:".repeat(40));
        let odd: String = odd.chars().take(400).collect();
        for name in ["a", "5:local,7:session,1:a", "%41", &long, &odd] {
            for (kind, names) in KINDS {
                let shown = SessionKey::new("local", kind, &[name, name][..names]);
                assert_eq!(SessionKey::of_client("local", shown.as_str()), Some(shown.clone()));
                let by_header = key(&[("x-synthesis-session", shown.as_str())], &everything());
                assert_eq!(by_header, shown.as_str());
                assert_eq!(SessionKey::of_client("loca", shown.as_str()), None);
                assert_eq!(SessionKey::of_client("remote", shown.as_str()), None);
            }
        }
        for wrong in [
            "",
            "5:local,",
            "5:local,7:session,",
            "5:local,7:session,1:a",
            "5:local,7:session,2:a,",
            "5:local,7:session,01:a,",
            "5:local,7:session,1:a,1:b,",
            "5:local,4:chat,1:a,",
            "5:local,5:other,1:a,",
            "5:local,7:session,1: ,",
            "5:local,7:session,3:%41,",
            "5:local,7:session,3:%fF,",
            "5:local,7:session,18446744073709551616:a,",
            "5:local,7:session,2:\u{e4},",
            "5:local,7:session,1:\u{e4},",
        ] {
            assert_eq!(SessionKey::of_client("local", wrong), None, "{wrong}");
            // A name like any other.
            if !wrong.is_empty() {
                let named = key(&[("x-synthesis-session", wrong)], &BodyHints::default());
                assert!(named.starts_with("5:local,7:session,"), "{named}");
            }
        }
    }

    #[test]
    fn a_body_names_a_session_or_a_conversation_after_the_headers() {
        let session = BodyHints { session: Some("s"), ..everything() };
        assert_eq!(key(&[], &session), "5:local,7:session,1:s,");
        assert_eq!(key(&[("x-openclaw-chat-id", "c")], &session), "5:local,7:session,1:s,");
        assert_eq!(key(&[("x-synthesis-session", "h")], &session), "5:local,7:session,1:h,");
        let talk = BodyHints { conversation: Some("c"), response: Some("r"), ..everything() };
        assert_eq!(key(&[], &talk), "5:local,4:chat,1:u,1:c,");
        assert_eq!(key(&[("session_id", "a")], &talk), "5:local,8:affinity,1:a,");
        let alone = BodyHints { response: Some("r"), ..BodyHints::default() };
        assert_eq!(key(&[], &alone), "5:local,8:response,1:r,");
        let long = "x".repeat(PART + 1);
        let long = BodyHints { session: Some(&long), ..BodyHints::default() };
        let bad = identify("p", &HeaderMap::new(), &long).unwrap_err();
        assert_eq!(bad.param.as_deref(), Some("session"));
    }

    #[test]
    fn the_affinity_value_is_one_conversation_wherever_it_stands() {
        let body = BodyHints { prompt_cache_key: Some("s-1:0"), ..BodyHints::default() };
        let by_body = key(&[], &body);
        assert_eq!(by_body, key(&[("session_id", "s-1:0")], &BodyHints::default()));
        assert_eq!(by_body, key(&[("x-session-affinity", "s-1:0")], &body));
    }

    #[test]
    fn session_keys_with_separators_in_their_parts_never_collide() {
        let parts = ["a", "b", "a::b", "::", "a:", ":b", "1:a,", "a,1:b", "%3A", "3:a::", "ä", " "];
        let mut seen = std::collections::HashMap::new();
        for principal in ["local", "loc", "local,4:chat"] {
            for one in parts {
                let session = SessionKey::new(principal, "session", &[one]);
                assert_eq!(seen.insert(session, format!("{principal} {one}")), None);
                for two in parts {
                    for kind in ["chat", "runtime"] {
                        let made_of = format!("{principal} {kind} {one} | {two}");
                        let key = SessionKey::new(principal, kind, &[one, two]);
                        assert_eq!(seen.insert(key, made_of.clone()), None, "{made_of}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_is_scoped_to_its_principal_and_printable() {
        let odd = "ch\u{202e}at ü\"\n";
        let body = BodyHints { user: Some(odd), ..BodyHints::default() };
        let (one, two) = (
            identify("alice", &HeaderMap::new(), &body).unwrap(),
            identify("bob", &HeaderMap::new(), &body).unwrap(),
        );
        assert_ne!(one.key, two.key);
        assert_eq!((one.key.principal(), two.key.principal()), ("alice", "bob"));
        assert!(one.key.as_str().bytes().all(|b| b.is_ascii_graphic()), "{}", one.key);
    }

    #[test]
    fn the_agent_is_the_header_s_the_user_s_or_the_runtime_line_s() {
        let agent = |pairs: &[(&'static str, &str)], body: &BodyHints<'_>| who(pairs, body).agent;
        let mut body = everything();
        assert_eq!(agent(&[("x-openclaw-agent-id", "ag")], &body).as_deref(), Some("ag"));
        assert_eq!(agent(&[("session_id", "sid")], &body).as_deref(), Some("u"));
        body.user = Some("");
        assert_eq!(agent(&[("session_id", "sid")], &body).as_deref(), Some("main"));
        assert_eq!(agent(&[], &BodyHints::default()), None);
    }

    #[test]
    fn the_chat_id_is_the_client_s_own_word() {
        let chat_id = |pairs: &[(&'static str, &str)]| who(pairs, &BodyHints::default()).chat_id;
        assert_eq!(chat_id(&[("x-openclaw-chat-id", "Büro 7")]), "Büro 7");
        assert_eq!(chat_id(&[]), "default");
        let mut runtime = everything();
        (runtime.user, runtime.prompt_cache_key) = (None, None);
        assert_eq!(who(&[], &runtime).chat_id, "s-1");
    }

    #[test]
    fn a_header_that_cannot_be_used_is_refused_by_name() {
        let long = "x".repeat(PART + 1);
        for name in [
            "x-synthesis-session",
            "x-openclaw-agent-id",
            "x-openclaw-chat-id",
            "x-session-affinity",
            "session_id",
        ] {
            for value in ["", "a\tb", &long] {
                let found = identify("p", &headers(&[(name, value)]), &BodyHints::default());
                assert_eq!(found.unwrap_err().param.as_deref(), Some(name), "{name}");
            }
            let twice = identify("p", &headers(&[(name, "a"), (name, "a")]), &BodyHints::default());
            assert_eq!(twice.unwrap_err().param.as_deref(), Some(name), "{name}");
            let most = "x".repeat(PART);
            assert!(identify("p", &headers(&[(name, &most)]), &BodyHints::default()).is_ok());
        }
        let beaten = headers(&[("x-session-affinity", "a"), ("session_id", "")]);
        let found = identify("p", &beaten, &BodyHints::default());
        assert_eq!(found.unwrap_err().param.as_deref(), Some("session_id"));
        let mut bytes = HeaderMap::new();
        bytes.insert(CHAT, http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(identify("p", &bytes, &BodyHints::default()).is_err());
    }

    #[test]
    fn a_body_field_that_is_too_long_is_refused_by_name() {
        let long = "x".repeat(PART + 1);
        let user = BodyHints { user: Some(&long), ..BodyHints::default() };
        let cache = BodyHints { prompt_cache_key: Some(&long), ..BodyHints::default() };
        for (body, param) in [(user, "user"), (cache, "prompt_cache_key")] {
            let bad = identify("p", &HeaderMap::new(), &body).unwrap_err();
            assert_eq!(bad.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn the_workspace_is_an_absolute_path() {
        let workspace = |text: &str| {
            let headers = headers(&[("x-openclaw-workspace", text)]);
            identify("p", &headers, &BodyHints::default()).map(|who| who.workspace)
        };
        let path = |text: &str| Some(AbsolutePath::new(text).unwrap());
        assert_eq!(workspace("/srv/demo").unwrap(), path("/srv/demo"));
        assert_eq!(workspace("/srv/demo//").unwrap(), path("/srv/demo"));
        assert_eq!(workspace("/").unwrap(), path("/"));
        for bad in ["demo", "~/demo", "/srv/../etc", "/srv//demo", "", "/a\tb"] {
            let bad = workspace(bad).unwrap_err();
            assert_eq!(bad.param.as_deref(), Some("x-openclaw-workspace"));
        }
    }
}
