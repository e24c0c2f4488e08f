//! The run API: a run that no connection holds up, read from any place, ended once.

use bytes::Bytes;
use serde_json::{Value, json};
use tests::harness::{Client, Options, Reply, Server, Stream};

/// Begins a run with this text; its id.
pub(crate) async fn begin(client: &Client, text: &str) -> String {
    let reply = client.post("/v1/runs", &json!({ "input": text })).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn events(client: &Client, run: &str, after: u64) -> Stream {
    client.stream_at("GET", &format!("/v1/runs/{run}/events?after={after}"), Bytes::new()).await
}

/// The run when it is over.
pub(crate) async fn finished(client: &Client, run: &str) -> Value {
    let all = events(client, run, 0).await.all_numbered().await.unwrap();
    assert_eq!(all.last().unwrap().1["type"], "finished");
    client.get(&format!("/v1/runs/{run}")).await.json()
}

/// Reads on until an event of this type has come.
pub(crate) async fn until(stream: &mut Stream, kind: &str) -> (u64, Value) {
    loop {
        let event = stream.next_numbered().await.unwrap();
        let (id, event) = event.unwrap_or_else(|| panic!("the run ended before {kind}"));
        if event["type"] == kind {
            return (id, event);
        }
    }
}

fn told(reply: &Reply) -> (u16, String) {
    (reply.status, reply.error_code())
}

#[tokio::test]
async fn a_run_is_there_before_its_answer_and_after() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("one");
    let reply = client.post("/v1/runs", &json!({ "input": "SLOW 300 SAY done" })).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let run = reply.json();
    let id = run["id"].as_str().unwrap();
    assert!(id.starts_with("run_") && id.len() == 36, "{run}");
    assert_eq!(reply.header("location"), Some(&*format!("/v1/runs/{id}")));
    assert_eq!(reply.header("x-synthesis-run"), Some(id));
    assert_eq!(reply.header("x-synthesis-session"), run["session"].as_str());
    assert_eq!((&run["object"], &run["status"]), (&json!("run"), &json!("queued")));
    assert_eq!((&run["model"], &run["finished_at"]), (&json!("synthesis"), &Value::Null));

    let all = events(&client, id, 0).await.all_numbered().await.unwrap();
    let places: Vec<u64> = all.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(all[0].1, json!({ "type": "started", "message": { "text": "SLOW 300 SAY done" } }));
    let texts: Vec<_> = all.iter().filter(|(_, event)| event["type"] == "text-delta").collect();
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0].1["delta"], "done");
    assert_eq!(all.last().unwrap().1, json!({ "type": "finished", "outcome": "completed" }));

    let run = client.get(&format!("/v1/runs/{id}")).await.json();
    assert_eq!((&run["status"], &run["error"]), (&json!("completed"), &Value::Null));
    assert!(run["finished_at"].as_u64() >= run["created_at"].as_u64(), "{run}");
    // Every form of the id that some API shows is the same run.
    let digits = id.strip_prefix("run_").unwrap();
    for form in ["chatcmpl-", "resp_", "msg_"] {
        let same = client.get(&format!("/v1/runs/{form}{digits}")).await;
        assert_eq!(same.json()["id"], id, "{form}");
    }
}

#[tokio::test]
async fn a_late_reader_and_one_in_between_see_the_same_events() {
    let server = Server::start(Options::default()).await;
    let run = begin(&server.client, "CHUNKS 5 50").await;
    let mut live = events(&server.client, &run, 0).await;
    let (place, _) = until(&mut live, "text-delta").await;
    // It loses its connection and comes back with the last id that it saw.
    drop(live);
    let client = server.client.with("last-event-id", &place.to_string());
    let path = format!("/v1/runs/{run}/events?after=0");
    let resumed = client.stream_at("GET", &path, Bytes::new()).await;
    assert_eq!(resumed.headers["content-type"], "text/event-stream");
    let resumed = resumed.all_numbered().await.unwrap();
    assert_eq!(resumed[0].0, place + 1, "the header beats the query");
    let late = events(&server.client, &run, 0).await.all_numbered().await.unwrap();
    assert_eq!(late[place as usize..], resumed[..]);
    let tail = events(&server.client, &run, late.len() as u64 - 1).await;
    assert_eq!(tail.all_numbered().await.unwrap(), late[late.len() - 1..]);
}

#[tokio::test]
async fn beyond_the_end_a_run_under_way_is_waited_for_and_one_that_is_over_is_empty() {
    let server = Server::start(Options::default()).await;
    let run = begin(&server.client, "HANG").await;
    until(&mut events(&server.client, &run, 0).await, "status").await;
    let far = events(&server.client, &run, 1_000_000).await;
    let greatest = events(&server.client, &run, u64::MAX).await;
    assert_eq!((far.status, greatest.status), (200, 200), "the head does not wait");
    let abort = server.client.request("POST", &format!("/v1/runs/{run}/abort"), Bytes::new()).await;
    assert_eq!((abort.status, &abort.json()["status"]), (202, &json!("aborting")));
    assert_eq!(far.all_numbered().await.unwrap(), []);
    assert_eq!(greatest.all_numbered().await.unwrap(), []);
    assert_eq!(finished(&server.client, &run).await["status"], "aborted");
    for after in [1000, u64::MAX] {
        let over = events(&server.client, &run, after).await;
        assert_eq!(over.status, 200);
        assert_eq!(over.all_numbered().await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_aborted_run_is_aborted_and_not_completed_everywhere() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("stop");
    let run = begin(&client, "HANG").await;
    let waiting = begin(&client, "never said").await;
    let mut live = events(&client, &run, 0).await;
    while live.next_numbered().await.unwrap().unwrap().1["status"] != "pushed" {}
    assert_eq!(client.get(&format!("/v1/runs/{waiting}")).await.json()["status"], "queued");
    let first = events(&client, &waiting, 1).await.next_numbered().await.unwrap().unwrap();
    assert_eq!(first.1, json!({ "type": "status", "status": "queued", "position": 1 }));
    for run in [&waiting, &run] {
        let abort = client.request("POST", &format!("/v1/runs/{run}/abort"), Bytes::new()).await;
        assert_eq!(abort.status, 202);
        let run = finished(&client, run).await;
        assert_eq!((&run["status"], &run["error"]), (&json!("aborted"), &Value::Null));
        let again = client
            .request(
                "POST",
                &format!("/v1/runs/{}/abort", run["id"].as_str().unwrap()),
                Bytes::new(),
            )
            .await;
        assert_eq!(told(&again), (409, "run_finished".to_owned()));
        let response = run["id"].as_str().unwrap().replace("run_", "resp_");
        let response = client.get(&format!("/v1/responses/{response}")).await.json();
        assert_eq!(response["status"], "cancelled");
    }
    let key = client.get(&format!("/v1/runs/{run}")).await.json();
    let messages =
        crate::sessions_api::messages(&client, key["session"].as_str().unwrap(), "").await;
    let states: Vec<_> =
        messages["data"].as_array().unwrap().iter().map(|m| &m["status"]).collect();
    assert_eq!(states, [&Value::Null, &json!("aborted"), &Value::Null, &json!("aborted")]);
    // The session is none the worse.
    assert_eq!(client.chat("after").await.content(), "echo: after");
}

#[tokio::test]
async fn a_run_goes_on_when_nobody_reads_and_a_failed_one_says_why() {
    let server = Server::start(Options::default()).await;
    let run = begin(&server.client, "SLOW 200 SAY there").await;
    drop(events(&server.client, &run, 0).await);
    assert_eq!(finished(&server.client, &run).await["status"], "completed");
    let run = begin(&server.client, "API_ERROR 500").await;
    let run = finished(&server.client, &run).await;
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!("model_error")));
}

#[tokio::test]
async fn a_key_begins_one_run_whatever_the_connection_does() {
    let server = Server::start(Options::default()).await;
    let client = server.client.with("idempotency-key", "k1");
    let body = json!({ "input": "CHUNKS 3 50", "session": "keyed" });
    let begun = client.post("/v1/runs", &body).await;
    assert_eq!(begun.status, 201);
    let again = client.post("/v1/runs", &body).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &begun.json()["id"]));
    let run = begun.json()["id"].as_str().unwrap().to_owned();
    finished(&client, &run).await;
    let after = client.post("/v1/runs", &body).await;
    assert_eq!((after.status, &after.json()["id"]), (200, &begun.json()["id"]));
    assert_eq!(after.json()["status"], "completed");
    let other = client.post("/v1/runs", &json!({ "input": "other", "session": "keyed" })).await;
    assert_eq!(told(&other), (422, "idempotency_key_reused".to_owned()));
    // The same key and body are another request to another API.
    let messages = client.chat("x").await;
    assert_eq!(told(&messages), (422, "idempotency_key_reused".to_owned()));
}

#[tokio::test]
async fn the_header_names_the_session_before_the_body_and_a_key_is_a_name() {
    let server = Server::start(Options::default()).await;
    let session_of = async |client: &Client, body: Value| {
        let run = client.post("/v1/runs", &body).await.json();
        run["session"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned()
    };
    let by_body = session_of(&server.client, json!({ "input": "a", "session": "b" })).await;
    assert_eq!(by_body, "5:local,7:session,1:b,");
    let header = server.client.session("h");
    let by_header = session_of(&header, json!({ "input": "a", "session": "b" })).await;
    assert_eq!(by_header, "5:local,7:session,1:h,");
    let by_key = session_of(&server.client.session(&by_body), json!({ "input": "a" })).await;
    assert_eq!(by_key, by_body);
    let by_key = session_of(&server.client, json!({ "input": "a", "session": by_header })).await;
    assert_eq!(by_key, by_header);
}

#[tokio::test]
async fn what_a_run_cannot_be_is_refused_with_its_name() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    for (body, status, param) in [
        (json!({}), 400, "input"),
        (json!({ "input": " " }), 400, "input"),
        (json!({ "input": [] }), 400, "input"),
        (
            json!({ "input": { "text": "a", "files": [{ "data": "/etc/passwd" }] } }),
            400,
            "input.files.[0].data",
        ),
        (
            json!({ "input": { "text": "a", "files": [{ "data": "data:image/png;base64,aGk=" }] } }),
            400,
            "input.files.[0].data",
        ),
        (json!({ "input": "a", "model": "none" }), 404, "model"),
        (json!({ "input": "a", "workspace": "../etc" }), 400, "workspace"),
        (json!({ "input": "a", "session": "x".repeat(513) }), 400, "session"),
        (json!({ "input": "a", "stream": true }), 400, ""),
        (json!({ "input": "x".repeat(512 * 1024 + 1) }), 413, "messages"),
    ] {
        let reply = client.post("/v1/runs", &body).await;
        let error = &reply.json()["error"];
        let param = Some(param).filter(|param| !param.is_empty());
        assert_eq!((reply.status, error["param"].as_str()), (status, param), "{error}");
    }
    for key in ["", "x\ty", &"x".repeat(256)] {
        let reply =
            client.with("idempotency-key", key).post("/v1/runs", &json!({ "input": "a" })).await;
        assert_eq!(told(&reply), (400, "invalid_header".to_owned()), "{key}");
    }
    assert!(server.claudes().is_empty(), "nothing was spawned");
}

#[tokio::test]
async fn an_unknown_run_is_404_and_a_place_that_is_no_number_400() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    let none = format!("run_{}", "0".repeat(32));
    for id in [&*none, "run_", "x", "..%2f..%2fetc%2fpasswd", "%00", "%ff", &"9".repeat(8192)] {
        for (method, rest) in [("GET", ""), ("GET", "/events"), ("POST", "/abort")] {
            let reply = client.request(method, &format!("/v1/runs/{id}{rest}"), Bytes::new()).await;
            assert_eq!(told(&reply), (404, "unknown_run".to_owned()), "{method} {id}{rest}");
        }
    }
    let run = begin(client, "hello").await;
    finished(client, &run).await;
    let path = format!("/v1/runs/{run}/events");
    for place in ["x", "-1", "1.5", "", "0x10", "99999999999999999999999"] {
        let reply = client.with("last-event-id", place).get(&path).await;
        assert_eq!(told(&reply), (400, "invalid_header".to_owned()), "{place}");
        let reply = client.get(&format!("{path}?after={place}")).await;
        assert_eq!(told(&reply), (400, "invalid_query".to_owned()), "{place}");
    }
    for (method, path, allow) in [
        ("PUT", "/v1/runs".to_owned(), "POST"),
        ("DELETE", format!("/v1/runs/{run}"), "GET, HEAD"),
        ("POST", format!("/v1/runs/{run}/events"), "GET, HEAD"),
        ("PATCH", "/v1/sessions/x".to_owned(), "GET, DELETE, HEAD"),
    ] {
        let reply = client.request(method, &path, Bytes::new()).await;
        assert_eq!(told(&reply), (405, "method_not_allowed".to_owned()), "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn a_reader_before_what_retention_kept_is_told_where_to_go_on() {
    let server = Server::start(Options::default()).await;
    let run = begin(&server.client, "CHUNKS 3").await;
    finished(&server.client, &run).await;
    let last = events(&server.client, &run, 0).await.all_numbered().await.unwrap().len();
    // As retention leaves it: SQL of its own, for it waits for days.
    let database = rusqlite::Connection::open(server.state.join("frontd/synthesis.db")).unwrap();
    let changed = database.execute_batch(
        "DELETE FROM events WHERE (id & 4294967295) < 4; UPDATE runs SET first_seq = 4",
    );
    changed.unwrap();
    let reply = server.client.get(&format!("/v1/runs/{run}/events?after=2")).await;
    assert_eq!(told(&reply), (410, "events_gone".to_owned()));
    assert_eq!(reply.header("x-synthesis-first-id"), Some("4"));
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("before 4 ") && message.ends_with("?after=3"), "{message}");
    let rest = events(&server.client, &run, 3).await.all_numbered().await.unwrap();
    assert_eq!(
        rest.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
        (4..=last as u64).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_document_of_all_routes_is_served() {
    let server = Server::start(Options::default()).await;
    let reply = server.client.get("/openapi.json").await;
    assert_eq!((reply.status, &reply.json()["openapi"]), (200, &json!("3.2.0")));
}
