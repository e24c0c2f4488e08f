//! What a collector gets: spans of requests and runs, with their attributes and nothing else.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use frontd::logging::SPANS;
use frontd::telemetry;
use tracing_subscriber::layer::SubscriberExt;

/// Reads one request and answers it. Its head and its body.
fn collect(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut seen = Vec::new();
    let head = loop {
        read_more(&mut stream, &mut seen);
        if let Some(end) = seen.windows(4).position(|part| part == b"\r\n\r\n") {
            break seen.drain(..end + 4).collect::<Vec<u8>>();
        }
    };
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().trim().parse().unwrap();
    while seen.len() < length {
        read_more(&mut stream, &mut seen);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, seen)
}

fn read_more(stream: &mut TcpStream, to: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    let len = stream.read(&mut buffer).expect("more of the request");
    assert!(len > 0, "the request ends early");
    to.extend_from_slice(buffer.get(..len).unwrap());
}

/// Strings stand in protobuf as they are, behind their field and their length.
fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_collector_gets_the_spans_of_requests_and_runs_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let collecting = std::thread::spawn(move || collect(&listener));
    let (layer, telemetry) = telemetry::to(Some(&endpoint)).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!(target: SPANS, "request", id = "req_1", status = 7);
        let run = tracing::info_span!(target: SPANS, parent: None, "run", outcome = "completed");
        run.follows_from(&request);
        request.in_scope(|| {
            tracing::info!("an event with somebody's words");
            tracing::info_span!("elsewhere", words = "somebody's").in_scope(|| ());
        });
    });
    telemetry.end();
    let (head, body) = collecting.join().unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    for there in ["synthesis-frontd", "request", "run", "req_1", "outcome", "completed"] {
        assert!(has(&body, there), "no {there}");
    }
    for absent in ["words", "somebody", "elsewhere", "code.", "thread."] {
        assert!(!has(&body, absent), "{absent} was exported");
    }
}

#[test]
fn a_collector_that_is_away_holds_nobody_up_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let (layer, telemetry) = telemetry::to(Some(&endpoint)).unwrap();
    let begin = std::time::Instant::now();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        drop(tracing::info_span!(target: SPANS, "request"));
    });
    telemetry.end();
    assert!(begin.elapsed() < Duration::from_secs(8));
}
