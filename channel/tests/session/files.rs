//! A message's files: from frontd, in pieces, to where claude can read them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stage::{Link, Stage};

/// As much as one frame carries.
const PIECE: usize = 512 * 1024;

fn push(link: &mut Link, message: &str, files: &Value) {
    let meta = json!({"chat_id": "c", "message_id": message, "ts": "2026-11-21T00:00:00Z"});
    link.send(json!({"type": "inbound", "content": "look", "meta": meta, "files": files}));
}

fn file(id: &str, name: &str, media_type: &str, bytes: usize) -> Value {
    json!({"id": id, "name": name, "media_type": media_type, "bytes": bytes})
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn left(stage: &Stage) -> usize {
    std::fs::read_dir(stage.at("tmp")).unwrap().count()
}

#[test]
fn files_come_in_pieces_across_a_reconnect_and_are_named_in_the_tag() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    let big: Vec<u8> = (0..2 * PIECE + 5).map(|n| (n % 251) as u8).collect();
    let files = json!([
        file("f-1", "../my \"cat\".png\u{1b}[2J", "image/png", big.len()),
        file("f-2", "", "text/x; charset=\"", 0),
    ]);
    push(&mut link, "m1", &files);
    assert_eq!(link.wish("f-1"), 0);
    link.piece("f-1", 0, &big[..PIECE], false);
    assert_eq!(link.wish("f-1"), PIECE as u64);
    drop(link);
    let mut link = stage.welcome(0);
    assert_eq!(link.next()["type"], "registered");
    assert_eq!(link.wish("f-1"), PIECE as u64, "from where it was");
    push(&mut link, "m1", &files);
    link.assert_quiet();
    link.piece("f-1", PIECE as u64, &big[PIECE..2 * PIECE], false);
    assert_eq!(link.wish("f-1"), 2 * PIECE as u64);
    link.piece("f-1", 2 * PIECE as u64, &big[2 * PIECE..], true);
    assert_eq!(link.wish("f-2"), 0);
    link.piece("f-2", 0, &[], true);
    let pushed = claude.pushed();
    assert_eq!(pushed["content"], "look");
    let meta = &pushed["meta"];
    assert_eq!(meta["message_id"], "m1");
    assert_eq!(meta["file_1_name"], "my \"cat\".png[2J");
    assert_eq!(
        (&meta["file_1_type"], &meta["file_2_type"]),
        (&json!("image/png"), &json!("text/x"))
    );
    assert_eq!(meta["file_2_name"], "file");
    assert_eq!(meta.as_object().unwrap().len(), 3 + 2 * 3);
    let path = |name: &str| PathBuf::from(meta[name].as_str().unwrap());
    let (first, second) = (path("file_1"), path("file_2"));
    assert_eq!(std::fs::read(&first).unwrap(), big);
    assert_eq!(std::fs::read(&second).unwrap(), b"");
    assert!(first.starts_with(stage.at("tmp")), "{first:?}");
    assert_eq!(first.extension().unwrap(), "png");
    let folder = first.parent().unwrap();
    assert_eq!((mode(&first), mode(&second), mode(folder)), (0o600, 0o600, 0o700));
    claude.close_stdin();
    assert!(claude.exited().success());
    assert_eq!(left(&stage), 0, "all are gone at the end");
}

#[test]
fn a_message_whose_file_cannot_be_had_is_missed_and_the_next_one_is_not() {
    let stage = Stage::new();
    let (mut claude, mut link) = stage.ready();
    push(&mut link, "m1", &json!([file("a", "a", "a/a", 1), file("b", "b", "b/b", 1)]));
    assert_eq!(link.wish("a"), 0);
    link.piece("a", 0, b"x", true);
    assert_eq!(link.wish("b"), 0);
    link.send(json!({"type": "no_file", "id": "b"}));
    assert_eq!(link.event().1, json!({"missed": {"message_id": "m1"}}));
    let folder = std::fs::read_dir(stage.at("tmp")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing stays of it");
    // A file longer than it was said to be; then a place that takes none.
    push(&mut link, "m2", &json!([file("a", "a", "a/a", 1)]));
    assert_eq!(link.wish("a"), 0);
    link.piece("a", 0, b"xy", true);
    assert_eq!(link.event().1, json!({"missed": {"message_id": "m2"}}));
    std::fs::remove_dir_all(&folder).unwrap();
    push(&mut link, "m3", &json!([file("a", "a", "a/a", 1)]));
    assert_eq!(link.wish("a"), 0);
    link.piece("a", 0, b"x", true);
    assert_eq!(link.event().1, json!({"missed": {"message_id": "m3"}}));
    link.push("m4", "without");
    assert_eq!(claude.pushed()["content"], "without");
}
