//! A message's files come before it, or it does not come at all.

use proto::bridge::FileRef;
use proto::ids::FileId;
use proto::limits::{FILE_BYTES, FILES};

use super::*;
use crate::fetches::PIECE_WITHIN;

fn file(id: &str, bytes: u64) -> FileRef {
    let media_type = "image/png".to_owned();
    FileRef { id: FileId::new(id).unwrap(), name: "cat.png".to_owned(), media_type, bytes }
}

impl Stage {
    fn inbound_with(&mut self, message: &str, files: Vec<FileRef>) -> Vec<Action> {
        self.frame(FromFrontd::Inbound { content: "hi".to_owned(), meta: meta(message), files })
    }

    /// A piece comes and is written down, if the voice wants that.
    fn piece(&mut self, id: &str, offset: u64, data: &str, last: bool) -> Vec<Action> {
        let id = FileId::new(id).unwrap();
        let mut out = self.frame(FromFrontd::File { id, offset, data: data.to_owned(), last });
        let keeps = |action: &Action| match action {
            Action::Keep(piece) => Some((piece.data.len(), piece.last)),
            _ => None,
        };
        if let Some((length, last)) = out.iter().find_map(keeps) {
            out.extend(self.input(Input::Kept { length, last, kept: true }));
        }
        out
    }
}

fn asked(actions: &[Action]) -> Vec<(String, u64)> {
    let ask = |frame| match frame {
        FromChannel::FileGet { id, offset } => Some((id.to_string(), offset)),
        _ => None,
    };
    frames(actions).into_iter().filter_map(ask).collect()
}

fn ask(id: &str, offset: u64) -> Vec<(String, u64)> {
    vec![(id.to_owned(), offset)]
}

fn missed(message: &str) -> Event {
    Event::Missed { message_id: id(message) }
}

fn discards(actions: &[Action], message: &str) -> bool {
    actions.contains(&Action::Discard(id(message)))
}

#[test]
fn files_are_fetched_one_piece_at_a_time_and_then_the_message_is_pushed() {
    let mut stage = Stage::ready();
    let out = stage.inbound_with("m1", vec![file("a", 5), file("b", 1)]);
    assert_eq!((asked(&out), pushed(&out).len()), (ask("a", 0), 0));
    assert_eq!(asked(&stage.piece("a", 0, "AAEC", false)), ask("a", 3));
    assert_eq!(asked(&stage.piece("a", 3, "AwQ=", true)), ask("b", 0));
    let out = stage.piece("b", 0, "AA==", true);
    assert_eq!((asked(&out), pushed(&out)), (Vec::new(), vec!["m1".to_owned()]));
    let named = |action: &Action| matches!(action, Action::Push { files, .. } if files.len() == 2);
    assert!(out.iter().any(named));
    assert!(stage.piece("b", 0, "AA==", true).is_empty(), "once");
}

#[test]
fn no_message_overtakes_one_whose_files_are_on_their_way() {
    let mut stage = Stage::ready();
    stage.inbound_with("m1", vec![file("a", 1)]);
    assert!(pushed(&stage.inbound("m2")).is_empty());
    let out = stage.inbound_with("m3", vec![file("b", 1)]);
    assert!(asked(&out).is_empty(), "one piece at a time");
    let out = stage.piece("a", 0, "AA==", true);
    assert_eq!((pushed(&out), asked(&out)), (vec!["m1".to_owned(), "m2".to_owned()], ask("b", 0)));
}

#[test]
fn a_lost_connection_goes_on_where_it_was() {
    let mut stage = Stage::ready();
    stage.inbound_with("m1", vec![file("a", 5)]);
    stage.piece("a", 0, "AAEC", false);
    stage.input(Input::Disconnected);
    assert!(asked(&stage.later(PIECE_WITHIN * 2)).is_empty(), "nobody is asked");
    assert!(stage.piece("a", 3, "AwQ=", true).is_empty(), "the rest of a lost connection");
    assert_eq!(asked(&stage.connect(0)), ask("a", 3));
    assert!(asked(&stage.inbound_with("m1", vec![file("a", 5)])).is_empty(), "frontd repeats it");
    assert_eq!(pushed(&stage.piece("a", 3, "AwQ=", true)), ["m1"]);
}

#[test]
fn files_that_frontd_calls_otherwise_by_now_are_fetched_anew() {
    let mut stage = Stage::ready();
    stage.inbound_with("m1", vec![file("a", 5)]);
    stage.piece("a", 0, "AAEC", false);
    stage.input(Input::Disconnected);
    stage.connect(0);
    let out = stage.inbound_with("m1", vec![file("b", 1)]);
    assert_eq!((asked(&out), discards(&out, "m1")), (ask("b", 0), true));
    assert_eq!(pushed(&stage.piece("b", 0, "AA==", true)), ["m1"]);
}

#[test]
fn a_message_is_missed_when_a_file_cannot_be_had() {
    let no_file =
        |stage: &mut Stage| stage.frame(FromFrontd::NoFile { id: FileId::new("b").unwrap() });
    let broken = |stage: &mut Stage| stage.piece("b", 0, "not base64", true);
    let unwritten =
        |stage: &mut Stage| stage.input(Input::Kept { length: 1, last: true, kept: false });
    let late = |stage: &mut Stage| stage.later(PIECE_WITHIN);
    type Way<'a> = &'a dyn Fn(&mut Stage) -> Vec<Action>;
    let ways: [Way<'_>; 4] = [&no_file, &broken, &unwritten, &late];
    for way in ways {
        let mut stage = Stage::ready();
        stage.inbound_with("m1", vec![file("a", 1), file("b", 5)]);
        stage.inbound("m2");
        stage.piece("a", 0, "AA==", true);
        let out = way(&mut stage);
        assert_eq!(events(&out), [(1, missed("m1"))]);
        assert!(discards(&out, "m1"), "what is here of them goes");
        assert_eq!(pushed(&out), ["m2"], "and life goes on");
        assert!(pushed(&stage.inbound_with("m1", Vec::new())).is_empty(), "it is over");
    }
}

#[test]
fn the_word_about_another_file_is_nothing() {
    let mut stage = Stage::ready();
    stage.inbound_with("m1", vec![file("a", 1)]);
    assert!(stage.frame(FromFrontd::NoFile { id: FileId::new("x").unwrap() }).is_empty());
    assert!(stage.piece("x", 0, "AA==", true).is_empty());
    assert_eq!(pushed(&stage.piece("a", 0, "AA==", true)), ["m1"]);
}

#[test]
fn too_many_or_too_large_files_are_not_even_asked_for() {
    let mut stage = Stage::ready();
    for (message, files) in
        [("m1", vec![file("a", 1); FILES + 1]), ("m2", vec![file("a", FILE_BYTES + 1)])]
    {
        let out = stage.inbound_with(message, files);
        assert!(asked(&out).is_empty());
        assert!(events(&out).iter().any(|(_, event)| *event == missed(message)));
    }
}

#[test]
fn files_may_come_before_the_cli_listens_and_go_when_it_never_will() {
    let mut stage = Stage::new();
    stage.connect(0);
    assert_eq!(asked(&stage.inbound_with("m1", vec![file("a", 1)])), ask("a", 0));
    assert!(pushed(&stage.piece("a", 0, "AA==", true)).is_empty());
    stage.inbound_with("m2", vec![file("b", 1)]);
    let out = stage.input(Input::Skipped { reason: "no".to_owned() });
    assert_eq!(events(&out), [(1, missed("m1")), (2, missed("m2"))]);
    assert!(discards(&out, "m1") && discards(&out, "m2"));
    let mut stage = Stage::new();
    stage.connect(0);
    stage.inbound_with("m1", vec![file("a", 1)]);
    stage.piece("a", 0, "AA==", true);
    assert_eq!(pushed(&stage.input(Input::Registered)), ["m1"]);
}

#[test]
fn messages_that_wait_for_files_are_bounded() {
    let mut stage = Stage::ready();
    stage.inbound_with("m0", vec![file("a", 1)]);
    for number in 1..crate::pushes::OPEN {
        assert!(stage.inbound(&format!("m{number}")).is_empty());
    }
    assert_eq!(events(&stage.inbound("more")), [(1, missed("more"))]);
}
