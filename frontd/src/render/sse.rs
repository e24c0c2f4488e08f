//! Server-sent events as the OpenAI clients accept them: unnamed `data:` blocks of one JSON
//! object, never a block without data, errors as an object with the key `error`. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// The value of `Content-Type`.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The end of a stream.
pub static DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

pub(super) const BEGIN: &[u8] = b"data: ";
pub(super) const END: &[u8] = b"\n\n";

/// A comment: every parser skips it. Watchdogs that wait for data do not count it.
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Appends `value`'s JSON, which is a single line.
pub(super) fn write_json(value: &impl Serialize, out: &mut BytesMut) {
    serde_json::to_writer(out.writer(), value).expect("rendered types have string keys");
}

/// Appends one unnamed block of `value`.
pub(super) fn write_data(value: &impl Serialize, out: &mut BytesMut) {
    out.extend_from_slice(BEGIN);
    write_json(value, out);
    out.extend_from_slice(END);
}

/// One block of `value`. JSON of serde_json is a single line, so it needs no splitting.
pub fn data(value: &impl Serialize) -> Bytes {
    let mut frame = BEGIN.to_vec();
    serde_json::to_writer(&mut frame, value).expect("rendered types have string keys");
    frame.extend_from_slice(END);
    frame.into()
}

/// An error after the stream has begun. Both official SDKs raise it; a block named `event: error`
/// would be taken for a chunk by one of them.
pub fn error(error: &ErrorObject<'_>) -> Bytes {
    data(&ErrorBody { error })
}

/// The OpenAI API's error object.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorObject<'a> {
    pub message: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub param: Option<&'a str>,
    pub code: &'a str,
}

/// The whole body of an error response.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorBody<'a> {
    pub error: &'a ErrorObject<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_data_block_with_the_key_error() {
        let object = ErrorObject {
            message: "claude ended:\nsignal 9",
            kind: "server_error",
            param: None,
            code: "process_ended",
        };
        assert_eq!(
            error(&object),
            "data: {\"error\":{\"message\":\"claude ended:\\nsignal 9\",\"type\":\"server_error\",\"param\":null,\"code\":\"process_ended\"}}\n\n"
        );
    }

    #[test]
    fn text_cannot_end_its_block() {
        for text in ["a\n\nb", "a\r\rb", "\u{2028}\n", "\r\ndata: [DONE]\r\n\r\n"] {
            let frame = data(&text);
            let body = frame.strip_suffix(END).unwrap();
            assert!(!body.contains(&b'\n') && !body.contains(&b'\r'), "{text:?}");
        }
    }
}
