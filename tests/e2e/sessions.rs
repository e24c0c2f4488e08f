//! Which conversation a request belongs to, where it lives, and how many may live at once.

use serde_json::{Value, json};
use tests::harness::{Options, Server, client};

fn openclaw(name: &str) -> Value {
    let file = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[tokio::test]
async fn an_openclaw_request_is_what_the_person_said() {
    let server = Server::start(Options::default()).await;
    let body = openclaw("openclaw-request");
    let deltas = server.client.stream_of(&body).await.deltas().await.unwrap();
    let answer = deltas.concat();
    assert!(answer.contains("Say hello"), "{answer}");
    assert!(!answer.contains("INTERNAL_CONTEXT") && !answer.contains("Runtime:"), "{answer}");
}

#[tokio::test]
async fn the_runtime_line_keeps_openclaws_sessions_apart_and_together() {
    let server = Server::start(Options::default()).await;
    let first = openclaw("openclaw-request");
    let other: Value =
        serde_json::from_str(&first.to_string().replace("s-proto-1", "s-proto-2")).unwrap();
    server.client.stream_of(&first).await.deltas().await.unwrap();
    server.client.stream_of(&first).await.deltas().await.unwrap();
    assert_eq!(server.claudes().len(), 1);
    server.client.stream_of(&other).await.deltas().await.unwrap();
    assert_eq!(server.claudes().len(), 2);
}

#[tokio::test]
async fn keys_do_not_collide_by_their_separator() {
    let server = Server::start(Options::default()).await;
    let of = |agent: &str, chat: &str| {
        server.client.with("x-openclaw-agent-id", agent).with("x-openclaw-chat-id", chat)
    };
    of("a::b", "c").chat("one").await.content();
    of("a", "b::c").chat("two").await.content();
    assert_eq!(server.claudes().len(), 2);
}

#[tokio::test]
async fn a_conversation_is_resumed_after_its_claude_was_killed() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("resume");
    session.chat("first").await.content();
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    kill_seen(&server, claude).await;
    assert_eq!(session.chat("second").await.content(), "echo: second");
    let [next] = server.claudes()[..] else { panic!("one claude") };
    let arguments = std::fs::read_to_string(format!("/proc/{next}/cmdline")).unwrap();
    assert!(arguments.contains("--resume"), "{arguments:?}");
}

/// Kills the one claude and waits until frontd has heard of it: a turn that is given to a dying
/// claude fails.
pub(crate) async fn kill_seen(server: &Server, claude: u32) {
    kill(claude);
    let gone = async { while server.client.get("/health").await.json()["processes"] != 0 {} };
    tokio::time::timeout(client::PATIENCE, gone).await.expect("the exit is seen");
}

pub(crate) fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn dots_and_underscores_in_the_workspace_do_not_break_resume() {
    let server = Server::start(Options::default()).await;
    let workspace = server.state.join("workspace/my_work.d");
    std::fs::create_dir_all(&workspace).unwrap();
    std::os::unix::fs::chown(&workspace, Some(server.session_uid), None).unwrap();
    let session =
        server.client.session("dots").with("x-openclaw-workspace", workspace.to_str().unwrap());
    session.chat("first").await.content();
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    let cwd = std::fs::read_link(format!("/proc/{claude}/cwd")).unwrap();
    assert_eq!(cwd, workspace);
    kill_seen(&server, claude).await;
    assert_eq!(session.chat("second").await.content(), "echo: second");
}

#[tokio::test]
async fn a_known_session_keeps_its_workspace() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("place");
    session.chat("first").await.content();
    let reply = session.with("x-openclaw-workspace", "/tmp").chat("elsewhere").await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.error_code(), "workspace_mismatch");
}

#[tokio::test]
async fn the_limit_on_processes_holds_and_makes_room_by_idleness() {
    let config = "[limits]\nprocesses = 2\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let chats = (0..6).map(|number| {
        let session = server.client.session(&format!("s{number}"));
        async move { session.chat("hello").await.content() }
    });
    let all = futures_util::future::join_all(chats).await;
    assert!(all.iter().all(|answer| answer == "echo: hello"));
    assert!(server.claudes().len() <= 2, "{:?}", server.claudes());
    let health = server.client.get("/health").await.json();
    assert!(health["processes"].as_u64().unwrap() <= 2, "{health}");
}

#[tokio::test]
async fn a_busy_session_is_not_evicted_and_the_wait_is_bounded() {
    let config = "[limits]\nprocesses = 1\nslot_wait_seconds = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let mut busy = server.client.session("busy").stream("SLOW 4000").await;
    busy.next().await.unwrap();
    let reply = server.client.session("other").chat("hello").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.error_code(), "no_slot");
    assert!(reply.header("retry-after").is_some());
    assert!(busy.all().await.unwrap().iter().any(|event| event.contains("echo")));
}

#[tokio::test]
async fn a_full_queue_is_429_and_a_leaver_gives_up_its_place() {
    let config = "[limits]\nqueue_per_session = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("queue");
    let mut working = session.stream("HANG").await;
    let first: Value = serde_json::from_str(&working.next().await.unwrap().unwrap()).unwrap();

    let waiting = session.clone();
    let waiting = tokio::spawn(async move { waiting.chat("waits").await });
    let full = wait_for_status(&session, 429).await;
    assert!(full.header("retry-after").is_some());

    // The one that waits leaves; its place is free again.
    waiting.abort();
    let path = format!("/v1/runs/{}/abort", first["id"].as_str().unwrap());
    server.client.post(&path, &json!({})).await;
    working.all().await.unwrap();
    assert_eq!(session.chat("next").await.content(), "echo: next");
}

/// Asks until the answer has that status: the other request may not have arrived yet.
async fn wait_for_status(session: &client::Client, status: u16) -> client::Reply {
    loop {
        let asked = tokio::time::timeout(std::time::Duration::from_secs(1), session.chat("more"));
        if let Ok(reply) = asked.await
            && reply.status == status
        {
            return reply;
        }
    }
}

#[tokio::test]
async fn an_idle_session_is_stopped_and_comes_back() {
    let config = "[limits]\nidle_seconds = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("idle");
    session.chat("first").await.content();
    while !server.claudes().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(session.chat("second").await.content(), "echo: second");
}

#[tokio::test]
async fn conversations_survive_a_restart_of_the_server() {
    // The mapping is durable: the same key resumes the same conversation in a new server.
    let server = Server::start(Options::default()).await;
    server.client.session("durable").chat("first").await.content();
    let server = server.restart().await;
    server.client.session("durable").chat("second").await.content();
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    let arguments = std::fs::read_to_string(format!("/proc/{claude}/cmdline")).unwrap();
    assert!(arguments.contains("--resume"), "{arguments:?}");
}
