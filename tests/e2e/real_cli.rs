//! The real Claude Code CLI, with the words of the mock model.

use std::path::PathBuf;

use serde_json::{Value, json};
use tests::harness::{Options, Server, binary, skip};
use tests::mock_model::MockModel;
use tests::offline_claude::Offline;

use super::sessions::kill_seen;

/// A server in front of the real CLI. `None`, loudly, where there is no CLI.
struct Real {
    server: Server,
    mock: MockModel,
    _folder: tempfile::TempDir,
}

async fn real(change: impl FnOnce(&mut Offline), config: &str) -> Option<Real> {
    let Some(cli) = std::env::var_os("SYNTHESIS_TEST_CLAUDE").map(PathBuf::from) else {
        skip("no real CLI: SYNTHESIS_TEST_CLAUDE names none (make test installs it)");
        return None;
    };
    let mock = MockModel::start().await.unwrap();
    let folder = tempfile::Builder::new().prefix("cli").tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let mut offline = Offline::new(cli, mock.url());
    change(&mut offline);
    let claude = offline.install(&binary("offline-claude"), folder.path()).unwrap();
    let config = config.to_owned();
    let environment = vec![("SYNTHESIS_VISIBLE".to_owned(), offline.visible(folder.path()))];
    let options = Options { claude: Some(claude), config, environment, ..Options::default() };
    let server = Server::start(options).await;
    Some(Real { server, mock, _folder: folder })
}

#[tokio::test]
async fn cold_and_hot_turns_and_resume_after_a_kill() {
    let Some(real) = real(|_| (), "").await else { return };
    let Real { server, mock, .. } = &real;
    let session = server.client.session("real");
    assert_eq!(session.chat("one").await.content(), "You said: one");
    assert_eq!(session.chat("two").await.content(), "You said: two");
    let [claude] = server.claudes()[..] else { panic!("one claude: {:?}", server.claudes()) };
    kill_seen(server, claude).await;
    assert_eq!(session.chat("three").await.content(), "You said: three");
    // The resumed claude still knows what was said before.
    let last = mock.log().turn_requests().last().unwrap().json().to_string();
    assert!(last.contains("one") && last.contains("two"), "{last}");
}

#[tokio::test]
async fn a_text_only_turn_and_a_tool_turn() {
    let config = "[session]\npermission_mode = \"bypassPermissions\"\n";
    let Some(real) = real(|_| (), config).await else { return };
    let server = &real.server;
    let session = server.client.session("tools");
    assert_eq!(session.chat("TEXT_ONLY just text").await.content(), "just text");
    let tool = r#"USE_TOOL Bash {"command":"echo from-$((40+2)); id -u","description":"x"}"#;
    let answer = session.chat(tool).await.content();
    assert!(answer.contains("from-42"), "{answer}");
    assert!(answer.contains(&server.session_uid.to_string()), "{answer}");
}

/// Its own tools ask for leave in plan mode, and nobody could give it.
#[tokio::test]
async fn a_plan_mode_session_answers_and_a_denied_tool_does_not_hang() {
    let Some(real) = real(|_| (), "[session]\npermission_mode = \"plan\"\n").await else { return };
    let server = &real.server;
    let session = server.client.session("plan");
    assert_eq!(session.chat("one").await.content(), "You said: one");
    let tool = r#"USE_TOOL Write {"file_path":"/tmp/x","content":"y"}"#;
    let stream = session.stream(tool).await;
    let run = stream.run.clone();
    let answer = stream.deltas().await.unwrap().concat();
    assert!(!answer.is_empty());
    let events = session.events(&run).await;
    assert_eq!(super::witness::outcome(&events), "completed", "{events:?}");
    let answers = super::witness::of_type(&events, "permission-resolved");
    assert!(answers.iter().all(|answer| answer["allowed"] == false), "{answers:?}");
    assert_eq!(session.chat("two").await.content(), "You said: two");
}

#[tokio::test]
async fn an_interrupted_turn_ends_and_the_next_one_works() {
    let Some(real) = real(|_| (), "").await else { return };
    let Real { server, mock, .. } = &real;
    let session = server.client.session("esc");
    let mut stream = session.stream("HANG").await;
    let first: Value = serde_json::from_str(&stream.next().await.unwrap().unwrap()).unwrap();
    while mock.log().hanging() == 0 {
        tokio::task::yield_now().await;
    }
    let path = format!("/v1/runs/{}/abort", first["id"].as_str().unwrap());
    assert_eq!(server.client.post(&path, &json!({})).await.status, 202);
    stream.all().await.unwrap();
    assert_eq!(session.chat("after").await.content(), "You said: after");
    assert_eq!(server.claudes().len(), 1);
}

#[tokio::test]
async fn an_error_of_the_models_service_is_502_and_the_session_goes_on() {
    let Some(real) = real(|_| (), "").await else { return };
    let server = &real.server;
    let session = server.client.session("error");
    let reply = session.chat("API_ERROR 400").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "model_error"), "{}", reply.text());
    assert_eq!(session.chat("after").await.content(), "You said: after");
}

#[tokio::test]
async fn a_gated_channel_is_said() {
    let Some(real) = real(|offline| offline.gated_off = true, "").await else { return };
    let server = &real.server;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "channel_gated"), "{}", reply.text());
    assert!(reply.text().contains("not currently available"), "{}", reply.text());
}

#[tokio::test]
async fn a_cli_that_was_never_set_up_is_said() {
    let Some(real) = real(|offline| offline.not_onboarded = true, "").await else { return };
    let server = &real.server;
    let reply = server.client.chat("hello").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn a_cli_without_a_login_is_said() {
    let Some(real) = real(|offline| offline.not_logged_in = true, "").await else { return };
    let server = &real.server;
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "not_logged_in"), "{}", reply.text());
}

#[tokio::test]
async fn many_turns_with_progress_stay_whole() {
    let Some(real) = real(|_| (), "").await else { return };
    let server = &real.server;
    let session = server.client.session("many");
    for number in 0..10 {
        let text = format!("turn {number}");
        assert_eq!(session.chat(&text).await.content(), format!("You said: {text}"));
    }
    let deltas = session.stream("CHUNKS 3").await.deltas().await.unwrap();
    assert_eq!(deltas.len(), 3, "{deltas:?}");
}

#[tokio::test]
async fn hooks_that_the_users_settings_switch_off_are_said() {
    let Some(real) = real(|_| (), "").await else { return };
    let server = &real.server;
    let folder = server.state.join("home/.claude");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("settings.json");
    std::fs::write(&file, r#"{"disableAllHooks": true}"#).unwrap();
    for path in [&folder, &file] {
        std::os::unix::fs::chown(path, Some(server.session_uid), None).unwrap();
    }
    let reply = server.client.chat("hello").await;
    assert_eq!((reply.status, &*reply.error_code()), (403, "hooks_disabled"), "{}", reply.text());
}

#[tokio::test]
async fn a_cli_that_was_cut_off_before_says_so_and_starts() {
    let Some(real) = real(|_| (), "").await else { return };
    let server = &real.server;
    assert_eq!(server.client.session("first").chat("one").await.content(), "You said: one");
    let [claude] = server.claudes()[..] else { panic!("one claude: {:?}", server.claudes()) };
    kill_seen(server, claude).await;
    // As the CLI remembers starts that were cut off: once, and once too often.
    let file = server.state.join("home/.claude.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let version = config["lastReleaseNotesSeen"].as_str().unwrap_or("2.1.329").to_owned();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for (strikes, session) in [(0, "second"), (1, "third")] {
        config["fullscreenBootStrikes"] = json!({ "count": strikes, "version": version });
        config.as_object_mut().unwrap().remove("fullscreenAutoDisabled");
        config["fullscreenBootPending"] = json!({ "4194000": {
            "host": host.trim(), "platform": "linux", "version": version,
            "startedAt": u64::try_from(since.as_millis()).unwrap() - 60_000,
        } });
        std::fs::write(&file, config.to_string()).unwrap();
        assert_eq!(server.client.session(session).chat("two").await.content(), "You said: two");
        // Else this was a start like any other: it is written down some time after.
        let noticed = async {
            loop {
                let now = std::fs::read(&file).unwrap_or_default();
                let now: Value = serde_json::from_slice(&now).unwrap_or_default();
                if now["fullscreenBootStrikes"]["count"] == 1
                    || now["fullscreenAutoDisabled"].is_object()
                {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let patience = std::time::Duration::from_secs(20);
        tokio::time::timeout(patience, noticed).await.expect("the CLI notices what it remembers");
    }
}
