//! What the CLI draws, as bytes: a line renderer that places words by column as the real one
//! does, the frame of a dialog, and the main screen. Pure.

use std::fmt::Write as _;

/// One line of a dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Words and `{…}` colour codes; each line of the text is wrapped when too long.
    Text(String),
    /// Bytes put at the indentation as they are.
    Raw(String),
}

/// A dialog with its options; the focused one carries the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialog {
    /// Colour of the rule above and of the title.
    pub(super) colour: u8,
    /// Blanks before every line.
    pub(super) indent: usize,
    pub(super) body: Vec<Line>,
    /// The options' texts in markup.
    pub(super) options: Vec<String>,
    /// Options are shown as `1.`, `2.`, …
    pub(super) numbered: bool,
    /// The markup of the line that names the keys.
    pub(super) footer: &'static str,
}

const SETUP: &str = "\x1b7\x1b[r\x1b8\x1b[?25h\x1b[?25l\x1b[?2004h\x1b[?2031h\x1b[?1004h";
/// The real CLI asks these of its terminal; nobody may answer.
const QUERIES: &str = "\x1b[>0q\x1b[?u\x1b]7501;?\x07\x1b[c";
const FOCUS: &str = "38;5;153";
const DIM: &str = "38;5;246";

impl Dialog {
    /// All bytes of the dialog on an empty normal screen, cursor left on the focused option.
    pub(super) fn draw(&self, columns: usize, focus: usize) -> String {
        let mut out = SETUP.to_owned();
        out.push_str("\r\n");
        let _ = write!(out, "\x1b[38;5;{}m{}\x1b[39m\r\n", self.colour, "─".repeat(columns));
        for line in self.lines(columns, focus) {
            match line {
                Line::Text(markup) => words(&mut out, &markup, self.indent),
                Line::Raw(bytes) => {
                    let _ = write!(out, "\x1b[{}G{bytes}", self.indent + 1);
                }
            }
            out.push_str("\r\n");
        }
        let _ = write!(out, "\x1b[{}C\x1b[{}A{QUERIES}", self.indent, self.below(focus));
        out
    }

    /// Takes the dialog off the screen again.
    pub(super) fn erase(&self, columns: usize, focus: usize) -> String {
        let mut out = "\x1b[>4m\x1b[<u\x1b[?1004l\x1b[?2031l\x1b[?2004l".to_owned();
        let _ = write!(out, "\x1b[{}D\x1b[{}B\x1b[2K", self.indent, self.below(focus));
        for _ in 0..self.lines(columns, focus).len() + 2 {
            out.push_str("\x1b[1A\x1b[2K");
        }
        out.push_str("\x1b[G");
        out
    }

    /// Lines from the focused option to the cursor's place after drawing.
    fn below(&self, focus: usize) -> usize {
        self.options.len() - focus + 2
    }

    fn lines(&self, columns: usize, focus: usize) -> Vec<Line> {
        let empty = || Line::Text(String::new());
        let mut lines = Vec::new();
        for line in &self.body {
            match line {
                Line::Text(markup) => {
                    let width = columns.saturating_sub(2 * self.indent);
                    let paragraph = markup.split('\n').flat_map(|part| wrap(part, width));
                    lines.extend(paragraph.map(Line::Text));
                }
                Line::Raw(bytes) => lines.push(Line::Raw(bytes.clone())),
            }
            lines.push(empty());
        }
        for (index, option) in self.options.iter().enumerate() {
            lines.push(Line::Text(self.option(index, option, index == focus)));
        }
        lines.push(empty());
        lines.push(Line::Text(self.footer.to_owned()));
        lines
    }

    fn option(&self, index: usize, text: &str, focused: bool) -> String {
        let number = index + 1;
        match (self.numbered, focused) {
            (true, true) => format!("{{{FOCUS}}}❯ {{{DIM}}}{number}. {{{FOCUS}}}{text}{{39}}"),
            (true, false) => format!("  {{{DIM}}}{number}. {{39}}{text}"),
            (false, true) => format!("{{{FOCUS}}}❯ {text}{{39}}"),
            (false, false) => format!("  {text}"),
        }
    }
}

/// Appends markup: each word is placed by its column, blanks are never written; `{n}` becomes an
/// SGR sequence where it stands.
fn words(out: &mut String, markup: &str, indent: usize) {
    let mut column = indent + 1;
    let mut placed = false;
    let mut rest = markup;
    while let Some(c) = rest.chars().next() {
        if c == ' ' {
            column += 1;
            placed = false;
            rest = &rest[1..];
            continue;
        }
        if let Some((code, after)) = sgr(rest) {
            // A code in front of a word stands behind the word's placing.
            if !placed && !after.is_empty() {
                let _ = write!(out, "\x1b[{column}G");
                placed = true;
            }
            let _ = write!(out, "\x1b[{code}m");
            rest = after;
            continue;
        }
        if !placed {
            let _ = write!(out, "\x1b[{column}G");
            placed = true;
        }
        out.push(c);
        column += 1;
        rest = &rest[c.len_utf8()..];
    }
}

/// A `{…}` code at the start of the text, and what follows it.
fn sgr(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('{')?.split_once('}')
}

/// Breaks a paragraph at blanks so that no line is wider than `width`; codes have no width.
fn wrap(markup: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in markup.split(' ') {
        let length = visible(word);
        let line = lines.last_mut().expect("begun with one line");
        if used > 0 && used + 1 + length > width {
            lines.push(word.to_owned());
            used = length;
        } else {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
    }
    lines
}

fn visible(mut text: &str) -> usize {
    let mut count = 0;
    while let Some(c) = text.chars().next() {
        match sgr(text) {
            Some((_, after)) => text = after,
            None => {
                count += 1;
                text = &text[c.len_utf8()..];
            }
        }
    }
    count
}

/// The screen of a claude that waits for a prompt, on the alternate screen.
pub(super) fn main_screen(rows: usize, columns: usize, mode: &str, notice: &str) -> String {
    let rule = "─".repeat(columns);
    let mut out =
        "\x1b[?2004h\x1b[?2031h\x1b[?1004h\x1b]0;✳ Claude Code\x07\x1b[?1049h\x1b[2J\x1b[H\
        \x1b[?25l\x1b[H\r\x1b[1B\x1b[38;5;174m ▐\x1b[48;5;16m▛███▛█\x1b[12G\x1b[39m\x1b[49m\
        \x1b[1mClaude Code\x1b[24G\x1b[22m\x1b[38;5;246mv2.1.329\x1b[39m\r\x1b[3B"
            .to_owned();
    let line = |out: &mut String, up: usize, text: &str| {
        let _ = write!(out, "\x1b[{};1H\x1b[K{text}", rows.saturating_sub(up).max(1));
    };
    line(&mut out, 4, notice);
    line(&mut out, 3, &format!("\x1b[38;5;244m{rule}"));
    line(&mut out, 2, "\x1b[39m❯\u{a0}");
    line(&mut out, 1, &format!("\x1b[38;5;244m{rule}"));
    line(&mut out, 0, &format!("\x1b[38;5;246m  ⏵⏵ {mode} on · ← for agents\x1b[39m"));
    out
}

/// A line of the conversation, above the prompt.
pub(super) fn note(rows: usize, text: &str) -> String {
    format!("\x1b[{};1H\x1b[K{text}\x1b[K", rows.saturating_sub(6).max(1))
}

/// What the CLI leaves when it goes.
pub(super) const FAREWELL: &str = "\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?25h\x1b[?1004l\
    \x1b[<u\x1b[?1049l\x1b[>4m\x1b[?2031l\x1b[?2004l\x1b]0;\x07";
