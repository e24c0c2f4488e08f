//! Answers as a person or a program reads them. Pure. What others chose (keys, paths, names, errors)
//! is escaped: nothing of it moves a cursor or looks like something else.

use std::fmt::Write as _;

use serde_json::Value;

/// A text on one line: letters, digits and what is printable ASCII as they are, the rest as `\u{…}`.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ' ' || (c.is_ascii_graphic() && c != '\\') || (!c.is_ascii() && c.is_alphanumeric())
        {
            plain.push(c);
        } else {
            plain.extend(c.escape_default());
        }
    }
    plain
}

/// JSON on one line, in ASCII: what it means stays.
pub(super) fn json(value: &Value) -> String {
    let mut ascii = String::new();
    // Beyond ASCII, and DEL, there are only characters of strings.
    for c in value.to_string().chars() {
        if c.is_ascii() && c != '\u{7f}' {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii.push('\n');
    ascii
}

/// `now` is in seconds since 1970.
pub(super) fn status(answer: &Value, now: u64) -> String {
    let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let truth = |pointer: &str| answer.pointer(pointer).and_then(Value::as_bool);
    let text =
        |pointer: &str| plain(answer.pointer(pointer).and_then(Value::as_str).unwrap_or("?"));
    let spawnd = if truth("/spawnd") == Some(true) { "connected" } else { "away" };
    let failing = if truth("/store/failing") == Some(true) { ", takes nothing" } else { "" };
    let read = ago(number("/configuration/read_at"), now);
    let configuration = match answer.pointer("/configuration/error").and_then(Value::as_str) {
        None => format!("read {read} ago"),
        Some(error) => format!("refused {read} ago: {}", plain(error)),
    };
    let rows = [
        ("version", text("/version")),
        ("up for", span(number("/uptime_seconds"))),
        ("spawnd", spawnd.to_owned()),
        (
            "processes",
            format!(
                "{} of {}, {} waited for",
                number("/processes/in_use"),
                number("/processes/size"),
                number("/processes/waiting_for")
            ),
        ),
        (
            "sessions",
            format!(
                "{} ready, {} busy, {} waiting, {} stored",
                number("/sessions/ready"),
                number("/sessions/busy"),
                number("/sessions/waiting"),
                number("/sessions/stored")
            ),
        ),
        (
            "runs",
            format!("{} open, {} of them waiting", number("/runs/open"), number("/runs/waiting")),
        ),
        ("principals", number("/principals").to_string()),
        ("store", format!("{}{failing}", size(number("/store/bytes")))),
        ("configuration", configuration),
    ];
    rows.iter().fold(String::new(), |mut out, (name, value)| {
        let _ = writeln!(out, "{name:<14}{value}");
        out
    })
}

/// A table with a line for each session.
pub(super) fn sessions(sessions: &[Value], now: u64) -> String {
    const HEADS: [&str; 7] =
        ["KEY", "STATE", "PRINCIPAL", "USER", "RUNS", "LAST USED", "WORKSPACE"];
    let text = |session: &Value, name: &str| plain(session[name].as_str().unwrap_or("-"));
    let row = |session: &Value| {
        [
            text(session, "key"),
            text(session, "state"),
            text(session, "principal"),
            text(session, "user"),
            session["runs_open"].as_u64().unwrap_or(0).to_string(),
            ago(session["last_used_at"].as_u64().unwrap_or(0), now),
            text(session, "workspace"),
        ]
    };
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(sessions.iter().map(row));
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    rows.iter().fold(String::new(), |mut out, row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
        out
    })
}

fn ago(then: u64, now: u64) -> String {
    span(now.saturating_sub(then))
}

/// The greatest unit that says it, and the next.
fn span(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        ..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FOREIGN: &str = "a\u{1b}[2J\u{9b}31m\r\n\t\\\u{202e}\u{7f}é\u{301}";

    fn harmless(text: &str) -> bool {
        text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric())
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_sent() {
        assert_eq!(plain("5:local,7:session,4:m%3F,"), "5:local,7:session,4:m%3F,");
        assert_eq!(plain("/srv/Käse und 終"), "/srv/Käse und 終");
        assert_eq!(plain(FOREIGN), r"a\u{1b}[2J\u{9b}31m\r\n\t\\\u{202e}\u{7f}é\u{301}");
    }

    #[test]
    fn json_is_ascii_and_means_the_same() {
        let value = json!({ "key": FOREIGN, "😀": [1, null] });
        let text = json(&value);
        assert!(text.trim_end().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn tables_are_plain_whatever_the_server_says() {
        let session = json!({
            "key": FOREIGN, "state": "ready", "principal": "al", "user": null, "runs_open": 2,
            "last_used_at": 1000, "workspace": FOREIGN,
        });
        let table = sessions(&[session, json!("nonsense"), json!({ "key": 5 })], 4700);
        assert!(harmless(&table), "{table:?}");
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("1 h 1 min") && table.starts_with("KEY "), "{table}");
        let said = json!({ "version": FOREIGN, "configuration": { "error": FOREIGN } });
        for answer in [said, json!(null), json!([1])] {
            let text = status(&answer, 0);
            assert!(harmless(&text), "{text:?}");
            assert_eq!(text.lines().count(), 9);
        }
    }
}
