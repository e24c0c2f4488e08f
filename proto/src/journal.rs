//! A record for the audit log: its fields, and their two forms (systemd's native journal protocol,
//! one line of JSON). Both daemons write theirs so.

/// Longer values are cut: a path of 4,096 bytes, each escaped, would otherwise be the largest.
pub const LONGEST: usize = 8192;

/// A name of ours and its value, which holds no line feed ([`escaped`], or our own words).
pub type Field = (&'static str, String);

/// What may come from outside: control characters, escape sequences and the invisible are escaped,
/// the too long is cut.
pub fn escaped(value: impl std::fmt::Display) -> String {
    let value = value.to_string();
    // As Rust writes a string literal, but for quotes, which harm nobody.
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\'' => escaped.push(c),
            other => escaped.extend(other.escape_debug()),
        }
        if escaped.len() > LONGEST {
            escaped.truncate(escaped.floor_char_boundary(LONGEST));
            escaped.push('…');
            break;
        }
    }
    escaped
}

/// systemd's native journal protocol: one datagram.
pub fn native(fields: &[Field]) -> Vec<u8> {
    let lines = fields.iter().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect::<String>().into_bytes()
}

/// One line of JSON with the same names, and the time (microseconds since 1970), which the journal
/// adds by itself.
pub fn json_line(fields: &[Field], micros: u128) -> Vec<u8> {
    let mut object: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    object.insert("__REALTIME_TIMESTAMP".to_owned(), micros.to_string().into());
    let mut line = serde_json::Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_add_a_field_or_a_line() {
        let hostile = "x\nSYNTHESIS_USER=root\n\x1b[2J\u{202e}\0\u{85}é\"";
        let fields = [("MESSAGE", "m".to_owned()), ("SYNTHESIS_REASON", escaped(hostile))];
        let journal = String::from_utf8(native(&fields)).unwrap();
        assert_eq!(journal.lines().count(), 2);
        assert!(!journal.contains('\u{1b}') && !journal.contains('\u{202e}'));
        assert!(journal.contains(r"SYNTHESIS_REASON=x\nSYNTHESIS_USER=root\n\u{1b}[2J"));
        assert!(journal.contains('é'));
        let line = json_line(&fields, 7);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert!(json.get("SYNTHESIS_USER").is_none());
        assert_eq!(json["__REALTIME_TIMESTAMP"], "7");
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    }

    #[test]
    fn an_endless_value_is_cut_and_one_that_fits_is_not() {
        let cut = escaped("\u{1b}".repeat(1 << 20));
        assert!(cut.len() <= LONGEST + '…'.len_utf8() && cut.ends_with('…'));
        assert_eq!(escaped("a".repeat(LONGEST)).len(), LONGEST);
        assert!(escaped("é".repeat(LONGEST)).ends_with("é…"));
    }
}
