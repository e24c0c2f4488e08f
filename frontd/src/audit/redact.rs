//! A bounded glimpse of what a tool was called with, without the secrets that can be told by their
//! looks. Pure. It is a net with holes: whoever switches previews on must trust who reads them.

use std::sync::LazyLock;

use regex::{Captures, Regex};

const INSTEAD: &str = "[redacted]";
/// Bytes of the text that are looked at: previews are far shorter.
const LOOKED_AT: usize = 64 * 1024;
/// Words in a name that say that its value is secret.
const SECRET: &str = "token|api[_-]?key|access[_-]?key|private[_-]?key|key|passw(?:or)?d|passwd|passphrase|pwd|secret|authorization|cookie|credentials?|session[_-]?id";

/// A JSON string, and one within a JSON string.
const QUOTED: &str = r#""(?:[^"\\]|\\.)*"?"#;
const ESCAPED: &str = r#"\\"(?:[^"\\]|\\\\(?:\\.)?|\\[^"\\])*(?:\\")?"#;

/// What is replaced, one after the other; `$1` stays.
static RULES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // A header: up to the end of its line or quotes, for it may have several words.
        r#"((?:proxy-)?authorization|(?:set-)?cookie)\\?["']?\s*[:=]\s*[^"'\r\n]+"#.to_owned(),
        // name: value, name=value, "name": "value" with quotes that may be escaped.
        format!(
            r#"([a-z0-9_.-]*(?:{SECRET})[a-z0-9_.-]*\\?["']?\s*[:=]\s*)(?:{QUOTED}|{ESCAPED}|'[^']*'?|[^\s"',;&}}\]]+)"#
        ),
        // --password value
        format!(r#"(--?[a-z0-9-]*(?:{SECRET})[a-z0-9-]*\s+)(?:"[^"]*"?|'[^']*'?|[^\s"']+)"#),
        r"(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}".to_owned(),
        // Forms of well-known services, and our own.
        r"()\b(?:sk|pk|rk|syn|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abprs]|npm|pypi|hf)[-_][a-z0-9_-]{8,}"
            .to_owned(),
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{12,}".to_owned(),
        r"()\beyJ[a-z0-9_-]{10,}(?:\.[a-z0-9_-]+)*".to_owned(),
        // Somebody's password in an address.
        r"(://[^\s/:@]*:)[^\s/@]+(?:@)".to_owned(),
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?".to_owned(),
    ]
    .iter()
    .map(|rule| Regex::new(&format!("(?i){rule}")).expect("a rule of ours"))
    .collect()
});

/// Long runs of letters and digits, which are looked at one by one.
static RUNS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_=-]{32,}").expect("a rule of ours"));

/// At most `most` bytes of `text`, which is JSON or not.
pub fn preview(text: &str, most: usize) -> String {
    let cut = text.floor_char_boundary(LOOKED_AT.min(text.len()));
    let mut text = text.get(..cut).unwrap_or_default().to_owned();
    for rule in RULES.iter() {
        text = rule.replace_all(&text, |found: &Captures<'_>| kept(found)).into_owned();
    }
    text = RUNS
        .replace_all(&text, |found: &Captures<'_>| {
            let run = &found[0];
            if is_opaque(run) { INSTEAD.to_owned() } else { run.to_owned() }
        })
        .into_owned();
    if text.len() > most {
        // Half of the mark says nothing; a value is never cut before it is looked at.
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// The name stays, so that a reader sees what was there.
fn kept(found: &Captures<'_>) -> String {
    let name = found.get(1).map_or("", |name| name.as_str());
    // A header's rule keeps its name without the colon.
    let colon = if name.ends_with(|c: char| c.is_ascii_alphabetic()) { ": " } else { "" };
    format!("{name}{colon}{INSTEAD}")
}

/// Does it look drawn by lot? A path has short parts, a word no digits.
fn is_opaque(run: &str) -> bool {
    let longest = run.split('/').max_by_key(|part| part.len()).unwrap_or_default();
    let has = |which: fn(&u8) -> bool| longest.as_bytes().iter().any(which);
    let hex = longest.bytes().all(|byte| byte.is_ascii_hexdigit());
    longest.len() >= 24
        && has(u8::is_ascii_digit)
        && (hex || (has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for (text, secrets) in [
            (
                r#"{"command":"curl -H \"Authorization: Bearer abc.def-123\" https://a"}"#,
                vec!["abc.def"],
            ),
            (r#"{"command":"curl -H 'Cookie: a=b; c=topsecret' https://a"}"#, vec!["topsecret"]),
            (r#"{"api_key":"abcdef","note":"plain"}"#, vec!["abcdef"]),
            (r#"{"password":"with \"quotes\" inside"}"#, vec!["quotes", "inside"]),
            (
                r#"{"content":"{\"password\":\"with \\\"quotes\\\" inside\",\"a\":1}"}"#,
                vec!["quotes", "inside"],
            ),
            (r#"{"env":{"MY_TOKEN":"t0p","PATH":"/bin"}}"#, vec!["t0p"]),
            ("export DB_PASSWORD=hunter2 && run", vec!["hunter2"]),
            ("mysql --password hunter2 -u me", vec!["hunter2"]),
            ("tool --api-key=hunter2", vec!["hunter2"]),
            ("echo sk-ant-api03-abcdefgh12345678", vec!["abcdefgh"]),
            ("SK-PROJ-ABCDEFGH12345678", vec!["ABCDEFGH"]),
            ("echo syn-abcdefghijklmnopqrstuvwxyz234567", vec!["abcdefgh"]),
            ("ghp_abcdefghijklmnop1234", vec!["abcdefgh"]),
            ("AKIAIOSFODNN7EXAMPLE", vec!["IOSFODNN"]),
            ("git clone https://me:hunter2@example.org/x", vec!["hunter2"]),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", vec!["hbGci", "zdWIi", "c2ln"]),
            ("echo QWxhZGRpbjpvcGVuIHNlc2FtZTEyMzQ1Njc4OTA= | base64 -d", vec!["QWxhZGRp"]),
            ("5f4dcc3b5aa765d61d8327deb882cf99", vec!["5f4dcc3b"]),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----",
                vec!["b3BlbnNz"],
            ),
        ] {
            let shown = preview(text, 4096);
            for secret in secrets {
                assert!(!shown.contains(secret), "{text}\n  became\n{shown}");
            }
            assert!(shown.contains(INSTEAD), "{text}\n  became\n{shown}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        for text in [
            r#"{"file_path":"/home/alice/project/src/session/actor/effects_of_a_step.rs"}"#,
            r#"{"command":"cargo test --workspace --all-targets","description":"run the tests"}"#,
            "a very ordinary sentence about monkeys and donkeys",
            "https://example.org/a/b?page=2",
            "00000000-1111-2222",
        ] {
            assert_eq!(preview(text, 4096), text);
        }
        let named = preview(r#"{"token":"abc","path":"/tmp"}"#, 4096);
        assert_eq!(named, r#"{"token":[redacted],"path":"/tmp"}"#);
    }

    #[test]
    fn a_preview_is_bounded_and_cut_after_it_was_looked_at() {
        let text = format!("{} password=hunter2", "é".repeat(40));
        let shown = preview(&text, 90);
        assert!(shown.len() <= 90 + '…'.len_utf8() && !shown.contains("hunter"), "{shown}");
        let endless = "x ".repeat(1 << 20);
        assert_eq!(preview(&endless, 10), "x x x x x …");
        // A value that is longer than the preview is gone whole.
        assert!(!preview(&format!("key={}", "a".repeat(9000)), 64).contains("aa"));
    }
}
