//! Pictures and files that an answer names by their URL. Nothing is fetched.

/// URLs of one reply: more than a gallery shows; the text keeps them all.
const MAX: usize = 16;
/// Bytes of one URL: what browsers and proxies agree on.
const MAX_URL: usize = 2048;
/// Bytes of what a Markdown picture shows, in words.
const MAX_ALT: usize = 1024;

/// What a picture is whose URL has no ending that tells more.
const SOME_PICTURE: &str = "image/*";
const SOME_FILE: &str = "application/octet-stream";

/// The URLs of a reply and the media type that each one's ending tells, in order, each once.
///
/// They stand on lines of their own, `MEDIA:https://…`, or in Markdown pictures,
/// `![what it shows](https://…)`; in a block of code they are its text.
pub fn media(text: &str) -> Vec<(String, &'static str)> {
    let mut found: Vec<(String, &'static str)> = Vec::new();
    let mut add = |url: &str, otherwise: &'static str| {
        if found.len() < MAX && is_plain(url) && !found.iter().any(|(known, _)| known == url) {
            found.push((url.to_owned(), media_type(url).unwrap_or(otherwise)));
        }
    };
    let mut in_code = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            in_code = !in_code;
        } else if in_code {
            continue;
        } else if let Some(url) = line.strip_prefix("MEDIA:") {
            add(url.trim().trim_matches('`'), SOME_FILE);
        } else {
            pictures(line, |url| add(url, SOME_PICTURE));
        }
    }
    found
}

/// Markdown pictures of one line, each byte of which is looked at a few times at most.
fn pictures(line: &str, mut add: impl FnMut(&str)) {
    let mut rest = line;
    while let Some(middle) = rest.find("](") {
        let (shown, target) = (rest.get(..middle), rest.get(middle + 2..).unwrap_or_default());
        rest = target;
        if !shown.is_some_and(opens) {
            continue;
        }
        let near = target.get(..target.floor_char_boundary(MAX_URL + 2)).unwrap_or_default();
        let url = url(near);
        if let Some(url) = url {
            add(url);
        }
        rest = target.get(url.unwrap_or(near).len()..).unwrap_or_default();
    }
}

/// Does a picture begin in what stands before its middle?
fn opens(shown: &str) -> bool {
    let near = shown.get(shown.ceil_char_boundary(shown.len().saturating_sub(MAX_ALT))..);
    let words = near.and_then(|near| near.rsplit_once("!["));
    words.is_some_and(|(_, words)| !words.contains(']'))
}

/// The URL that `target` begins with: in angle brackets, or up to a blank or to the parenthesis
/// that closes the picture.
fn url(target: &str) -> Option<&str> {
    if let Some(bracketed) = target.strip_prefix('<') {
        return bracketed.split_once('>').map(|(url, _)| url);
    }
    let mut depth = 0;
    let end = target.find(|c: char| match c {
        '(' => {
            depth += 1;
            false
        }
        ')' => {
            depth -= 1;
            depth < 0
        }
        c => c.is_whitespace(),
    })?;
    target.get(..end)
}

/// Is it a URL that a browser may be shown as it stands?
fn is_plain(url: &str) -> bool {
    let scheme = ["https://", "http://"];
    let rest = scheme.iter().find_map(|scheme| {
        url.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme))?;
        url.get(scheme.len()..)
    });
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"<>\\^`{|}".contains(c);
    url.len() <= MAX_URL
        && rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '['))
        && url.chars().all(plain)
}

/// By the ending of the URL's path.
fn media_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, host_and_path) = path.split_once("://")?;
    let (_, file) = host_and_path.rsplit_once('/')?;
    let (_, ending) = file.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "svg" => "image/svg+xml",
        "bmp" => "image/bmp",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "m4a" => "audio/mp4",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "json" => "application/json",
        "zip" => "application/zip",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        media(text).into_iter().map(|(url, _)| url).collect()
    }

    #[test]
    fn lines_and_pictures_are_found_in_order_and_once() {
        let text = "Here:\n  MEDIA:https://x.example/a.png\nMEDIA: `http://x.example/b`\n\
            see ![a cat](https://x.example/c.JPG?w=1 \"cat\") and ![](<https://x.example/d>)\n\
            ![x](https://x.example/a.png)![y](https://x.example/e_(1).gif)";
        let found = media(text);
        let wanted = [
            ("https://x.example/a.png", "image/png"),
            ("http://x.example/b", "application/octet-stream"),
            ("https://x.example/c.JPG?w=1", "image/jpeg"),
            ("https://x.example/d", "image/*"),
            ("https://x.example/e_(1).gif", "image/gif"),
        ];
        let found: Vec<_> = found.iter().map(|(url, kind)| (url.as_str(), *kind)).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_no_web_address_is_left_alone() {
        for text in [
            "MEDIA:/etc/passwd",
            "MEDIA:file:///etc/passwd",
            "MEDIA:javascript:alert(1)",
            "MEDIA:data:image/png;base64,AAAA",
            "MEDIA:https://",
            "MEDIA:https:///etc",
            "MEDIA:https://x.example/a b",
            "MEDIA:https://x.example/\"onload=\"",
            "MEDIA:https://x.example/<b>",
            "see MEDIA:https://x.example/a.png",
            "![x](/a.png)",
            "![x](https://x.example/a.png",
            "[x](https://x.example/a.png)",
            "![x] (https://x.example/a.png)",
            "![x] and [y](https://x.example/a.png)",
            "[![x](/a.png)](https://x.example/a.png)",
            "```\nMEDIA:https://x.example/a.png\n![x](https://x.example/a.png)\n```",
        ] {
            assert_eq!(urls(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn the_ending_is_of_the_path() {
        let of = |url: &str| media(&format!("MEDIA:{url}")).first().map(|(_, kind)| *kind);
        assert_eq!(of("https://x.png"), Some(SOME_FILE));
        assert_eq!(of("https://x.example/a?f=b.png"), Some(SOME_FILE));
        assert_eq!(of("https://x.example/a.pdf#p.png"), Some("application/pdf"));
        assert_eq!(of("https://x.example/a.b/c"), Some(SOME_FILE));
    }

    #[test]
    fn number_and_length_are_bounded() {
        let many: String = (0..50).map(|n| format!("MEDIA:https://x.example/{n}.png\n")).collect();
        assert_eq!(urls(&many).len(), MAX);
        assert_eq!(urls(&many)[MAX - 1], "https://x.example/15.png");
        let of = |bytes: usize| format!("https://x.example/{}", "a".repeat(bytes - 18));
        for (bytes, taken) in [(MAX_URL, 1), (MAX_URL + 1, 0)] {
            let url = of(bytes);
            assert_eq!(urls(&format!("MEDIA:{url}")).len(), taken);
            assert_eq!(urls(&format!("![]({url})")).len(), taken);
        }
    }

    #[test]
    fn half_a_megabyte_of_openings_is_read_once() {
        for piece in ["![", "](", "![](", "![](http://x(", "![ä](<", "MEDIA:"] {
            assert_eq!(urls(&piece.repeat(512 * 1024 / piece.len())).len(), 0, "{piece}");
        }
    }
}
