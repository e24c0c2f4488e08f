//! What is counted shows, under names and labels that are bounded and documented.

use std::collections::BTreeSet;

use super::*;
use crate::run::{Failure, FailureKind};

const DOC: &str = include_str!("../../../docs/operations.md");

fn text(metrics: &Metrics) -> String {
    metrics.text(Now::default())
}

/// The value of a line without its value.
fn value(text: &str, line: &str) -> f64 {
    let rest = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    rest.unwrap_or_else(|| panic!("no {line} in\n{text}")).parse().unwrap()
}

/// Every line that can appear.
fn full() -> Metrics {
    let metrics = Metrics::default();
    metrics.answered("GET", "/health", StatusCode::OK, "", Duration::ZERO);
    metrics.session("alice").is(Some("ready"));
    metrics
}

#[test]
fn what_is_counted_shows() {
    let metrics = Metrics::default();
    let (method, route) = ("POST", "/v1/chat/completions");
    metrics.answered(method, route, StatusCode::OK, "", Duration::from_millis(2));
    let full = StatusCode::TOO_MANY_REQUESTS;
    metrics.answered(method, route, full, "queue_full", Duration::from_millis(2));
    metrics.finished(&run::Outcome::Completed);
    let error = Failure::new(FailureKind::NoSlot, "all busy");
    metrics.finished(&run::Outcome::Failed { error });
    metrics.exited(ExitCause::Oom {});
    let waiting = metrics.wait();
    let mut session = metrics.session("alice");
    session.is(Some("ready"));
    session.is(Some("busy"));
    let now = text(&metrics);
    let chat = "method=\"POST\",route=\"/v1/chat/completions\"";
    for (line, expected) in [
        (&*format!("synthesis_requests_total{{{chat},status=\"2xx\"}}"), 1.0),
        (&format!("synthesis_requests_total{{{chat},status=\"4xx\"}}"), 1.0),
        (&format!("synthesis_request_duration_seconds_count{{{chat}}}"), 2.0),
        ("synthesis_rejected_total{reason=\"queue_full\"}", 1.0),
        ("synthesis_rejected_total{reason=\"slot\"}", 1.0),
        ("synthesis_rejected_total{reason=\"auth\"}", 0.0),
        ("synthesis_runs_total{outcome=\"completed\"}", 1.0),
        ("synthesis_runs_total{outcome=\"failed\"}", 1.0),
        ("synthesis_process_exits_total{cause=\"oom\"}", 1.0),
        ("synthesis_queue_depth", 1.0),
        ("synthesis_sessions{state=\"ready\",user=\"alice\"}", 0.0),
        ("synthesis_sessions{state=\"busy\",user=\"alice\"}", 1.0),
        (concat!("synthesis_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(value(&now, line), expected, "{line}");
    }
    waiting.served();
    drop(session);
    let now = text(&metrics);
    assert_eq!(value(&now, "synthesis_queue_depth"), 0.0);
    assert_eq!(value(&now, "synthesis_queue_wait_seconds_count"), 1.0);
    assert_eq!(value(&now, "synthesis_sessions{state=\"busy\",user=\"alice\"}"), 0.0);
    assert!(now.ends_with("# EOF\n"));
}

#[test]
fn what_others_know_is_set_when_somebody_looks() {
    let metrics = Metrics::default();
    let now = Now { store_bytes: 4096, audit_lost: 3, ..Now::default() };
    metrics.text(now);
    let text = metrics.text(Now { spawnd_connected: true, audit_lost: 5, ..now });
    assert_eq!(value(&text, "synthesis_store_bytes"), 4096.0);
    assert_eq!(value(&text, "synthesis_spawnd_connected"), 1.0);
    assert_eq!(value(&text, "synthesis_audit_lost_total"), 5.0);
}

/// The names of the registry, as Prometheus has them, and the labels of each.
fn names(text: &str) -> BTreeSet<(String, Vec<String>)> {
    let kinds: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split_once(' '))
        .collect();
    kinds
        .iter()
        .map(|(name, kind)| {
            let suffix = match *kind {
                "counter" => "_total",
                "info" => "_info",
                "gauge" | "histogram" => "",
                other => panic!("{other}"),
            };
            let line = text.lines().find(|line| {
                let rest = line.strip_prefix(name).unwrap_or(".");
                rest.starts_with(['{', ' ', '_'])
            });
            let line = line.unwrap_or_else(|| panic!("{name} has no line"));
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            let labels = labels.map_or("", |(labels, _)| labels).split(',');
            let labels = labels.filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let labels = labels.filter(|name| *name != "le").map(str::to_owned).collect();
            (format!("{name}{suffix}"), labels)
        })
        .collect()
}

#[test]
fn every_metric_is_documented_with_its_labels_and_no_other_is() {
    let rows = DOC.lines().filter_map(|line| line.strip_prefix("| `synthesis_"));
    let documented: BTreeSet<(String, Vec<String>)> = rows
        .map(|row| {
            let mut cells = row.split('|');
            let name = cells.next().unwrap().trim().trim_end_matches('`');
            let labels = cells.nth(1).expect("name, type, labels");
            let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (format!("synthesis_{name}"), labels)
        })
        .collect();
    assert_eq!(names(&text(&full())), documented);
}

#[test]
fn a_label_is_a_word_of_ours_or_a_users_name() {
    let metrics = full();
    for n in 0..500 {
        metrics.session(&format!("user{n}")).is(Some("ready"));
    }
    let text = text(&metrics);
    let users: BTreeSet<&str> =
        text.split("user=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(users.len(), 101);
    assert!(users.contains("other"));
    assert!(text.len() < 200_000, "{} bytes", text.len());
}
