//! What is done with one body: shared by the fuzz target and by frontd's bounded property test
//! (frontd/tests/fuzz.rs). Whatever the bytes are, nothing here may panic.

use frontd::ask::history::{self, Past};
use frontd::ask::{Ask, BadRequest, chat, context, media, responses, retry, ui};

/// Reads a body in all three ways and judges what comes of it. Was it good for any?
pub(crate) fn body(bytes: &[u8]) -> bool {
    let ui = ui::parse(bytes).map(|ui| {
        assert!((1..=512).contains(&ui.chat.len()));
        let _ = ui.key();
        ui.ask
    });
    let responses = responses::parse(bytes).map(|responses| responses.ask);
    let mut any = false;
    for read in [chat::parse(bytes), responses, ui] {
        match read {
            Ok(ask) => {
                any = true;
                good(&ask);
            }
            Err(bad) => refused(&bad),
        }
    }
    any
}

fn refused(bad: &BadRequest) {
    assert!(!bad.message.is_empty() && bad.message.len() < 400, "{} bytes", bad.message.len());
    assert!(!bad.message.chars().any(char::is_control), "{:?}", bad.message);
}

fn good(ask: &Ask) {
    assert!(!ask.new.text.is_empty() || !ask.new.files.is_empty());
    for file in &ask.new.files {
        assert!((1..=100).contains(&file.name.len()) && !file.name.contains(['/', '\\', '\0']));
    }
    let said: Vec<u64> = ask.history.iter().map(|said| history::hash(&said.text)).collect();
    let new = ask.new.hashes();
    let all: Vec<u64> = said.iter().chain(&new).copied().collect();
    let answers = ask.history.iter().filter_map(|said| history::hash_answer(&said.text)).collect();
    for seen in [Vec::new(), said, new, all, answers] {
        for rewinds in [false, true] {
            judged(ask.clone(), rewinds, &seen);
        }
    }
    for text in ask.history.iter().map(|said| said.text.as_str()).chain([ask.new.text.as_str()]) {
        assert!(media::media(text).len() <= 16);
        let _ = retry::repeats(ask, text, 0);
        let _ = retry::repeats(ask, text, 1);
    }
}

/// Whatever claude has seen, the last message is new, and nothing is told that was not said.
fn judged(mut ask: Ask, rewinds: bool, seen: &[u64]) {
    let (history, new) = (ask.history.clone(), ask.new.clone());
    let past = history::judge(&mut ask, rewinds, seen);
    assert!(!ask.new.text.is_empty() || !ask.new.files.is_empty());
    assert!(new.text.ends_with(&ask.new.text) && new.files.ends_with(&ask.new.files));
    match past {
        Past::Continue => {}
        Past::WithContext(told) => {
            assert!(!told.is_empty() && history.ends_with(&told));
            assert!(context::context(&told, 256 * 1024).len() <= 256 * 1024);
        }
        Past::Fresh(told) => assert_eq!(told, history),
    }
}
