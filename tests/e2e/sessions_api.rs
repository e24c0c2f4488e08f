//! Sessions by their keys: a key is a name to compare, whatever it looks like.

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tests::harness::{Client, Options, Server};

use crate::runs::{begin, events, finished, until};

pub(crate) fn path(key: &str) -> String {
    format!("/v1/sessions/{}", utf8_percent_encode(key, NON_ALPHANUMERIC))
}

pub(crate) async fn messages(client: &Client, key: &str, query: &str) -> Value {
    let reply = client.get(&format!("{}/messages{query}", path(key))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn texts(page: &Value) -> Vec<String> {
    let text = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("+")
    };
    page["data"].as_array().unwrap().iter().map(text).collect()
}

const KEY: &str = "5:local,7:session,1:s,";

#[tokio::test]
async fn a_session_is_shown_from_its_first_message_to_its_end() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("s");
    assert_eq!(
        client.get("/v1/sessions").await.json(),
        json!({ "object": "list", "data": [], "more": false })
    );
    let run = begin(&client, "SLOW 300").await;
    let shown = client.get(&path(KEY)).await.json();
    assert_eq!(
        (&shown["key"], &shown["object"], &shown["runs_open"]),
        (&json!(KEY), &json!("session"), &json!(1))
    );
    let listed = client.get("/v1/sessions").await.json();
    assert_eq!(listed["data"][0]["key"], KEY);
    finished(&client, &run).await;
    let shown = client.get(&path(KEY)).await.json();
    assert_eq!((&shown["runs_open"], &shown["process"]), (&json!(0), &json!(true)), "{shown}");
    assert_eq!(shown["state"], "ready");
    let workspace = server.state.join("workspace");
    assert_eq!(shown["workspace"].as_str(), workspace.to_str());
    assert!(
        shown["user"].is_string() && shown["created_at"].as_u64() <= shown["last_used_at"].as_u64()
    );
    let busy = begin(&client, "HANG").await;
    until(&mut events(&client, &busy, 0).await, "status").await;
    assert_eq!(client.get(&path(KEY)).await.json()["state"], "busy");
}

#[tokio::test]
async fn the_list_goes_page_by_page_and_misses_none() {
    let server = Server::start(Options::default()).await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        server.client.session(name).chat("hello").await.content();
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.client.get(&format!("/v1/sessions?limit=2{after}")).await.json();
        let keys = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["key"].as_str().unwrap().to_owned());
        found.extend(keys);
        if page["more"] == json!(false) {
            break;
        }
        let last = utf8_percent_encode(found.last().unwrap(), NON_ALPHANUMERIC).to_string();
        after = format!("&after={last}");
        assert!(found.len() <= names.len());
    }
    let wanted: Vec<String> =
        names.iter().map(|name| format!("5:local,7:session,1:{name},")).collect();
    assert_eq!(found, wanted);
    for bad in ["limit=0", "limit=101", "limit=x", "limit=1&limit=2", "after=%ff"] {
        let reply = server.client.get(&format!("/v1/sessions?{bad}")).await;
        assert_eq!((reply.status, &*reply.error_code()), (400, "invalid_query"), "{bad}");
    }
}

#[tokio::test]
async fn messages_tell_who_said_what_and_what_is_not_finished() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("s");
    client.chat("SAY one").await.content();
    let body = json!({ "input": { "text": "CHUNKS 2", "id": "mine" } });
    let run = client.post("/v1/runs", &body).await.json()["id"].as_str().unwrap().to_owned();
    finished(&client, &run).await;
    let open = begin(&client, "HANG").await;
    let mut stream = events(&client, &open, 0).await;
    while until(&mut stream, "status").await.1["status"] != "pushed" {}
    let page = messages(&client, KEY, "").await;
    let data = page["data"].as_array().unwrap();
    let roles: Vec<_> = data.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user", "assistant"]);
    assert_eq!(texts(&page)[..2], ["SAY one", "one"]);
    assert_eq!((&data[2]["id"], &data[3]["run"]), (&json!("mine"), &json!(run)));
    let streaming: Vec<_> =
        data.iter().map(|message| message["streaming"].as_bool().unwrap()).collect();
    assert_eq!(streaming, [false, false, false, false, false, true]);
    assert_eq!((&data[5]["status"], &data[5]["run"]), (&json!("running"), &json!(open)));
    let mut keys: Vec<_> = data[4].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["id", "parts", "role", "streaming", "timestamp"]);

    let newest = messages(&client, KEY, "?limit=1").await;
    assert_eq!(newest["data"].as_array().unwrap()[..], data[4..]);
    let before = newest["before"].as_u64().unwrap();
    let older = messages(&client, KEY, &format!("?limit=2&before={before}")).await;
    assert_eq!(
        (&older["data"].as_array().unwrap()[..], &older["before"]),
        (&data[..4], &Value::Null)
    );
    for bad in ["limit=0", "before=0", "before=x", "limit=1000"] {
        let reply = client.get(&format!("{}/messages?{bad}", path(KEY))).await;
        assert_eq!((reply.status, &*reply.error_code()), (400, "invalid_query"), "{bad}");
    }
    begin(&client, "hello").await;
    let waiting = messages(&client, KEY, "?limit=1").await;
    assert_eq!(waiting["data"][1]["status"], "queued");
}

#[tokio::test]
async fn a_key_is_never_a_path() {
    let server = Server::start(Options::default()).await;
    let client = &server.client;
    let passwd = std::fs::metadata("/etc/passwd").unwrap().modified().unwrap();
    let traversal = "../../../../../../etc/passwd";
    // As a name it is a session like any other.
    client.session(traversal).chat("hello").await.content();
    let key = format!("5:local,7:session,{}:{traversal},", traversal.len());
    assert_eq!(client.get(&path(&key)).await.json()["key"], key);
    let long = "x".repeat(8192);
    let netstring = format!("5:local,7:session,8192:{long},");
    for foreign in [
        traversal,
        "/etc/passwd",
        "../frontd/synthesis.db",
        "%2e%2e%2f",
        "..",
        "a\0b",
        "\0",
        &long,
        &netstring,
        "s",
        "6:remote,7:session,1:s,",
        "5:local,7:session,0:,",
        &key.to_uppercase(),
        &format!("{key} "),
        "' OR 1=1 --",
        "%",
        "_",
    ] {
        for (method, rest) in [("GET", ""), ("GET", "/messages"), ("DELETE", "")] {
            let path = format!("{}{rest}", path(foreign));
            let reply = client.request(method, &path, Bytes::new()).await;
            let told = (reply.status, &*reply.error_code());
            assert_eq!(told, (404, "unknown_session"), "{method} {path}");
        }
    }
    for raw in [
        "/v1/sessions/../../etc/passwd",
        "/v1/sessions/..",
        "/v1/sessions/%2e%2e%2f",
        "/v1/sessions/",
        "/v1/sessions/%ff",
    ] {
        assert_eq!(client.get(raw).await.status, 404, "{raw}");
    }
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().modified().unwrap(), passwd);
    assert_eq!(client.get(&path(&key)).await.status, 200);
}

#[tokio::test]
async fn a_forgotten_session_is_gone_with_its_process_and_its_runs() {
    let server = Server::start(Options::default()).await;
    let client = server.client.session("s");
    client.chat("first").await.content();
    let run = begin(&client, "HANG").await;
    let reader = events(&client, &run, 0).await;
    let other = server.client.session("other");
    other.chat("stays").await.content();
    let gone = client.request("DELETE", &path(KEY), Bytes::new()).await;
    assert_eq!((gone.status, &gone.body[..]), (204, &b""[..]));
    let last = reader.all_numbered().await.unwrap().pop().unwrap();
    assert_eq!(last.1["outcome"], "aborted");
    assert_eq!(server.claudes().len(), 1, "the other's");
    for unknown in [path(KEY), format!("{}/messages", path(KEY)), format!("/v1/runs/{run}")] {
        assert_eq!(client.get(&unknown).await.status, 404, "{unknown}");
    }
    assert_eq!(client.request("DELETE", &path(KEY), Bytes::new()).await.status, 404);
    let listed = client.get("/v1/sessions").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    // The name is free: another conversation has it now.
    assert_eq!(client.chat("again").await.content(), "echo: again");
    assert_eq!(texts(&messages(&client, KEY, "").await), ["again", "echo: again"]);
}

#[tokio::test]
async fn a_cold_session_is_forgotten_too() {
    let server = Server::start(Options::default()).await;
    server.client.session("s").chat("first").await.content();
    let server = server.restart().await;
    assert_eq!(server.client.get(&path(KEY)).await.json()["state"], "cold");
    assert_eq!(server.client.request("DELETE", &path(KEY), Bytes::new()).await.status, 204);
    assert_eq!(server.client.get(&path(KEY)).await.status, 404);
    assert!(server.claudes().is_empty(), "nothing was started for it");
}
