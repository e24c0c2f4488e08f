//! The dialogs of the CLI's start as data, and what an answer means. Pure; [`super::boot`]
//! draws them and reads the keys.

use super::conf::DialogName;
use super::screen::{Dialog, Line};

/// A dialog, its default option, and what each choice does.
pub(super) struct Asked {
    pub(super) dialog: Dialog,
    pub(super) focus: usize,
    /// One per option.
    pub(super) choices: Vec<Choice>,
    /// Exit status of Esc.
    pub(super) escape: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    GoOn,
    Exit(i32),
}

const RED: u8 = 211;
const YELLOW: u8 = 220;
const FOOTER: &str = "{38;5;246}{3}Enter to confirm · Esc to cancel{23}{39}";
const PLAIN_FOOTER: &str = "{38;5;246}Enter to confirm · Esc to cancel{39}";
const SECURITY: &str = "https://code.claude.com/docs/en/security";

pub(super) fn development_channels(channels: &[String]) -> Asked {
    let body = vec![
        title(RED, "WARNING: Loading development channels"),
        text(
            "--dangerously-load-development-channels is for local channel development only. Do \
             not use this option to run channels you have downloaded off the internet.",
        ),
        text("Please use --channels to run a list of approved channels."),
        text(&format!("{{38;5;246}}Channels: {}{{39}}", channels.join(", "))),
    ];
    let options = ["I am using this for local development", "Exit"];
    Asked {
        dialog: dialog(RED, 2, body, &options, true, FOOTER),
        focus: 0,
        choices: vec![Choice::GoOn, Choice::Exit(1)],
        escape: 0,
    }
}

pub(super) fn named(name: DialogName, cwd: &str, key: &str) -> Asked {
    match name {
        DialogName::Trust => trust(cwd),
        DialogName::ApiKey => api_key(key),
        DialogName::Bypass => bypass(),
        DialogName::Unknown => unknown(),
    }
}

fn trust(cwd: &str) -> Asked {
    let link =
        format!("\x1b]8;id=zaxmda;{SECURITY}\x07\x1b[38;5;246mSecurity guide\x1b[39m\x1b]8;;\x07");
    let body = vec![
        title(YELLOW, "Accessing workspace:"),
        text(&format!("{{1}}{cwd}{{22}}")),
        text(
            "Quick safety check: Is this a project you created or one you trust? (Like your own \
             code, a well-known open source project, or work from your team). If not, take a \
             moment to review what's in this folder first.",
        ),
        text("Claude Code'll be able to read, edit, and execute files here."),
        Line::Raw(link),
    ];
    let options = ["No, exit", "Yes, I trust this folder"];
    refusing(dialog(YELLOW, 1, body, &options, false, PLAIN_FOOTER))
}

fn bypass() -> Asked {
    let body = vec![
        title(RED, "WARNING: Claude Code running in Bypass Permissions mode"),
        text(
            "In Bypass Permissions mode, Claude Code will not ask for your approval before \
             running potentially dangerous commands.\nThis mode should only be used in a \
             sandboxed container/VM that has restricted internet access and can easily be \
             restored if damaged.",
        ),
        text(
            "By proceeding, you accept all responsibility for actions taken while running in \
             Bypass Permissions mode.",
        ),
        Line::Raw(format!("\x1b]8;id=zaxmda;{SECURITY}\x07{SECURITY}\x1b]8;;\x07")),
    ];
    refusing(dialog(RED, 2, body, &["No, exit", "Yes, I accept"], false, FOOTER))
}

fn api_key(key: &str) -> Asked {
    let characters: Vec<char> = key.chars().collect();
    let tail: String = characters[characters.len().saturating_sub(20)..].iter().collect();
    let body = vec![
        title(YELLOW, "Detected a custom API key in your environment"),
        text(&format!("{{1}}ANTHROPIC_API_KEY{{22}}: sk-ant-...{tail}")),
        text("Do you want to use this API key?"),
    ];
    let options = ["Yes", "No ({1}recommended{22})"];
    Asked {
        dialog: dialog(YELLOW, 2, body, &options, false, FOOTER),
        focus: 1,
        choices: vec![Choice::GoOn, Choice::GoOn],
        escape: 0,
    }
}

/// Nothing the CLI ever drew: a blind Enter would accept it.
fn unknown() -> Asked {
    let body = vec![
        title(RED, "Upload every file of this folder to a public place?"),
        text("This question is new. Nobody has read it yet."),
    ];
    Asked {
        dialog: dialog(RED, 2, body, &["Yes, upload", "No"], true, FOOTER),
        focus: 0,
        choices: vec![Choice::GoOn, Choice::Exit(1)],
        escape: 1,
    }
}

fn refusing(dialog: Dialog) -> Asked {
    Asked { dialog, focus: 0, choices: vec![Choice::Exit(1), Choice::GoOn], escape: 1 }
}

fn dialog(
    colour: u8,
    indent: usize,
    body: Vec<Line>,
    options: &[&str],
    numbered: bool,
    footer: &'static str,
) -> Dialog {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    Dialog { colour, indent, body, options, numbered, footer }
}

fn title(colour: u8, words: &str) -> Line {
    Line::Text(format!("{{38;5;{colour}}}{{1}}{words}{{22}}{{39}}"))
}

fn text(words: &str) -> Line {
    Line::Text(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The terminal adds a carriage return to each line feed.
    fn as_captured(drawn: &str) -> Vec<u8> {
        drawn.replace("\r\n", "\r\r\n").into_bytes()
    }

    fn same(asked: &Asked, columns: usize, captured: &[u8]) {
        let drawn = as_captured(&asked.dialog.draw(columns, asked.focus));
        assert_eq!(
            String::from_utf8_lossy(&drawn).escape_debug().to_string(),
            String::from_utf8_lossy(captured).escape_debug().to_string()
        );
    }

    macro_rules! captured {
        ($name:literal) => {
            include_bytes!(concat!("../../fixtures/screens/", $name, ".raw"))
        };
    }

    #[test]
    fn dialogs_are_drawn_byte_for_byte_like_the_real_ones() {
        let channels = ["server:synthesis".to_owned()];
        same(&development_channels(&channels), 80, captured!("dev-channels-80x24"));
        same(&development_channels(&channels), 120, captured!("dev-channels-120x40"));
        let key = "sk-ant-offline-0000000000000000000000000000";
        let drawn = |name| named(name, "/srv/demo", key);
        same(&drawn(DialogName::ApiKey), 80, captured!("custom-api-key-80x24"));
        same(&drawn(DialogName::ApiKey), 120, captured!("custom-api-key-120x40"));
        same(&drawn(DialogName::Trust), 80, captured!("trust-80x24"));
        same(&drawn(DialogName::Trust), 120, captured!("trust-120x40"));
        same(&drawn(DialogName::Bypass), 80, captured!("bypass-80x24"));
        same(&drawn(DialogName::Bypass), 120, captured!("bypass-120x40"));
    }
}
