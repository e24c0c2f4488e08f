//! The start-up dialogs as data, and the decision about a screen: press these keys, or a person
//! is needed, or nothing. Pure. Called after each read until the channel is registered, never
//! after.
//!
//! A dialog is answered only when the whole of it stands where the CLI draws it: a rule across
//! the first row, the title below it, the options at their places with the marker on the expected
//! one, the footer as the last row of the screen. Text of a model, a file or a folder's name may
//! repeat all of that, but not in the place of the frame: the CLI always draws its own rows around
//! what is foreign. Each keystroke is given at most once per process.
//!
//! A screen is looked at between two reads, so it may be half drawn. Half of a known dialog is
//! [`Look::Nothing`]. [`Look::Unknown`] may be half of anything: the caller believes it only when
//! the screen has been still for a while.

use super::screen::Screen;

/// The CLI's mark before the chosen option, with its blank.
const MARKER: &str = "❯ ";
const FOOTER: &str = "Enter to confirm · Esc to cancel";

/// What the CLI prints above its first dialog after a start that was cut off (a SIGKILL, say), once
/// and once too often: two rows, in its own words. Nothing else may stand above a dialog that is
/// answered.
const NOTICES: [[&str; 2]; 2] = [
    [
        "Claude Code's fullscreen renderer didn't finish starting last time on this machine",
        "renderer. It will try fullscreen again next launch",
    ],
    // Cut at the terminal's edge, in the midst of a word.
    [
        "Claude Code's fullscreen renderer has repeatedly failed to start on this machine",
        "ui fullscreen to try it again (this also resets after an update).",
    ],
];

const ENTER: &[u8] = b"\r";
const UP: &[u8] = b"\x1b[A";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogKind {
    DevelopmentChannels,
    CustomApiKey,
}

/// One dialog that may be answered.
struct Dialog {
    kind: DialogKind,
    title: &'static str,
    /// Rows that must stand between title and options. A different one means a different question.
    body: &'static [&'static str],
    /// In their order, all of them.
    options: &'static [&'static str],
    allowed: Allowed,
    /// In their order; a later one rules out the earlier.
    steps: &'static [Step],
}

enum Allowed {
    Always,
    /// The key came from the operator's policy, so the operator has answered already.
    IfPolicySetKey,
}

/// With the marker on option `marked`, press `keys`.
struct Step {
    marked: usize,
    keys: &'static [u8],
}

const KNOWN: [Dialog; 2] = [
    Dialog {
        kind: DialogKind::DevelopmentChannels,
        title: "WARNING: Loading development channels",
        // Ours and no other channel.
        body: &["Channels: server:synthesis"],
        options: &["1. I am using this for local development", "2. Exit"],
        allowed: Allowed::Always,
        steps: &[Step { marked: 0, keys: ENTER }],
    },
    Dialog {
        kind: DialogKind::CustomApiKey,
        title: "Detected a custom API key in your environment",
        body: &["Do you want to use this API key?"],
        options: &["Yes", "No (recommended)"],
        allowed: Allowed::IfPolicySetKey,
        steps: &[Step { marked: 1, keys: UP }, Step { marked: 0, keys: ENTER }],
    },
];

/// What to do about a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Nothing,
    /// Type `keys`, now and once.
    Press {
        kind: DialogKind,
        keys: &'static [u8],
    },
    /// If the screen stays so, somebody is asked something that is not ours to answer.
    Unknown {
        quoted: String,
    },
}

/// What was pressed already, for one process.
#[derive(Debug, Default)]
pub struct Dialogs {
    /// For each of `KNOWN`, how many steps are used up.
    used: [usize; KNOWN.len()],
}

impl Dialogs {
    /// Judges the screen. A returned `Press` counts as pressed.
    pub fn look(&mut self, screen: &Screen, policy_set_key: bool) -> Look {
        let rows = screen.rows();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        if has_input_box(&rows, screen.columns()) {
            return Look::Nothing;
        }
        let unknown = || Look::Unknown { quoted: screen.quote() };
        let top = Top::of(&rows, screen.columns());
        let frame = top.as_ref().and_then(Top::frame);
        let title = top.map(|top| top.title);
        let known =
            KNOWN.iter().zip(&mut self.used).find(|(dialog, _)| Some(dialog.title) == title);
        let Some((dialog, used)) = known else {
            // While a resumed conversation is being drawn, its text may have any shape.
            let asks = !screen.is_alternate() && asks_something(&rows);
            return if frame.is_some() || asks { unknown() } else { Look::Nothing };
        };
        let Some(frame) = frame else { return Look::Nothing };
        let allowed = match dialog.allowed {
            Allowed::Always => true,
            Allowed::IfPolicySetKey => policy_set_key,
        };
        match dialog.compare(&frame) {
            Match::Marked(option) if allowed => dialog.next(option, used),
            Match::Redrawing => Look::Nothing,
            Match::Marked(_) | Match::Differs => unknown(),
        }
    }
}

impl Dialog {
    fn compare(&self, frame: &Frame<'_>) -> Match {
        let body = self.body.iter().all(|row| frame.body.contains(row));
        let texts = frame.options.iter().map(|option| option.text);
        if !body || !texts.eq(self.options.iter().copied()) {
            return Match::Differs;
        }
        let mut marked = frame.options.iter().enumerate().filter(|(_, option)| option.marked);
        match (marked.next(), marked.next()) {
            (Some((index, _)), None) => Match::Marked(index),
            (Some(_), Some(_)) | (None, _) => Match::Redrawing,
        }
    }

    /// The first unused step for this marker. None left: the CLI has not drawn our answer yet.
    fn next(&self, marked: usize, used: &mut usize) -> Look {
        let steps = self.steps.iter().enumerate().skip(*used);
        match steps.into_iter().find(|(_, step)| step.marked == marked) {
            Some((index, step)) => {
                *used = index + 1;
                Look::Press { kind: self.kind, keys: step.keys }
            }
            None => Look::Nothing,
        }
    }
}

/// How a frame with a known title compares with the dialog of that title.
enum Match {
    /// The marker stands on this option.
    Marked(usize),
    /// The marker is on its way.
    Redrawing,
    /// Another question under the same title.
    Differs,
}

/// A dialog from its title on.
struct Top<'a> {
    title: &'a str,
    /// The rows below the title, blank ones at the end left out.
    below: &'a [&'a str],
}

impl<'a> Top<'a> {
    /// When the first row that is not blank, the notice left out, is a rule across the screen.
    fn of(rows: &'a [&'a str], columns: usize) -> Option<Self> {
        let rows = without_notice(rows);
        let first = rows.iter().position(|row| !row.is_empty())?;
        let last = rows.iter().rposition(|row| !row.is_empty())?;
        match rows.get(first..=last)? {
            [rule, title, below @ ..] if is_rule(rule, columns) => {
                Some(Self { title: title.trim_start(), below })
            }
            _ => None,
        }
    }

    /// `None` while the footer is missing, which the CLI draws last.
    fn frame(&self) -> Option<Frame<'a>> {
        let [above @ .., blank, footer] = self.below else { return None };
        if footer.trim_start() != FOOTER || !blank.is_empty() {
            return None;
        }
        let start = above.iter().rposition(|row| row.is_empty()).map_or(0, |blank| blank + 1);
        let (body, options) = above.split_at_checked(start)?;
        let body = body.iter().map(|row| row.trim_start()).collect();
        let options = options.iter().map(|row| ChoiceRow::of(row)).collect::<Option<Vec<_>>>()?;
        let column = options.first().map(|option| option.column)?;
        let aligned = options.iter().all(|option| option.column == column);
        aligned.then_some(Frame { body, options })
    }
}

/// A whole dialog, drawn to its footer.
struct Frame<'a> {
    body: Vec<&'a str>,
    options: Vec<ChoiceRow<'a>>,
}

struct ChoiceRow<'a> {
    text: &'a str,
    /// Of the text's first character, the marker not counted.
    column: usize,
    marked: bool,
}

impl<'a> ChoiceRow<'a> {
    fn of(row: &'a str) -> Option<Self> {
        let text = row.trim_start();
        let column = row.len() - text.len();
        match text.strip_prefix(MARKER) {
            Some(choice) => {
                let text = choice.trim_start();
                let gap = MARKER.chars().count() + choice.len() - text.len();
                Some(Self { text, column: column + gap, marked: true })
            }
            None => (!text.is_empty()).then_some(Self { text, column, marked: false }),
        }
    }
}

fn without_notice<'a>(rows: &'a [&'a str]) -> &'a [&'a str] {
    let [one, two, rest @ ..] = rows else { return rows };
    let noticed = |[first, second]: &[&str; 2]| one.starts_with(first) && two.starts_with(second);
    if NOTICES.iter().any(noticed) { rest } else { rows }
}

/// The rows of claude's prompt, which no dialog has: a rule, the marker alone at the left, a rule.
/// Whatever else is on the screen then is a conversation.
fn has_input_box(rows: &[&str], columns: usize) -> bool {
    rows.windows(3).any(|three| match three {
        [above, prompt, below] => {
            is_rule(above, columns) && prompt.starts_with('❯') && is_rule(below, columns)
        }
        _ => false,
    })
}

fn is_rule(row: &str, columns: usize) -> bool {
    row.chars().count() == columns && row.chars().all(|c| c == '─')
}

/// The shape of a question: a hint about keys at the bottom, or a marked choice beside another.
fn asks_something(rows: &[&str]) -> bool {
    let hints = ["Enter to ", "Esc to "];
    let last = rows.iter().rfind(|row| !row.is_empty());
    let hinted = last.is_some_and(|row| hints.iter().any(|hint| row.contains(hint)));
    let choices = |pair: &[&str]| match pair {
        [one, two] => match (ChoiceRow::of(one), ChoiceRow::of(two)) {
            (Some(one), Some(two)) => one.marked != two.marked && one.column == two.column,
            (Some(_) | None, _) => false,
        },
        _ => false,
    };
    hinted || rows.windows(2).any(choices)
}

#[cfg(test)]
mod tests;
