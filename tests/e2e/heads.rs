//! What the head of a response says: the same for HEAD as for GET, and which run an error is about.

use bytes::Bytes;
use serde_json::json;
use tests::harness::{Options, Reply, Server};

use crate::runs::begin;

#[tokio::test]
async fn head_is_answered_wherever_get_is() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("one");
    let run = begin(&client, "SLOW 300 hello").await;
    let events = format!("/v1/runs/{run}/events");
    for path in ["/health", "/ready", "/openapi.json", "/v1/models", "/v1/sessions", &*events] {
        let reply = client.request("HEAD", path, Bytes::new()).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{path}");
        assert!(reply.headers.contains_key("content-type"), "{path}");
    }
    let (head, get) = (client.request("HEAD", "/v1/runs/none", Bytes::new()).await, 404);
    assert_eq!((head.status, head.body.len()), (get, 0));
    for (path, allowed) in [("/v1/runs", "POST"), ("/v1/models", "GET, HEAD")] {
        let reply = client.request("PUT", path, Bytes::new()).await;
        assert_eq!((reply.status, &reply.headers["allow"]), (405, &allowed.parse().unwrap()));
    }
}

#[tokio::test]
async fn an_error_names_the_run_that_it_is_about() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("one");
    let named = |reply: &Reply| -> Option<String> {
        Some(reply.headers.get("x-synthesis-run")?.to_str().unwrap().to_owned())
    };
    let ways = [
        client.chat("API_ERROR 529").await,
        client.post("/v1/responses", &json!({ "input": "API_ERROR 529" })).await,
    ];
    for reply in ways {
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert!(reply.headers.contains_key("x-synthesis-session"));
        let run = named(&reply).expect("it is about a run");
        let found = client.get(&format!("/v1/runs/{run}")).await.json();
        assert_eq!(found["status"], "failed");
        let late = client.post(&format!("/v1/runs/{run}/abort"), &json!({})).await;
        assert_eq!((late.status, named(&late)), (409, Some(run)));
    }
    let refused = client.post("/v1/runs", &json!({})).await;
    assert_eq!((refused.status, named(&refused)), (400, None));
}
