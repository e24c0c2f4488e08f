//! What is on a session's screen: foreign bytes in, rows of text out. Memory is bounded by the
//! size alone: no scrollback, and the parser (vte without `std`) keeps at most 1 KiB of an escape
//! sequence. Never answers a terminal query: there is no way from here back to the terminal.

use std::panic::AssertUnwindSafe;

use proto::spawn::TerminalSize;

/// Characters of a quoted screen: enough for a dialog, little enough for an error message.
const QUOTE: usize = 2000;

pub struct Screen {
    size: TerminalSize,
    parser: vt100::Parser,
    /// The first bytes of a character whose rest was not read yet, at most three.
    split: Vec<u8>,
}

impl Screen {
    pub fn new(size: TerminalSize) -> Self {
        Self { size, parser: parser(size), split: Vec::new() }
    }

    /// Draws what the session wrote. A character or sequence may be split anywhere between calls.
    pub fn feed(&mut self, bytes: &[u8]) {
        // vte 0.15 puts split characters together too, but then loses the one after.
        if self.split.is_empty() {
            self.feed_joined(bytes);
        } else {
            let mut joined = std::mem::take(&mut self.split);
            joined.extend_from_slice(bytes);
            self.feed_joined(&joined);
        }
    }

    fn feed_joined(&mut self, bytes: &[u8]) {
        let (whole, split) = bytes.split_at_checked(whole_len(bytes)).unwrap_or((bytes, &[]));
        self.split.extend_from_slice(split);
        // The bytes are hostile and the parser is not ours: a panic in it must cost this screen's
        // contents and not the task that keeps the terminal drained.
        let drawn = std::panic::catch_unwind(AssertUnwindSafe(|| self.parser.process(whole)));
        if drawn.is_err() {
            self.parser = parser(self.size);
        }
    }

    /// Every row from the top, without trailing blanks.
    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.parser.screen().rows(0, self.size.columns()).collect();
        for row in &mut rows {
            row.truncate(row.trim_end().len());
        }
        rows
    }

    /// The rows as lines, as they are: not for people's eyes, see [`quote`](Self::quote).
    pub fn text(&self) -> String {
        self.rows().join("\n")
    }

    /// Is the alternate screen shown? claude draws its start-up questions on the primary one and
    /// conversations on the other.
    pub fn is_alternate(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    pub fn columns(&self) -> usize {
        usize::from(self.size.columns())
    }

    /// The screen for an error message: what could act on a reader's terminal or turn its text
    /// around is escaped, API keys are masked (the CLI shows the end of one), blank rows are
    /// folded, and at most 2,000 characters are kept.
    pub fn quote(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for row in self.rows() {
            let blank = row.is_empty();
            if blank && lines.last().is_none_or(String::is_empty) {
                continue;
            }
            lines.push(escape(&mask_keys(&row)));
        }
        let quoted = lines.join("\n");
        let quoted = quoted.trim_end();
        match quoted.char_indices().nth(QUOTE) {
            // One character makes room for the mark.
            Some(_) => quoted.chars().take(QUOTE - 1).chain(['…']).collect(),
            None => quoted.to_owned(),
        }
    }
}

fn parser(size: TerminalSize) -> vt100::Parser {
    let side = |cells| std::num::NonZeroU16::new(cells).expect("a terminal has at least 10");
    vt100::Parser::new(side(size.rows()), side(size.columns()), 0)
}

/// How many bytes there are before a character that is cut off by the end.
fn whole_len(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    (start..bytes.len())
        .find(|&at| {
            let tail = bytes.get(at..).unwrap_or_default();
            std::str::from_utf8(tail)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(bytes.len())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Controls, line separators, and characters that are invisible or change the direction of text.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `sk-ant-...` up to the end of the word, masked.
fn mask_keys(row: &str) -> String {
    const KEY: &str = "sk-ant-";
    let mut masked = String::with_capacity(row.len());
    let mut rest = row;
    while let Some((before, key)) = rest.split_once(KEY) {
        let end = key.find(|c: char| c.is_whitespace() || "\"'`),;".contains(c));
        masked.push_str(before);
        masked.push_str(KEY);
        masked.push_str("***");
        rest = end.and_then(|end| key.get(end..)).unwrap_or_default();
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(rows: u16, columns: u16) -> Screen {
        Screen::new(TerminalSize::new(rows, columns).unwrap())
    }

    fn drawn(bytes: impl AsRef<[u8]>) -> Screen {
        let mut screen = screen(10, 40);
        screen.feed(bytes.as_ref());
        screen
    }

    #[test]
    fn utf_8_split_across_reads_is_whole() {
        let text = "ä€😀 e\u{301} ❯ 終わり";
        let whole = drawn(text).rows();
        assert_eq!(whole[0], text);
        for split in 0..=text.len() {
            for second in split..=text.len() {
                let mut screen = screen(10, 40);
                screen.feed(&text.as_bytes()[..split]);
                screen.feed(&text.as_bytes()[split..second]);
                screen.feed(&text.as_bytes()[second..]);
                assert_eq!(screen.rows(), whole, "split at {split} and {second}");
            }
        }
        let mut screen = screen(10, 40);
        text.bytes().for_each(|byte| screen.feed(&[byte]));
        assert_eq!(screen.rows(), whole);
    }

    #[test]
    fn escape_sequences_split_across_reads_are_whole() {
        let bytes = b"\x1b[2;3H\x1b[38;5;211mred\x1b[0m\x1b]0;title\x07 end";
        let whole = drawn(bytes).rows();
        assert_eq!(whole[1], "  red end");
        for split in 0..bytes.len() {
            let mut screen = drawn(&bytes[..split]);
            screen.feed(&bytes[split..]);
            assert_eq!(screen.rows(), whole, "split at {split}");
        }
    }

    #[test]
    fn invalid_bytes_do_no_harm_to_what_follows() {
        for bad in
            [&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80"]
        {
            let screen = drawn([b"a", bad, b"b"].concat());
            let row = screen.rows().swap_remove(0);
            assert!(row.starts_with('a') && row.ends_with('b'), "{bad:?}: {row:?}");
            let mut split = drawn([b"a", bad].concat());
            split.feed(b"b");
            assert_eq!(split.rows()[0], row, "{bad:?} at the end of a read");
        }
    }

    #[test]
    fn an_endless_sequence_is_neither_kept_nor_drawn() {
        for start in ["\x1b]0;", "\x1bP", "\x1b[", "\x1b_", "\x1b]52;c;"] {
            let mut screen = drawn(start);
            let junk = vec![b'1'; 64 << 10];
            for _ in 0..4 {
                screen.feed(&junk);
            }
            screen.feed(b"\x18\x1b\\\x1b[2J\x1b[Hafter");
            assert_eq!(screen.rows()[0], "after", "{start:?}");
        }
    }

    #[test]
    fn hostile_sequences_leave_a_screen_of_the_same_size() {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let pieces: [&[u8]; 24] = [
            b"\x1b[",
            b"\x1b]",
            b"\x1bP",
            b"\x1b7",
            b"\x1b8",
            b"\x1bc",
            b"\x1bM",
            b"65535",
            b"0",
            b";",
            b"?1049h",
            b"?1049l",
            b"H",
            b"L",
            b"@",
            b"b",
            b"5;2r",
            b"X",
            b"S",
            b"\n",
            "終".as_bytes(),
            "e\u{301}".as_bytes(),
            "\u{fe0f}".as_bytes(),
            b"\x1b[8;1;1t",
        ];
        for (rows, columns) in [(10, 10), (10, 11), (40, 120)] {
            let mut screen = screen(rows, columns);
            for _ in 0..40_000 {
                let number = random();
                match number % 5 {
                    0 => screen.feed(&[number.to_le_bytes()[3]]),
                    _ => screen.feed(pieces[usize::from(number.to_le_bytes()[4]) % pieces.len()]),
                }
            }
            let rows_now = screen.rows();
            assert_eq!(rows_now.len(), usize::from(rows));
            let widest = rows_now.iter().map(|row| row.chars().count()).max().unwrap();
            // A cell holds at most 22 bytes of one character and its marks.
            assert!(widest <= usize::from(columns) * 22);
            assert!(screen.quote().chars().count() <= QUOTE);
        }
    }

    #[test]
    fn a_quote_is_trimmed_and_folded() {
        let screen = drawn("\r\n\r\n one   \r\n\r\n\r\n two\r\n");
        assert_eq!(screen.quote(), " one\n\n two");
        assert_eq!(drawn("").quote(), "");
    }

    #[test]
    fn a_quote_cannot_act_on_its_reader() {
        let screen = drawn("evil\u{202e}txt\u{2066}\u{9b}31m\u{200b}\u{7f}\x1b]0;x\x07");
        let quoted = screen.quote();
        assert!(quoted.starts_with("evil\\u{202e}txt"), "{quoted:?}");
        assert!(quoted.chars().all(|c| !is_unseen(c)), "{quoted:?}");
        for c in ['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}', '\u{2069}', '\u{feff}', '\u{e0041}'] {
            assert!(escape(&c.to_string()).starts_with("\\u{"), "{c:?}");
        }
        assert_eq!(escape("ä 終 ❯ ─ \\u"), "ä 終 ❯ ─ \\u");
    }

    #[test]
    fn a_quote_is_bounded_in_characters() {
        let mut screen = screen(100, 100);
        screen.feed("é".repeat(100 * 100).as_bytes());
        let quoted = screen.quote();
        assert_eq!(quoted.chars().count(), QUOTE);
        assert!(quoted.ends_with('…'));
    }

    #[test]
    fn a_quote_shows_no_end_of_an_api_key() {
        let screen = drawn("KEY: sk-ant-...abcdef ok \"sk-ant-x\" z");
        assert_eq!(screen.quote(), "KEY: sk-ant-*** ok \"sk-ant-***\" z");
    }
}
