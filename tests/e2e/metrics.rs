//! What Prometheus sees of a server at work, and what requests are called.

use serde_json::Value;
use tests::harness::{Options, Server};

use super::witness::until_asked;

async fn text(server: &Server) -> String {
    let reply = server.client.get("/metrics").await;
    assert_eq!(reply.status, 200);
    let content_type = reply.header("content-type").unwrap();
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(reply.text().ends_with("# EOF\n"));
    reply.text()
}

fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {line} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_turn_shows_in_every_measure_of_it() {
    let server = Server::start(Options::default()).await;
    let mut stream = server.client.session("private-name").stream("HANG").await;
    stream.next().await.unwrap();
    let busy = text(&server).await;
    let user = {
        let line = busy.lines().find(|line| line.starts_with("synthesis_sessions{state=\"busy\""));
        line.expect("a busy session").split('"').nth(3).unwrap().to_owned()
    };
    for (line, expected) in [
        (&*format!("synthesis_sessions{{state=\"busy\",user=\"{user}\"}}"), 1.0),
        ("synthesis_runs_open", 1.0),
        ("synthesis_processes", 1.0),
        ("synthesis_readers", 1.0),
        ("synthesis_bridge_connections", 1.0),
        ("synthesis_spawnd_connected", 1.0),
        ("synthesis_spawnd_connects_total", 1.0),
        ("synthesis_spawn_seconds_count", 1.0),
        ("synthesis_ready_seconds_count", 1.0),
        ("synthesis_queue_wait_seconds_count", 1.0),
        ("synthesis_queue_depth", 0.0),
        ("synthesis_audit_lost_total", 0.0),
        ("synthesis_store_failing", 0.0),
    ] {
        assert_eq!(value(&busy, line), expected, "{line}");
    }
    assert!(value(&busy, "synthesis_store_bytes") > 4096.0);

    let session = server.client.session("private-name");
    let run = session.post("/v1/runs", &serde_json::json!({"input": "next"})).await;
    assert_eq!(run.status, 201, "{}", run.text());
    until_asked("it waits", async || value(&text(&server).await, "synthesis_queue_depth") == 1.0)
        .await;
    let abort = format!("/v1/runs/{}/abort", stream.run);
    server.client.post(&abort, &Value::Null).await;
    until_asked("both are over", async || {
        let now = text(&server).await;
        value(&now, "synthesis_runs_total{outcome=\"completed\"}") == 1.0
            && value(&now, "synthesis_runs_total{outcome=\"aborted\"}") == 1.0
    })
    .await;
    drop(stream);
    let pid = server.claudes()[0];
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.try_into().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    until_asked("the exit shows", async || {
        value(&text(&server).await, "synthesis_process_exits_total{cause=\"signal\"}") == 1.0
    })
    .await;
    server.client.get("/no/such/place").await;
    server.client.with("origin", "https://evil.example").get("/health").await;
    let after = text(&server).await;
    for (line, expected) in [
        (
            "synthesis_requests_total{method=\"POST\",route=\"/v1/chat/completions\",status=\"2xx\"}",
            1.0,
        ),
        (
            "synthesis_requests_total{method=\"POST\",route=\"/v1/runs/{id}/abort\",status=\"2xx\"}",
            1.0,
        ),
        ("synthesis_requests_total{method=\"none\",route=\"none\",status=\"4xx\"}", 2.0),
        ("synthesis_request_duration_seconds_count{method=\"POST\",route=\"/v1/runs\"}", 1.0),
        ("synthesis_rejected_total{reason=\"host\"}", 1.0),
        ("synthesis_queue_wait_seconds_count", 2.0),
        ("synthesis_queue_depth", 0.0),
        ("synthesis_runs_open", 0.0),
        (&*format!("synthesis_sessions{{state=\"busy\",user=\"{user}\"}}"), 0.0),
    ] {
        assert_eq!(value(&after, line), expected, "{line}");
    }
    for foreign in ["private-name", "run_", "/no/such", "evil", "next"] {
        assert!(!after.contains(foreign), "{foreign} is in\n{after}");
    }
}

#[tokio::test]
async fn every_response_has_the_id_of_its_request() {
    let server = Server::start(Options::default()).await;
    let named = server.client.with("x-request-id", "a.B_c-1");
    for path in ["/health", "/no/such/place", "/v1/runs/run_0"] {
        assert_eq!(named.get(path).await.header("x-request-id"), Some("a.B_c-1"), "{path}");
        let fresh = server.client.get(path).await;
        let fresh = fresh.header("x-request-id").expect("an id").to_owned();
        assert!(fresh.starts_with("req_") && fresh.len() == 36, "{fresh}");
    }
    let refused = named.with("origin", "https://evil.example").get("/health").await;
    assert_eq!((refused.status, refused.header("x-request-id")), (403, Some("a.B_c-1")));
    let stream = named.stream("hello").await;
    assert_eq!(stream.headers["x-request-id"], "a.B_c-1");
    assert_eq!(stream.deltas().await.unwrap().concat(), "echo: hello");
    for odd in ["", "a b", "x".repeat(129).as_str()] {
        let reply = server.client.with("x-request-id", odd).get("/health").await;
        assert!(reply.header("x-request-id").unwrap().starts_with("req_"), "{odd:?}");
    }
}
