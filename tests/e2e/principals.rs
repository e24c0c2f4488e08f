//! Many clients on one server: who is let in, what each sees, as whom its sessions run, and what
//! it may use.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::required::{ALICE, BOB, FRONTD, Required, Wanted};
use tests::harness::{Caller, Client, Reply, have_root};

use crate::runs::{begin, events, finished, until};
use crate::sessions_api::path;

async fn server(wanted: Wanted) -> Option<Required> {
    if have_root() { Some(Required::start(wanted).await) } else { None }
}

fn told(reply: &Reply) -> (u16, String) {
    (reply.status, reply.error_code())
}

/// The uid of the process `pid`.
fn uid_of(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

fn key_of(principal: &str, name: &str) -> String {
    format!("{}:{principal},7:session,{}:{name},", principal.len(), name.len())
}

#[tokio::test]
async fn over_tcp_a_token_is_needed_and_over_the_unix_socket_the_kernels_word_is_enough() {
    let Some(server) = server(Wanted::default()).await else { return };
    let refused = server.client.get("/v1/models").await;
    assert_eq!(told(&refused), (401, "invalid_api_key".into()));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("connection"), Some("close"));
    for wrong in ["syn-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "unused", "a\tb"] {
        let reply = server.bearer(wrong).chat("hello").await;
        assert_eq!(told(&reply), (401, "invalid_api_key".into()), "{wrong}");
        assert!(!reply.text().contains(wrong), "a token is told to nobody");
    }
    let basic = server.client.with("authorization", "Basic eDp5").get("/v1/models").await;
    assert_eq!(basic.status, 401);
    for open in ["/health", "/ready", "/openapi.json"] {
        assert_eq!(server.client.get(open).await.status, 200, "{open}");
    }

    let token = server.token(&["--user", "alice"]);
    let reply = server.bearer(&token).chat("SAY by token").await;
    assert_eq!((reply.status, reply.content()), (200, "by token".into()), "{}", server.log());
    let peer = server.peer(ALICE).session("p");
    assert_eq!(peer.chat("SAY by peer").await.content(), "by peer");
    // Libraries insist on a key: one that is none of ours counts for nothing here, one of ours does.
    let unused = peer.with("authorization", "Bearer unused");
    assert_eq!(unused.chat("SAY still").await.content(), "still");
    let wrong = peer.with("authorization", "Bearer syn-wrong").chat("hello").await;
    assert_eq!(told(&wrong), (401, "invalid_api_key".into()));
    assert!(!server.log().contains(&token), "a token is in no log");
}

#[tokio::test]
async fn each_session_runs_as_its_own_clients_user_in_that_users_workspace() {
    let Some(server) = server(Wanted::default()).await else { return };
    let [alice, bob] = [ALICE, BOB].map(|uid| server.peer(uid).session("same"));
    let (one, other) = tokio::join!(alice.chat("SAY a"), bob.chat("SAY b"));
    assert_eq!((one.content(), other.content()), ("a".into(), "b".into()), "{}", server.log());
    let mut uids: Vec<u32> = server.claudes().into_iter().map(uid_of).collect();
    uids.sort_unstable();
    assert_eq!(uids, [ALICE, BOB]);
    for (client, name) in [(&alice, "alice"), (&bob, "bob")] {
        let shown = client.get(&path(&key_of(name, "same"))).await.json();
        assert_eq!(shown["user"], *name);
        assert_eq!(shown["workspace"].as_str(), server.workspace(name).to_str());
    }
    // A token of alice's is alice: the same session, the same process.
    let token = server.token(&["--user", "alice"]);
    assert_eq!(server.bearer(&token).session("same").chat("SAY again").await.content(), "again");
    assert_eq!(server.claudes().len(), 2);
}

#[tokio::test]
async fn what_belongs_to_another_principal_does_not_exist() {
    let Some(server) = server(Wanted::default()).await else { return };
    let [alice, bob] = [ALICE, BOB].map(|uid| server.peer(uid).session("same"));
    let run = begin(&alice, "SLOW 500 SAY secret").await;
    assert_eq!(bob.chat("SAY mine").await.status, 200);
    let key = key_of("alice", "same");
    for (method, path) in [
        ("GET", format!("/v1/runs/{run}")),
        ("GET", format!("/v1/runs/{run}/events")),
        ("POST", format!("/v1/runs/{run}/abort")),
        ("GET", format!("/v1/responses/resp_{}", &run[4..])),
        ("POST", format!("/v1/responses/resp_{}/cancel", &run[4..])),
        ("GET", path(&key)),
        ("GET", format!("{}/messages", path(&key))),
        ("DELETE", path(&key)),
    ] {
        let reply = bob.request(method, &path, bytes::Bytes::new()).await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
    }
    let continued =
        json!({ "input": "hello", "previous_response_id": format!("resp_{}", &run[4..]) });
    assert_eq!(bob.post("/v1/responses", &continued).await.status, 404);
    // Her key is a name like any other to him: it leads to a session of his own.
    let named = server.peer(BOB).session(&key).chat("SAY his own").await;
    assert_eq!(named.content(), "his own");
    assert!(named.header("x-synthesis-session").unwrap().starts_with("3:bob,"));
    let listed = bob.get("/v1/sessions").await.json();
    let keys: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert!(keys.len() == 2 && keys.iter().all(|key| key.starts_with("3:bob,")), "{keys:?}");
    // The same key of a request is another's.
    let keyed = |client: &Client| client.with("idempotency-key", "k");
    let (hers, his) = (keyed(&alice), keyed(&bob));
    assert_eq!(hers.chat("SAY hers").await.content(), "hers");
    assert_eq!(his.chat("SAY his").await.content(), "his");
    assert_eq!(finished(&alice, &run).await["status"], "completed");
    assert!(!server.log().contains("secret"));
}

#[tokio::test]
async fn a_token_that_is_revoked_or_expired_opens_nothing_and_starts_nothing() {
    let Some(server) = server(Wanted::default()).await else { return };
    let token = server.token(&["--user", "bob"]);
    let client = server.bearer(&token).session("s");
    assert_eq!(client.chat("SAY in").await.content(), "in");
    let (listed, _) = server.spawnd_says(&["token", "list"]);
    let id = listed.lines().find(|line| line.contains("bob")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    let (_, errors) = server.spawnd_says(&["token", "revoke", id]);
    assert!(errors.is_empty(), "{errors}");
    // frontd may take its word for some seconds yet; spawnd takes it for no start.
    let other = server.bearer(&token).session("other").chat("SAY no").await;
    assert!(matches!(told(&other), (401, _) | (403, _)), "{}", other.text());
    assert_eq!(server.claudes().len(), 1);
}

#[tokio::test]
async fn a_token_is_good_for_what_it_was_made_for() {
    let Some(server) = server(Wanted::default()).await else { return };
    let of = |scope: &str| server.bearer(&server.token(&["--user", "alice", "--scope", scope]));
    let (chat, admin) = (of("chat"), of("admin"));
    assert_eq!(told(&admin.chat("hello").await), (403, "scope".into()));
    assert_eq!(told(&admin.get("/v1/models").await), (403, "scope".into()));
    assert_eq!(admin.get("/v1/sessions").await.status, 200);
    assert_eq!(chat.get("/v1/models").await.status, 200);
    // Root looks after the server and runs nothing.
    let root = server.peer(0);
    assert_eq!(told(&root.chat("hello").await), (403, "scope".into()));
    assert_eq!(root.get("/v1/sessions").await.status, 200);
}

#[tokio::test]
async fn somebody_whom_policy_does_not_name_starts_nothing() {
    let Some(server) = server(Wanted::default()).await else { return };
    let stranger = server.peer(FRONTD).chat("hello").await;
    assert_eq!(told(&stranger), (403, "user_not_allowed".into()), "{}", stranger.text());
    let nobody = server.peer(4_000_000).chat("hello").await;
    assert_eq!(told(&nobody), (403, "no_session_user".into()));
}

#[tokio::test]
async fn another_principal_on_a_users_account_is_refused_unless_policy_shares_it() {
    let wanted = Wanted { bob: "shared = true".into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    let shared = server.token(&["--user", "bob", "--principal", "ci"]);
    let ci = server.bearer(&shared).session("s");
    let reply = ci.chat("SAY built").await;
    assert_eq!(reply.content(), "built", "{}", server.log());
    assert!(reply.header("x-synthesis-session").unwrap().starts_with("2:ci,"));
    assert_eq!(server.claudes().into_iter().map(uid_of).collect::<Vec<_>>(), [BOB]);
    assert_eq!(server.peer(BOB).get(&path(&key_of("ci", "s"))).await.status, 404);
    let (said, errors) =
        server.spawnd_says(&["token", "add", "--user", "alice", "--principal", "ci"]);
    if let Some(token) = said.trim().strip_prefix("syn-") {
        let reply = server.bearer(&format!("syn-{token}")).chat("hello").await;
        assert!(matches!(reply.status, 401 | 403), "{}", reply.text());
    } else {
        assert!(errors.contains("shared"), "{errors}");
    }
}

#[tokio::test]
async fn a_run_outlives_the_client_whose_socket_proved_it() {
    let Some(server) = server(Wanted::default()).await else { return };
    let client = server.peer(ALICE).session("gone");
    // The connection that began it is closed before its process can be there.
    let run = begin(&client, "SAY all the same").await;
    assert_eq!(finished(&client, &run).await["status"], "completed", "{}", server.log());
}

#[tokio::test]
async fn a_message_that_waits_is_started_by_the_next_frontd_on_the_same_proof() {
    let wanted = Wanted { config: "[limits]\nprocesses = 1\n".into(), ..Wanted::default() };
    let Some(mut server) = server(wanted).await else { return };
    let busy = begin(&server.peer(ALICE).session("busy"), "HANG").await;
    until(&mut events(&server.peer(ALICE), &busy, 0).await, "status").await;
    let waiting = begin(&server.peer(BOB).session("waits"), "SAY started").await;
    server.end_frontd(nix::sys::signal::Signal::SIGKILL);
    server.start_frontd().await;
    let abort = server.peer(ALICE).post(&format!("/v1/runs/{busy}/abort"), &json!({})).await;
    assert_eq!(abort.status, 202, "{}", abort.text());
    let done = finished(&server.peer(BOB), &waiting).await;
    assert_eq!(done["status"], "completed", "{done} {}", server.log());
}

#[tokio::test]
async fn requests_beyond_the_rate_are_told_when_to_come_again() {
    let wanted =
        Wanted { config: "[principals]\nrequests_per_minute = 3\n".into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    let alice = server.peer(ALICE);
    for left in ["2", "1", "0"] {
        let reply = alice.get("/v1/models").await;
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some(left));
    }
    let refused = alice.get("/v1/models").await;
    assert_eq!(told(&refused), (429, "rate_limit_exceeded".into()));
    let after: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&after), "{after}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    // Nobody else's, and not for those who look after the server.
    assert_eq!(server.peer(BOB).get("/v1/models").await.status, 200);
    assert_eq!(alice.get("/health").await.status, 200);
}

#[tokio::test]
async fn runs_and_waiting_messages_of_one_client_are_bounded_and_leave_others_alone() {
    let config = "[principals]\nruns = 3\nqueue = 2\nprocesses = 1\n";
    let wanted = Wanted { config: config.into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    let alice = server.peer(ALICE);
    let busy = begin(&alice.session("1"), "HANG").await;
    let mut told_of = events(&alice, &busy, 0).await;
    while until(&mut told_of, "status").await.1["status"] != "pushed" {}
    // It has its one process: these wait for it.
    for name in ["2", "3"] {
        begin(&alice.session(name), "SAY later").await;
    }
    let refused = alice.session("4").post("/v1/runs", &json!({ "input": "x" })).await;
    assert_eq!(told(&refused), (429, "too_many_runs".into()));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(server.claudes().len(), 1, "a second process would be one too many");
    assert_eq!(server.peer(BOB).session("1").chat("SAY mine").await.content(), "mine");
}

#[tokio::test]
async fn a_process_too_many_is_the_clients_own_affair() {
    let config = "[limits]\nslot_wait_seconds = 1\n[principals]\nprocesses = 1\n";
    let wanted = Wanted { config: config.into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    let alice = server.peer(ALICE);
    let busy = begin(&alice.session("1"), "HANG").await;
    until(&mut events(&alice, &busy, 0).await, "status").await;
    let refused = alice.session("2").chat("one more").await;
    assert_eq!(told(&refused), (429, "too_many_processes".into()));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn large_bodies_of_one_client_hold_nobody_else_up() {
    use tokio::io::AsyncWriteExt as _;
    let Some(server) = server(Wanted::default()).await else { return };
    let caller = Caller { socket: server.socket.clone(), uid: ALICE };
    let mut held = Vec::new();
    for _ in 0..9 {
        let mut stream = caller.connect().unwrap();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
            content-type: application/json\r\ncontent-length: 33554432\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    // They have been heard: this came after them on the one event loop.
    assert_eq!(server.peer(ALICE).get("/v1/models").await.status, 200);
    let began = std::time::Instant::now();
    assert_eq!(server.peer(BOB).chat("SAY mine").await.content(), "mine");
    // Hers of the other kind wait for 10 s and are refused; his did not wait for them.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    drop(held);
}

#[tokio::test]
async fn an_idle_session_of_ones_own_makes_room_and_nobody_elses() {
    let config = "[principals]\nprocesses = 1\n";
    let wanted = Wanted { config: config.into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    assert_eq!(server.peer(BOB).session("b").chat("SAY b").await.status, 200);
    for name in ["1", "2"] {
        assert_eq!(server.peer(ALICE).session(name).chat("SAY a").await.status, 200);
    }
    let mut uids: Vec<u32> = server.claudes().into_iter().map(uid_of).collect();
    uids.sort_unstable();
    assert_eq!(uids, [ALICE, BOB]);
}

#[tokio::test]
async fn a_page_of_a_configured_origin_may_use_the_server_with_its_users_token() {
    let config = "[cors]\nallowed_origins = [\"https://chat.example.org\"]\n";
    let wanted = Wanted { config: config.into(), ..Wanted::default() };
    let Some(server) = server(wanted).await else { return };
    let token = server.token(&["--user", "alice"]);
    let page = server.client.with("origin", "https://chat.example.org");
    let asks = page.with("access-control-request-method", "POST");
    let preflight = asks.request("OPTIONS", "/v1/chat/completions", bytes::Bytes::new()).await;
    assert_eq!(preflight.status, 204);
    let allowed = |reply: &Reply| reply.header("access-control-allow-origin").map(str::to_owned);
    assert_eq!(allowed(&preflight).as_deref(), Some("https://chat.example.org"));
    let headers = preflight.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("authorization") && headers.contains("x-synthesis-session"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    let reply = page.with("authorization", &format!("Bearer {token}")).chat("SAY hi").await;
    assert_eq!((reply.status, allowed(&reply).is_some()), (200, true), "{}", reply.text());
    assert!(reply.header("access-control-expose-headers").unwrap().contains("x-synthesis-run"));
    // Known by its origin is not known.
    let unknown = page.get("/v1/models").await;
    assert_eq!((unknown.status, allowed(&unknown).is_some()), (401, true));
    let foreign = server.bearer(&token).with("origin", "https://evil.example.net");
    let refused = foreign.get("/v1/models").await;
    assert_eq!(told(&refused), (403, "foreign_origin".into()));
    assert_eq!(allowed(&refused), None);
    let foreign = server.client.with("origin", "https://evil.example.net");
    let foreign = foreign.with("access-control-request-method", "POST");
    let refused = foreign.request("OPTIONS", "/v1/models", bytes::Bytes::new()).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn while_spawnd_is_away_nobody_is_taken_for_a_stranger() {
    let Some(server) = server(Wanted::default()).await else { return };
    let token = server.token(&["--user", "alice"]);
    let stopped = nix::unistd::Pid::from_raw(i32::try_from(server.spawnd_pid()).unwrap());
    nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let client = server.bearer(&token);
    let reply = tokio::time::timeout(Duration::from_secs(20), client.chat("x")).await.unwrap();
    assert_eq!(told(&reply), (503, "unavailable".into()), "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert_eq!(client.chat("SAY back").await.content(), "back");
    let _: Value = server.client.get("/health").await.json();
}
