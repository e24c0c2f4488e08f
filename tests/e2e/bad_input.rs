//! What bad input gets: the right status, an error object, and a server that goes on.

use bytes::Bytes;
use serde_json::{Value, json};
use tests::harness::{Options, Reply, Server, client, have_root};

fn error(reply: &Reply) -> (u16, Value) {
    let json = reply.json();
    assert!(json["error"]["message"].is_string(), "{json}");
    (reply.status, json["error"].clone())
}

#[tokio::test]
async fn every_broken_body_is_400_with_its_param() {
    let server = Server::start(Options::default()).await;
    let cases = [
        ("", ""),
        ("{", ""),
        ("null", ""),
        ("[]", ""),
        ("{}", "messages"),
        (r#"{"messages": null}"#, "messages"),
        (r#"{"messages": []}"#, "messages"),
        (r#"{"messages": [{"role": "assistant", "content": "x"}]}"#, "messages"),
        (r#"{"messages": [{"role": "user", "content": 7}]}"#, "messages"),
        (r#"{"messages": [{"role": "user", "content": ""}]}"#, "messages"),
        (r#"{"messages": [{"role": "emperor", "content": "x"}]}"#, "messages"),
        (r#"{"stream": "yes", "messages": [{"role": "user", "content": "x"}]}"#, "stream"),
        (r#"{"model": 7, "messages": [{"role": "user", "content": "x"}]}"#, "model"),
        ("\u{0}\u{1}", ""),
    ];
    for (body, param) in cases {
        let reply = server.client.request("POST", "/v1/chat/completions", body.into()).await;
        let (status, error) = error(&reply);
        assert_eq!(status, 400, "{body}: {error}");
        let named = error["param"].as_str().unwrap_or_default();
        assert!(named.starts_with(param), "{body}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let reply = server.client.request("POST", "/v1/chat/completions", deep.into()).await;
    assert_eq!(reply.status, 400);
    assert_eq!(server.client.get("/health").await.status, 200);
    assert!(server.claudes().is_empty(), "nothing was spawned");
}

#[tokio::test]
async fn too_much_is_413() {
    let config = "[limits]\nbody_max_bytes = 2000000\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let body: Bytes = client::message(&"x".repeat(2_000_000)).to_string().into();
    let reply = server.client.request("POST", "/v1/chat/completions", body).await;
    assert_eq!((reply.status, &*reply.error_code()), (413, "body_too_large"));
    let reply = server.client.chat(&"x".repeat(512 * 1024 + 1)).await;
    assert_eq!((reply.status, &*reply.error_code()), (413, "message_too_large"));
    // Each control character becomes six bytes in JSON: too long for a frame all the same.
    let reply = server.client.chat(&"\u{1}".repeat(300 * 1024)).await;
    assert_eq!((reply.status, &*reply.error_code()), (413, "message_too_large"));
}

#[tokio::test]
async fn the_largest_message_passes() {
    let server = Server::start(Options::default()).await;
    let text = format!("SAY ok\n{}", "x".repeat(512 * 1024 - 16));
    assert_eq!(server.client.chat(&text).await.status, 200);
}

#[tokio::test]
async fn unknown_models_routes_and_methods() {
    let server = Server::start(Options::default()).await;
    let body = json!({ "model": "gpt-9", "messages": [{ "role": "user", "content": "x" }] });
    let reply = server.client.post("/v1/chat/completions", &body).await;
    assert_eq!(error(&reply).0, 404);
    assert_eq!(reply.json()["error"]["param"], "model");
    assert_eq!(error(&server.client.get("/v1/nothing").await).0, 404);
    let reply = server.client.get("/v1/chat/completions").await;
    assert_eq!(error(&reply).0, 405);
    assert_eq!(reply.header("allow"), Some("POST"));

    let models = server.client.get("/v1/models").await.json();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["synthesis", "synthesis-claude-bridge"]);
    assert_eq!(server.client.get("/v1/models/synthesis").await.json()["object"], "model");
    assert_eq!(error(&server.client.get("/v1/models/none").await).0, 404);
}

#[tokio::test]
async fn bad_workspaces_name_their_path() {
    let server = Server::start(Options::default()).await;
    let of = |path: String| {
        let client = server.client.session(&path).with("x-openclaw-workspace", &path);
        async move { client.chat("hello").await }
    };
    let inside = |name: &str| format!("{}/workspace/{name}", server.state.display());
    std::fs::create_dir_all(server.state.join("workspace")).unwrap();
    let file = inside("file");
    std::fs::write(&file, "").unwrap();
    let link = inside("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let cases = [
        ("relative".to_owned(), 400, "workspace_unusable"),
        (inside("../x"), 400, "workspace_unusable"),
        (inside("missing"), 400, "workspace_unusable"),
        (file, 400, "workspace_unusable"),
        (link, 400, "workspace_unusable"),
        ("/etc".to_owned(), 400, "workspace_not_allowed"),
    ];
    for (path, status, code) in cases {
        let reply = of(path.clone()).await;
        assert_eq!(
            (reply.status, &*reply.error_code()),
            (status, code),
            "{path}: {}",
            reply.text()
        );
        let last = path.rsplit('/').next().unwrap().to_owned();
        assert!(reply.text().contains(&last), "{path}: {}", reply.text());
    }
    // A session whose first folder was refused may start in another.
    let client = server.client.session("/etc");
    assert_eq!(client.chat("hello").await.content(), "echo: hello");
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_403() {
    let server = Server::start(Options::default()).await;
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let reply = server.client.with(name, value).chat("hello").await;
        assert_eq!(error(&reply).0, 403, "{name}: {value}");
    }
    let port = server.client.address.port();
    let local = server.client.with("origin", &format!("http://localhost:{port}"));
    assert_eq!(local.get("/health").await.status, 200);
    assert!(server.claudes().is_empty(), "nothing was spawned");
}

#[tokio::test]
async fn another_local_user_is_403() {
    if !have_root() {
        return;
    }
    let server = Server::start(Options { as_user: Some("daemon"), ..Options::default() }).await;
    let url = format!("http://{}/health", server.client.address);
    let script = format!(
        "import urllib.request, urllib.error\n\
         try:\n    print(urllib.request.urlopen('{url}').status)\n\
         except urllib.error.HTTPError as e:\n    print(e.code)\n"
    );
    let ask = |user: &str| {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--clear-groups", "/usr/bin/python3", "-c"])
            .arg(&script)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ask("games"), "403");
    assert_eq!(ask("daemon"), "200");
}

#[tokio::test]
async fn a_slow_head_does_not_hold_a_connection_for_ever() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(Options::default()).await;
    let mut stream = tokio::net::TcpStream::connect(server.client.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: local").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(client::PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "closed by the server");
}
