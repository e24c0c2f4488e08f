//! What one request is called, in logs, in the audit record and to its client. Pure.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, both ways. The official clients show it as `_request_id`.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an id that a client or a proxy chose.
const LONGEST: usize = 128;

/// 1 to 128 characters of `[A-Za-z0-9._-]`, so that it can stand anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The client's own, or a fresh one in its place: nobody is refused for an odd id.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(&HEADER).iter();
        let one = match (given.next(), given.next()) {
            (Some(one), None) => one.to_str().ok(),
            (None | Some(_), _) => None,
        };
        one.and_then(Self::parse).unwrap_or_else(Self::random)
    }

    pub fn random() -> Self {
        Self(format!("req_{}", uuid::Uuid::new_v4().simple()).into())
    }

    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain);
        good.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("plain characters")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn a_plain_id_is_kept_and_anything_else_replaced() {
        let longest = [b'a'; LONGEST];
        for kept in [&b"a"[..], b"550e8400-e29b.41d4_X", &longest] {
            assert_eq!(of(&[kept]).as_bytes(), kept);
        }
        let too_long = [b'a'; LONGEST + 1];
        let odd: [&[&[u8]]; 8] = [
            &[],
            &[b""],
            &[b"a b"],
            &[b"a\tb"],
            &["é".as_bytes()],
            &[b"a,b"],
            &[&too_long],
            &[b"a", b"b"],
        ];
        for odd in odd {
            let id = of(odd);
            assert!(id.len() == 36 && id.starts_with("req_"), "{odd:?}: {id}");
            assert!(RequestId::parse(&id).is_some());
        }
        assert_ne!(of(&[]), of(&[]));
    }
}
