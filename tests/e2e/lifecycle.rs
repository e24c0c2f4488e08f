//! Deaths, and what is left after them: never a process, never a stuck session.

use nix::sys::signal::Signal;
use tests::harness::{Options, Server, have_root, processes};

use super::sessions::{kill, kill_seen};

#[tokio::test]
async fn claude_dying_in_a_turn_is_502_with_its_signal_and_the_next_request_works() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("crash");
    let reply = session.chat("CRASH").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "process_ended"), "{}", reply.text());
    assert!(reply.text().contains("signal 9"), "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(session.chat("again").await.content(), "echo: again");
}

#[tokio::test]
async fn claude_exiting_in_a_stream_is_an_error_frame_with_its_code() {
    let server = Server::start(Options::default()).await;
    let events = server.client.stream("EXIT 3").await.all().await.unwrap();
    let last = events.last().unwrap();
    assert!(last.contains("\"error\"") && last.contains("exit status 3"), "{last}");
}

#[tokio::test]
async fn a_dead_channel_is_replaced_with_its_claude() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("channel");
    let reply = session.chat("KILL_CHANNEL").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "process_ended"), "{}", reply.text());
    assert_eq!(session.chat("again").await.content(), "echo: again");
    // And while it is idle: the session notices and is replaced before the next push is lost.
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    let channel = processes::children(claude)
        .into_iter()
        .find(|pid| processes::name(*pid).as_deref() == Some("channel"))
        .expect("a channel");
    kill(channel);
    assert_eq!(session.chat("and again").await.content(), "echo: and again");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_its_turn() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("leaver");
    let mut stream = session.stream("SLOW 500 SAY first").await;
    stream.next().await.unwrap();
    drop(stream);
    assert_eq!(session.chat("second").await.content(), "echo: second");
    assert_eq!(server.claudes().len(), 1);
}

/// Waits until no process mentions the server's sessions.
async fn nothing_left(sessions: &std::path::Path) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let left = processes::mentioning(sessions);
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "left behind: {left:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_leaves_nothing_behind() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start(Options::default()).await;
        server.client.session("a").chat("hello").await.content();
        server.client.session("b").chat("hello").await.content();
        let sessions = server.state.join("run/sessions");
        assert!(!processes::mentioning(&sessions).is_empty());
        let (status, log) = server.stop(signal).await;
        assert!(status.success(), "{status}: {log}");
        nothing_left(&sessions).await;
    }
}

#[tokio::test]
async fn sigkill_of_the_dev_server_leaves_nothing_behind() {
    let server = Server::start(Options::default()).await;
    server.client.chat("hello").await.content();
    let sessions = server.state.join("run/sessions");
    server.signal(Signal::SIGKILL);
    nothing_left(&sessions).await;
}

#[tokio::test]
async fn sigkill_of_spawnd_ends_the_server_and_every_session() {
    let server = Server::start(Options::default()).await;
    server.client.chat("hello").await.content();
    let sessions = server.state.join("run/sessions");
    let spawnd = processes::children(server.pid())
        .into_iter()
        .find(|pid| processes::name(*pid).as_deref() == Some("spawnd"))
        .expect("spawnd");
    kill(spawnd);
    nothing_left(&sessions).await;
}

#[tokio::test]
async fn a_claude_that_ignores_sigterm_is_killed() {
    let fake = Some(serde_json::json!({ "ignores_sigterm": true }));
    let server = Server::start(Options { fake, ..Options::default() }).await;
    server.client.chat("hello").await.content();
    let sessions = server.state.join("run/sessions");
    server.stop(Signal::SIGTERM).await;
    nothing_left(&sessions).await;
}

#[tokio::test]
async fn nothing_but_spawnd_is_root() {
    if !have_root() {
        return;
    }
    let server = Server::start(Options::default()).await;
    server.client.chat("hello").await.content();
    let status = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = |pid: u32, field: &str| -> Vec<u32> {
        let status = status(pid);
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace().skip(1).map(|id| id.parse().unwrap()).collect()
    };
    let frontd = server.pid();
    assert!(ids(frontd, "Uid:").iter().all(|id| *id != 0));
    assert!(ids(frontd, "Groups:").is_empty());
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    assert_eq!(ids(claude, "Uid:"), [server.session_uid; 4]);
    assert!(ids(claude, "Gid:").iter().all(|id| *id != 0));
    assert!(ids(claude, "Groups:").is_empty());
    let status = status(claude);
    for line in ["CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"] {
        let zero = format!("{line}:\t0000000000000000");
        assert!(status.contains(&zero), "{line}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"));
}

#[tokio::test]
async fn no_secret_stands_in_an_argument_or_in_claudes_environment() {
    let server = Server::start(Options::default()).await;
    server.client.chat("hello").await.content();
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    let configuration = server.session_file("mcp.json").unwrap();
    let configuration: serde_json::Value = serde_json::from_slice(&configuration).unwrap();
    let token = configuration["mcpServers"]["synthesis"]["env"]["SYNTHESIS_BRIDGE_TOKEN"]
        .as_str()
        .unwrap()
        .to_owned();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{claude}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&token), "{file}");
    }
    let environment = std::fs::read(format!("/proc/{claude}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("SYNTHESIS_WS_URL"));
}

#[tokio::test]
async fn an_ordinary_user_runs_it_too() {
    if !have_root() {
        return;
    }
    let server = Server::start(Options { as_user: Some("daemon"), ..Options::default() }).await;
    let session = server.client.session("plain");
    assert_eq!(session.chat("hello").await.content(), "echo: hello");
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    kill_seen(&server, claude).await;
    assert_eq!(session.chat("again").await.content(), "echo: again");
    let sessions = server.state.join("run/sessions");
    server.stop(Signal::SIGTERM).await;
    nothing_left(&sessions).await;
}
