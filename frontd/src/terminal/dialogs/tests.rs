//! Against what the real CLI drew; `tests/data/screens/README.md` says how it was taken.

use proto::spawn::TerminalSize;

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/screens/", $name, ".raw"))
    };
}

const CHANNELS: Look = Look::Press { kind: DialogKind::DevelopmentChannels, keys: ENTER };
const KEY_UP: Look = Look::Press { kind: DialogKind::CustomApiKey, keys: UP };
const KEY_ENTER: Look = Look::Press { kind: DialogKind::CustomApiKey, keys: ENTER };

fn screen(rows: u16, columns: u16) -> Screen {
    Screen::new(TerminalSize::new(rows, columns).unwrap())
}

/// Every look that is not `Nothing`, over the recording fed byte by byte. Runs of `Unknown` count
/// once.
fn looks(recording: &[u8], mut screen: Screen, policy_set_key: bool) -> Vec<Look> {
    let mut dialogs = Dialogs::default();
    let mut found: Vec<Look> = Vec::new();
    for byte in recording {
        screen.feed(&[*byte]);
        match dialogs.look(&screen, policy_set_key) {
            Look::Nothing => {}
            Look::Unknown { quoted } => match found.last_mut() {
                Some(Look::Unknown { quoted: before }) => *before = quoted,
                Some(Look::Press { .. } | Look::Nothing) | None => {
                    found.push(Look::Unknown { quoted });
                }
            },
            press @ Look::Press { .. } => found.push(press),
        }
    }
    found
}

/// The look at the whole recording at once.
fn last_look(recording: &[u8]) -> Look {
    let mut screen = screen(40, 120);
    screen.feed(recording);
    Dialogs::default().look(&screen, true)
}

fn quoted(look: &Look) -> &str {
    match look {
        Look::Unknown { quoted } => quoted,
        Look::Nothing | Look::Press { .. } => panic!("{look:?}"),
    }
}

#[test]
fn the_channels_dialog_is_answered_once_and_the_ready_screen_is_left_alone() {
    let recording = recorded!("dev-channels-ready");
    assert_eq!(looks(recording, screen(40, 120), false), [CHANNELS]);
    assert_eq!(last_look(recording), Look::Nothing);
    let recording = recorded!("dev-channels-ready-24x80");
    assert_eq!(looks(recording, screen(24, 80), false), [CHANNELS]);
    assert_eq!(looks(recorded!("not-logged-in"), screen(40, 120), true), [CHANNELS]);
}

#[test]
fn the_key_dialog_is_answered_only_when_policy_set_the_key() {
    let recording = recorded!("api-key-dev-ready");
    let pressed = looks(recording, screen(40, 120), true);
    assert_eq!(pressed, [KEY_UP, KEY_ENTER, CHANNELS]);
    let unasked = looks(recording, screen(40, 120), false);
    assert_eq!(unasked.len(), 2, "{unasked:?}");
    assert!(quoted(&unasked[0]).contains("Do you want to use this API key?"));
    assert!(!quoted(&unasked[0]).contains("abcdefghijklmnopqrst"), "the key's end is masked");
    assert_eq!(unasked[1], CHANNELS);
}

#[test]
fn no_keystroke_is_given_twice() {
    let mut dialogs = Dialogs::default();
    let mut screen = screen(40, 120);
    let mut presses = Vec::new();
    for _ in 0..2 {
        screen.feed(b"\x1bc");
        for byte in recorded!("api-key-dev-ready") {
            screen.feed(&[*byte]);
            if let press @ Look::Press { .. } = dialogs.look(&screen, true) {
                presses.push(press);
            }
        }
    }
    assert_eq!(presses, [KEY_UP, KEY_ENTER, CHANNELS]);
}

#[test]
fn other_questions_are_shown_and_not_answered() {
    for (recording, question) in [
        (&recorded!("trust")[..], "Yes, I trust this folder"),
        (recorded!("bypass"), "WARNING: Claude Code running in Bypass Permissions mode"),
        (recorded!("mcp-server"), "New MCP server found in this project: other"),
        (recorded!("trust-named-like-a-title"), "Accessing workspace:"),
    ] {
        let found = looks(recording, screen(40, 120), true);
        assert_eq!(found.len(), 1, "{question}: {found:?}");
        assert!(quoted(&found[0]).contains(question), "{found:?}");
    }
}

#[test]
fn a_screen_that_asks_nothing_is_no_dialog() {
    for recording in [&recorded!("unable-to-connect")[..], recorded!("resume-missing")] {
        assert_eq!(last_look(recording), Look::Nothing);
    }
}

#[test]
fn a_folder_named_like_the_title_triggers_nothing() {
    let recording = recorded!("ready-named-like-a-title");
    assert_eq!(looks(recording, screen(40, 120), true), [CHANNELS], "the real one");
    assert_eq!(last_look(recording), Look::Nothing);
}

#[test]
fn a_conversation_that_quotes_the_dialog_triggers_nothing() {
    let recording = recorded!("resumed");
    let mut screen_after = screen(40, 120);
    screen_after.feed(recording);
    assert!(screen_after.text().contains("❯ 1. I am using this for local development"));
    assert_eq!(looks(recording, screen(40, 120), true), [CHANNELS], "the real one");
    assert_eq!(last_look(recording), Look::Nothing);
}

// ---- drawn by hand -----------------------------------------------------------------------------

const COLUMNS: usize = 60;

fn drawn(lines: &[&str]) -> Screen {
    let mut screen = screen(20, 60);
    for line in lines {
        screen.feed(line.as_bytes());
        screen.feed(b"\r\n");
    }
    screen
}

fn look(lines: &[&str]) -> Look {
    Dialogs::default().look(&drawn(lines), true)
}

fn rule() -> String {
    "─".repeat(COLUMNS)
}

fn channels(rule: &str) -> Vec<&str> {
    vec![
        "",
        rule,
        "  WARNING: Loading development channels",
        "",
        "  Channels: server:synthesis",
        "",
        "  ❯ 1. I am using this for local development",
        "    2. Exit",
        "",
        "  Enter to confirm · Esc to cancel",
    ]
}

/// The dialog with row `index` replaced.
fn with(index: usize, row: &str) -> Look {
    let rule = rule();
    let mut rows = channels(&rule);
    rows[index] = row;
    look(&rows)
}

#[test]
fn the_dialog_drawn_by_hand_is_answered() {
    assert_eq!(look(&channels(&rule())), CHANNELS);
    let deeper = with(1, &rule());
    assert_eq!(deeper, CHANNELS);
}

#[test]
fn the_notice_after_a_start_that_was_cut_off_may_stand_above_and_nothing_else() {
    let rule = "─".repeat(120);
    let with_above = |above: &[&'static str]| {
        let mut screen = screen(40, 120);
        for line in above.iter().copied().chain([""]).chain(channels(&rule)) {
            screen.feed(line.as_bytes());
            screen.feed(b"\r\n");
        }
        Dialogs::default().look(&screen, true)
    };
    let notice = [
        "Claude Code's fullscreen renderer didn't finish starting last time on this machine, so this launch is using the classic",
        "renderer. It will try fullscreen again next launch; /tui classic keeps the classic renderer.",
    ];
    assert_eq!(with_above(&notice), CHANNELS);
    let once_too_often = [
        "Claude Code's fullscreen renderer has repeatedly failed to start on this machine, so it has been turned off here. Run /t",
        "ui fullscreen to try it again (this also resets after an update).",
    ];
    assert_eq!(with_above(&once_too_often), CHANNELS);
    assert!(matches!(with_above(&[notice[0], once_too_often[1]]), Look::Unknown { .. }));
    assert!(matches!(with_above(&notice[1..]), Look::Unknown { .. }));
    assert!(matches!(with_above(&["anything"]), Look::Unknown { .. }));
}

#[test]
fn each_row_that_stands_wrong_keeps_the_key_unpressed() {
    let short = "─".repeat(COLUMNS - 1);
    let unknown = [
        with(0, "some text above"),
        with(1, &short),
        with(1, "  WARNING: Loading development channels"),
        with(2, "  WARNING: Loading development channels!"),
        with(2, "  ● WARNING: Loading development channels"),
        with(4, "  Channels: server:other"),
        with(4, "  Channels: server:synthesis, server:other"),
        with(6, "  ❯ 1. I am using this for production"),
        with(7, "    2. Exit now"),
        with(7, "    2. Exit\r\n    3. More"),
    ];
    for look in unknown {
        assert!(matches!(look, Look::Unknown { .. }), "{look:?}");
    }
    let nothing = [
        // Half drawn.
        with(6, "    1. I am using this for local development"),
        with(7, "  ❯ 2. Exit"),
        with(8, "  x"),
        with(9, "  Enter to confirm"),
        with(9, ""),
        with(9, "  Enter to confirm · Esc to cancel\r\nmore"),
    ];
    for (index, look) in nothing.into_iter().enumerate() {
        assert_eq!(look, Look::Nothing, "{index}");
    }
}

#[test]
fn a_marker_on_the_refusing_choice_is_never_confirmed() {
    let rule = rule();
    let mut rows = channels(&rule);
    rows[6] = "    1. I am using this for local development";
    rows[7] = "  ❯ 2. Exit";
    assert_eq!(look(&rows), Look::Nothing);
}

#[test]
fn a_prompt_on_the_screen_means_that_everything_else_is_talk() {
    let rule = rule();
    let mut rows = channels(&rule);
    rows.splice(0..0, ["", rule.as_str(), "❯ ", rule.as_str()]);
    assert_eq!(look(&rows), Look::Nothing);
}

#[test]
fn a_list_to_choose_from_is_a_question_without_any_footer() {
    let rows = ["Select login method:", "", " ❯ 1. Claude account", "   2. Console account"];
    let found = look(&rows);
    assert!(quoted(&found).contains("Select login method:"));
    let notice = ["Settings are broken.", "", "Press Enter to continue…"];
    assert!(quoted(&look(&notice)).contains("Press Enter"));
}

#[test]
fn plain_output_is_no_question() {
    for rows in
        [&["❯ show me", "", "● 1. one", "  2. two"][..], &["a", "b"], &[], &["❯"], &["  ❯ alone"]]
    {
        assert_eq!(look(rows), Look::Nothing, "{rows:?}");
    }
}

#[test]
fn a_dialog_that_was_drawn_before_is_whole_after_a_redraw() {
    assert_eq!(last_look(recorded!("redrawn-dev-channels")), CHANNELS);
    assert_eq!(last_look(recorded!("redrawn-api-key")), KEY_UP);
    let mut ready = screen(40, 120);
    ready.feed(recorded!("redrawn-ready"));
    assert_eq!(Dialogs::default().look(&ready, true), Look::Nothing);
    assert!(ready.text().contains("/home/al/work"), "{}", ready.text());
}
