//! Images and files of a message, from a data URL to a file that claude can read.

use std::os::unix::fs::MetadataExt as _;

use data_encoding::BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::harness::{Options, Server};

use super::witness::{of_type, outcome, prompts, statuses, until};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture of so many bytes, none of which is like its neighbours.
fn picture(bytes: usize) -> Vec<u8> {
    let noise = (0..bytes).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 13 & 0xff));
    let noise = noise.map(|byte| byte.unwrap_or_default());
    PNG.iter().copied().chain(noise).take(bytes).collect()
}

fn url(media_type: &str, data: &[u8]) -> String {
    format!("data:{media_type};base64,{}", BASE64.encode(data))
}

fn image(url: &str) -> Value {
    json!({ "type": "image_url", "image_url": { "url": url } })
}

fn file(name: &str, url: &str) -> Value {
    json!({ "type": "file", "file": { "filename": name, "file_data": url } })
}

fn message(text: &str, files: &[Value]) -> Value {
    let mut parts = vec![json!({ "type": "text", "text": text })];
    parts.extend_from_slice(files);
    json!({ "messages": [{ "role": "user", "content": parts }] })
}

/// What the fake claude says of a file that it could read.
fn told(name: &str, data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}: {} bytes, sha256 {hex}", data.len())
}

/// The value of an attribute of the message's tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

#[tokio::test]
async fn pictures_and_files_reach_claude_byte_for_byte_and_for_its_user_alone() {
    let server = Server::start(Options::default()).await;
    let (png, text) = (picture(700_000), "name,weight\nä,1\n".as_bytes());
    let body = message(
        "FILES",
        &[image(&url("image/png", &png)), file("../list one.csv", &url("text/csv", text))],
    );
    let answer = server.client.post("/v1/chat/completions", &body).await.content();
    let expected = [told("file.png", &png), told("list one.csv", text)];
    assert_eq!(answer.trim_end().split('\n').collect::<Vec<_>>(), expected);

    let seen = prompts(&server);
    let tag = &seen[0].text;
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    for (number, media_type) in [(1, "image/png"), (2, "text/csv")] {
        assert_eq!(attribute(tag, &format!("file_{number}_type")), Some(media_type), "{tag}");
        let path = attribute(tag, &format!("file_{number}")).unwrap();
        let path = format!("/proc/{claude}/root{path}");
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, server.session_uid), "{path}");
    }
}

#[tokio::test]
async fn a_file_of_the_greatest_size_goes_through_and_a_greater_one_does_not() {
    let server = Server::start(Options::default()).await;
    let mut png = picture(20 << 20);
    let body = message("FILES", &[image(&url("image/png", &png))]);
    let answer = server.client.post("/v1/chat/completions", &body).await.content();
    assert_eq!(answer.trim_end(), told("file.png", &png));
    png.push(0);
    let body = message("FILES", &[image(&url("image/png", &png))]);
    let reply = server.client.post("/v1/chat/completions", &body).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(reply.text().contains("messages.[0].content.[1]"), "{}", reply.text());
}

#[tokio::test]
async fn files_that_are_not_taken_are_named_and_nothing_starts() {
    let server = Server::start(Options::default()).await;
    let png = url("image/png", &picture(20));
    let nine: Vec<Value> = (0..9).map(|_| image(&png)).collect();
    for (what, files) in [
        ("wrong magic", vec![image(&url("image/png", b"GIF89a is no picture of that kind"))]),
        ("a web address", vec![image("http://127.0.0.1:1/a.png")]),
        ("a local file", vec![image("file:///etc/passwd")]),
        ("not base64", vec![image("data:image/png;base64,####")]),
        ("a program", vec![file("a", &url("application/x-executable", b"\x7fELF"))]),
        ("nine", nine),
    ] {
        let reply = server.client.post("/v1/chat/completions", &message("look", &files)).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(reply.text().contains("messages.[0]"), "{what}: {}", reply.text());
    }
    assert!(server.session_processes().is_empty());
}

/// The first process does not hear the message; the second one fetches the file itself.
#[tokio::test]
async fn a_message_that_goes_to_another_process_brings_its_files_again() {
    let fake = Some(json!({ "deaf_pushes": 1 }));
    let server = Server::start(Options { fake, ..Options::default() }).await;
    let png = picture(600_000);
    let mut body = message("FILES", &[image(&url("image/png", &png))]);
    body["stream"] = json!(true);
    let stream = server.client.stream_of(&body).await;
    until("the first claude", || !server.claudes().is_empty()).await;
    let first = server.claudes();
    // It has read that already; the next one reads this.
    std::fs::write(server.state.join("home/.fake-claude.json"), "{}").unwrap();
    let run = stream.run.clone();
    assert_eq!(stream.deltas().await.unwrap().concat().trim_end(), told("file.png", &png));
    assert_ne!(server.claudes(), first);
    let events = server.client.events(&run).await;
    assert!(statuses(&events).contains(&"retrying"), "{events:?}");
    assert_eq!(outcome(&events), "completed");
    let files = &of_type(&events, "started")[0]["message"]["files"];
    assert_eq!(files[0]["bytes"], 600_000, "{files}");
}
