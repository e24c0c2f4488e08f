//! Who sees to a server that many share: what an administrator may see and end, and what not; and
//! the commands that ask for it.

use std::process::{Command, Output};

use bytes::Bytes;
use serde_json::{Value, json};
use tests::harness::client::PATIENCE;
use tests::harness::required::{ALICE, BOB, Required, Wanted};
use tests::harness::{Client, TwoDaemons, binary, have_root};

use crate::sessions_api::path;

const ALICES: &str = "5:alice,7:session,1:s,";
const BOBS: &str = "3:bob,7:session,1:s,";

fn stop_of(key: &str) -> String {
    format!("{}/stop", path(key))
}

async fn post(client: &Client, path: &str) -> tests::harness::Reply {
    client.request("POST", path, Bytes::new()).await
}

fn keys(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "not in time: {what}");
}

#[tokio::test]
async fn people_come_in_by_token_and_by_their_own_socket() {
    if !have_root() {
        return;
    }
    let server = Required::start(Wanted::default()).await;
    assert_eq!(server.client.get("/v1/models").await.status, 401);
    let token = server.token(&["--user", "alice"]);
    for client in [server.bearer(&token), server.peer(ALICE), server.peer(BOB)] {
        let reply = client.session("s").chat("hello").await;
        assert_eq!(reply.status, 200, "{} {}", reply.text(), server.log());
        assert_eq!(reply.content(), "echo: hello");
    }
    // alice's two are one, whichever way she came.
    assert_eq!(server.claudes().len(), 2, "{}", server.log());
}

#[tokio::test]
async fn an_administrator_sees_and_stops_what_is_others_and_reads_none_of_it() {
    if !have_root() {
        return;
    }
    let server = Required::start(Wanted::default()).await;
    let (alice, bob, root) = (server.peer(ALICE), server.peer(BOB), server.peer(0));
    for client in [&alice, &bob] {
        client.session("s").chat("hello").await.content();
    }
    let admin = server.bearer(&server.token(&["--user", "alice", "--scope", "admin"]));
    let both = server.bearer(&server.token(&["--user", "alice", "--scope", "chat,admin"]));

    // Who sees whom.
    for (client, query, seen) in [
        (&alice, "", &[ALICES][..]),
        (&bob, "?all=false", &[BOBS]),
        (&root, "", &[BOBS, ALICES]),
        (&admin, "", &[BOBS, ALICES]),
        (&both, "", &[ALICES]),
        (&both, "?all=true", &[BOBS, ALICES]),
    ] {
        let list = client.get(&format!("/v1/sessions{query}")).await;
        assert_eq!(keys(&list.json()), seen, "{query} {}", list.text());
    }
    let list = root.get("/v1/sessions").await.json();
    assert_eq!(
        (&list["data"][0]["principal"], &list["data"][0]["user"]),
        (&json!("bob"), &json!("bob"))
    );
    assert_eq!(bob.get("/v1/sessions?all=true").await.status, 403);
    assert_eq!(bob.get("/v1/status").await.status, 403);
    let status = root.get("/v1/status").await.json();
    assert_eq!((&status["spawnd"], &status["principals"]), (&json!(true), &json!(2)));
    assert_eq!(status["sessions"], json!({"stored": 2, "waiting": 0, "ready": 2, "busy": 0}));

    // Others' sessions do not exist for a user; for an administrator they are there, unread.
    assert_eq!(alice.get(&path(BOBS)).await.status, 404);
    assert_eq!(post(&alice, &stop_of(BOBS)).await.status, 404);
    for client in [&root, &admin] {
        assert_eq!(client.get(&path(BOBS)).await.status, 200);
        let messages = format!("{}/messages", path(BOBS));
        assert_eq!(client.get(&messages).await.status, 403);
        assert_eq!(client.request("DELETE", &path(BOBS), Bytes::new()).await.status, 403);
        assert_eq!(client.session("s").chat("mine").await.status, 403);
    }
    assert_eq!(both.get(&path(BOBS)).await.status, 200);
    assert_eq!(both.get(&format!("{}/messages", path(BOBS))).await.status, 404);
    assert_eq!(both.request("DELETE", &path(BOBS), Bytes::new()).await.status, 404);
    for foreign in
        ["nonsense", "3:bob,7:session,1:t,", "3:bob,7:session,01:s,", "0:,7:session,1:s,"]
    {
        assert_eq!(root.get(&path(foreign)).await.status, 404, "{foreign}");
        assert_eq!(post(&root, &stop_of(foreign)).await.status, 404, "{foreign}");
    }

    // Stopped while it works: the run is aborted, the process ends, the conversation stays.
    let run = bob.session("s").post("/v1/runs", &json!({ "input": "HANG" })).await.json();
    let run = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    until("at work", async || bob.get(&path(BOBS)).await.json()["state"] == "busy").await;
    assert_eq!(post(&root, &stop_of(BOBS)).await.status, 202);
    until("aborted", async || bob.get(&run).await.json()["status"] == "aborted").await;
    until("no process", async || bob.get(&path(BOBS)).await.json()["process"] == false).await;
    assert_eq!(alice.get(&path(ALICES)).await.json()["process"], json!(true));
    assert_eq!(post(&bob, &stop_of(BOBS)).await.status, 202, "again, and its own");
    assert_eq!(bob.session("s").chat("back").await.content(), "echo: back");
}

#[tokio::test]
async fn a_session_that_is_stopped_while_it_starts_does_not_stay() {
    let fake = Some(json!({ "registration_delay_ms": 1500 }));
    let wanted = tests::harness::Wanted { fake, ..tests::harness::Wanted::default() };
    let daemons = TwoDaemons::start(wanted).await;
    let client = daemons.client.session("s");
    let run = client.post("/v1/runs", &json!({ "input": "hello" })).await.json();
    let run = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    until("a claude", async || daemons.claudes().len() == 1).await;
    let key = "5:local,7:session,1:s,";
    assert_eq!(post(&client, &stop_of(key)).await.status, 202);
    until("aborted", async || client.get(&run).await.json()["status"] == "aborted").await;
    until("no claude", async || daemons.claudes().is_empty()).await;
    assert_eq!(client.chat("again").await.content(), "echo: again");
}

/// `frontd ARGUMENTS` as `uid`.
fn frontd(uid: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    let (uid, program) = (uid.to_string(), binary("frontd"));
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(program);
    command.args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_commands_ask_over_the_socket_and_over_tcp() {
    if !have_root() {
        return;
    }
    let server = Required::start(Wanted::default()).await;
    let socket = server.socket.to_str().unwrap();
    let of = async |uid: u32, arguments: &[&str]| {
        let arguments: Vec<String> =
            [arguments, &["--socket", socket]].concat().iter().map(ToString::to_string).collect();
        let asked = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            frontd(uid, &arguments)
        };
        tokio::task::spawn_blocking(asked).await.unwrap()
    };
    // More than a page, and a name that a terminal would obey.
    let evil = "\u{1b}[2J%1b\n";
    let body = |session: &str| json!({ "input": "hello", "session": session });
    server.peer(ALICE).post("/v1/runs", &body(evil)).await;
    server.peer(BOB).session("s").chat("hello").await.content();

    let all = of(0, &["sessions"]).await;
    let shown = text(&all.stdout);
    assert!(all.status.success(), "{}", text(&all.stderr));
    assert!(shown.contains("bob") && shown.contains("alice"), "{shown}");
    assert!(shown.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)), "{shown:?}");
    let own = text(&of(BOB, &["sessions"]).await.stdout);
    assert!(own.contains(BOBS) && !own.contains("alice"), "{own}");
    let json = of(0, &["sessions", "--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(keys(&json).len(), 2);

    let status = of(0, &["status"]).await;
    assert!(text(&status.stdout).contains("connected"), "{}", text(&status.stdout));
    for refused in [
        of(BOB, &["status"]).await,
        of(BOB, &["sessions", "--all"]).await,
        of(BOB, &["stop", ALICES]).await,
        of(0, &["stop", "\u{1b}[2J"]).await,
        frontd(0, &["status", "--socket", "/nonexistent/\u{1b}[2J"]),
        frontd(0, &["status", "--http", &server.address().to_string()]),
    ] {
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        assert!(refused.stdout.is_empty() && error.lines().count() == 1, "{error}");
        assert!(error.starts_with("frontd: ") && !error.contains('\u{1b}'), "{error:?}");
    }
    assert!(of(0, &["stop", BOBS]).await.status.success());
    until("bob's process is gone", async || {
        server.peer(BOB).get(&path(BOBS)).await.json()["process"] == false
    })
    .await;

    let token = server.token(&["--user", "alice", "--scope", "admin"]);
    let file = server.place.path.join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let (address, file) = (server.address().to_string(), file.to_str().unwrap().to_owned());
    let over_tcp = tokio::task::spawn_blocking(move || {
        frontd(0, &["status", "--json", "--http", &address, "--token-file", &file])
    });
    let status: Value = serde_json::from_slice(&over_tcp.await.unwrap().stdout).unwrap();
    assert_eq!(status["object"], "status");
}
