//! Files of a message: a data URL in, checked bytes out. The server fetches nothing.

use bytes::Bytes;
use data_encoding::BASE64;

use super::BadRequest;
use super::message::{FileContent, FilePart};

/// Files of one new message: more pictures than a person attaches, and under claude's own bound.
pub const MAX_FILES: usize = 8;
/// Bytes of one file: a phone's photograph or a paper as PDF, and within a body's 32 MiB when
/// encoded.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;
/// Bytes of a file's name: file systems take 255, and ours is prefixed.
const MAX_NAME: usize = 100;
/// Bytes of what stands before the data in a data URL.
const MAX_HEAD: usize = 256;

const TAKEN: &str =
    "taken are png, jpeg, gif, webp, pdf, and plain text, markdown, csv and json in UTF-8";

/// One file of the new message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Without path parts and control characters, at most 100 bytes, never empty.
    pub name: String,
    pub media_type: String,
    pub data: Bytes,
}

/// What we take. The declared type must be what the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Png,
    Jpeg,
    Gif,
    Webp,
    Pdf,
    Plain,
    Markdown,
    Csv,
    Json,
}

impl Kind {
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "image/png" => Self::Png,
            "image/jpeg" | "image/jpg" => Self::Jpeg,
            "image/gif" => Self::Gif,
            "image/webp" => Self::Webp,
            "application/pdf" => Self::Pdf,
            "text/plain" => Self::Plain,
            "text/markdown" | "text/x-markdown" => Self::Markdown,
            "text/csv" => Self::Csv,
            "application/json" | "text/json" => Self::Json,
            _ => return None,
        })
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::Pdf => "application/pdf",
            Self::Plain => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Csv => "text/csv",
            Self::Json => "application/json",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::Pdf => "pdf",
            Self::Plain => "txt",
            Self::Markdown => "md",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// Are the bytes what the type says?
    fn fits(self, data: &[u8]) -> bool {
        match self {
            Self::Png => data.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Jpeg => data.starts_with(b"\xff\xd8\xff"),
            Self::Gif => data.starts_with(b"GIF87a") || data.starts_with(b"GIF89a"),
            Self::Webp => data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP"),
            Self::Pdf => data.starts_with(b"%PDF-"),
            Self::Plain | Self::Markdown | Self::Csv | Self::Json => {
                !data.contains(&0) && std::str::from_utf8(data).is_ok()
            }
        }
    }
}

/// Decodes and checks one file.
pub(super) fn read(part: FilePart<'_>) -> Result<Attachment, BadRequest> {
    let FilePart { param, content } = part;
    let (url, name, media_type) = match content {
        FileContent::Url { url, name, media_type } => (url, name, media_type),
        FileContent::Unsupported(message) => return Err(unsupported(&param, message)),
    };
    let (declared, encoded) = split(&url).map_err(|message| unsupported(&param, message))?;
    // A data URL without a type leaves it to the field beside it.
    let declared = if declared.is_empty() { media_type.as_deref().unwrap_or("") } else { declared };
    let kind = Kind::of(&declared.to_ascii_lowercase())
        .ok_or_else(|| unsupported(&param, &format!("this type of file is not taken: {TAKEN}")))?;
    let data = decode(encoded, &param)?;
    if !kind.fits(&data) {
        let message = format!("the bytes are not of the type {}", kind.media_type());
        return Err(unsupported(&param, &message));
    }
    let name = name.as_deref().and_then(plain_name);
    let name = name.unwrap_or_else(|| format!("file.{}", kind.extension()));
    Ok(Attachment { name, media_type: kind.media_type().to_owned(), data: data.into() })
}

fn unsupported(param: &str, message: &str) -> BadRequest {
    BadRequest::of(param, "unsupported_content", format!("`{param}`: {message}"))
}

/// The media type, without its parameters, and the encoded data of a data URL.
fn split(url: &str) -> Result<(&str, &str), &'static str> {
    const ONLY: &str =
        "only data URLs are taken (`data:image/png;base64,…`): this server fetches nothing";
    let scheme = url.get(..5).ok_or(ONLY)?;
    if !scheme.eq_ignore_ascii_case("data:") {
        return Err(ONLY);
    }
    let comma = url.bytes().take(MAX_HEAD).position(|byte| byte == b',');
    let (head, encoded) = comma
        .and_then(|comma| Some((url.get(5..comma)?, url.get(comma + 1..)?)))
        .ok_or("the data URL has no comma before its data")?;
    let mut fields = head.split(';').map(str::trim);
    let media_type = fields.next().unwrap_or_default();
    match fields.next_back() {
        Some(last) if last.eq_ignore_ascii_case("base64") => Ok((media_type, encoded)),
        Some(_) | None => Err("the data URL must be in base64"),
    }
}

fn decode(encoded: &str, param: &str) -> Result<Vec<u8>, BadRequest> {
    if encoded.len() / 4 * 3 > MAX_BYTES + 2 {
        return Err(too_large(param));
    }
    let data = BASE64.decode(encoded.as_bytes()).map_err(|_| {
        BadRequest::of(param, "invalid_base64", format!("`{param}`: the base64 is broken"))
    })?;
    if data.len() > MAX_BYTES {
        return Err(too_large(param));
    }
    Ok(data)
}

fn too_large(param: &str) -> BadRequest {
    let message = format!("`{param}`: the file is over the limit of {MAX_BYTES} bytes");
    BadRequest::of(param, "file_too_large", message)
}

/// The last part of a path, on any system, without what could confuse a reader or a shell's
/// terminal. `None` if nothing is left.
fn plain_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let unsafe_in_names = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let kept: String = last.chars().filter(|c| !unsafe_in_names(*c)).collect();
    let kept = kept.trim().trim_start_matches('.').trim_start();
    let (stem, extension) = match kept.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 10 => {
            (stem, format!(".{extension}"))
        }
        Some(_) | None => (kept, String::new()),
    };
    let stem = stem.get(..stem.floor_char_boundary(MAX_NAME - extension.len())).unwrap_or(stem);
    (!stem.is_empty()).then(|| format!("{stem}{extension}"))
}

#[cfg(test)]
mod tests;
