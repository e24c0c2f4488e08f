//! Two daemons: frontd is stopped or killed and comes back, while spawnd and the sessions live.

use serde_json::json;
use tests::harness::client::PATIENCE;
use tests::harness::{TwoDaemons, Wanted, processes};

/// Waits for what has no event of its own.
async fn until(what: &str, daemons: &TwoDaemons, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(came, "not in time: {what}\n{}", daemons.log());
}

#[derive(Debug, Clone, Copy)]
enum End {
    Stop,
    Kill,
}

async fn end(daemons: &mut TwoDaemons, how: End) {
    match how {
        End::Stop => daemons.stop_frontd().await,
        End::Kill => daemons.kill_frontd().await,
    }
}

#[tokio::test]
async fn a_session_lives_on_without_frontd() {
    for how in [End::Stop, End::Kill] {
        let mut daemons = TwoDaemons::start(Wanted::default()).await;
        assert_eq!(daemons.client.session("s").chat("one").await.content(), "echo: one");
        let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
        end(&mut daemons, how).await;
        until("spawnd hears of it", &daemons, || daemons.log().contains("connection ended")).await;
        assert_eq!(daemons.claudes(), [claude], "{how:?}");
        assert!(!daemons.log().contains("SYNTHESIS_SIGNAL"), "{how:?}: {}", daemons.log());
    }
}

#[tokio::test]
async fn a_stop_in_the_midst_of_a_turn_ends_the_stream_and_not_the_turn() {
    let mut daemons = TwoDaemons::start(Wanted::default()).await;
    let mut stream = daemons.client.session("s").stream("CHUNKS 2 60000").await;
    while !stream.next().await.unwrap().expect("a chunk").contains("chunk") {}
    let begin = std::time::Instant::now();
    daemons.stop_frontd().await;
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
    let rest = stream.all().await.unwrap();
    assert!(rest.last().is_some_and(|last| last.contains("\"stopping\"")), "{rest:?}");
    assert_eq!(daemons.claudes().len(), 1);
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_asked_to_end_before_it_is_killed() {
    // spawnd kills what does not heed it.
    for (fake, exit) in
        [(json!({}), "exit status 143"), (json!({"ignores_sigterm": true}), "signal 9")]
    {
        let mut daemons = TwoDaemons::start(Wanted { fake: Some(fake), ..Wanted::default() }).await;
        assert_eq!(daemons.client.session("s").chat("one").await.content(), "echo: one");
        daemons.kill_frontd().await;
        for file in std::fs::read_dir(daemons.state.join("frontd")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        daemons.start_frontd().await;
        let told = format!("\"SYNTHESIS_EXIT\":\"{exit}\"");
        until(exit, &daemons, || daemons.log().contains(&told)).await;
        assert!(daemons.log().contains("\"SYNTHESIS_SIGNAL\":\"term\""), "{}", daemons.log());
        assert!(!daemons.log().contains("\"SYNTHESIS_SIGNAL\":\"kill\""), "{}", daemons.log());
    }
}

#[tokio::test]
async fn an_idle_session_is_taken_over_and_the_same_claude_answers() {
    for how in [End::Stop, End::Kill] {
        let mut daemons = TwoDaemons::start(Wanted::default()).await;
        assert_eq!(daemons.client.session("s").chat("one").await.content(), "echo: one");
        let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
        for turn in ["two", "three"] {
            end(&mut daemons, how).await;
            daemons.start_frontd().await;
            let reply = daemons.client.session("s").chat(turn).await;
            assert_eq!(reply.status, 200, "{} {}", reply.text(), daemons.log());
            assert_eq!(reply.content(), format!("echo: {turn}"));
            assert_eq!(daemons.claudes(), [claude], "{how:?}: {}", daemons.log());
        }
    }
}

#[tokio::test]
async fn a_claude_that_printed_all_the_while_is_drained_again() {
    // More than a terminal holds, while nobody reads it.
    let mut daemons = TwoDaemons::start(Wanted::default()).await;
    let mut stream = daemons.client.session("s").stream("SLOW 500 FLOOD 1024 SAY done").await;
    stream.next().await.unwrap();
    daemons.kill_frontd().await;
    let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
    daemons.start_frontd().await;
    assert_eq!(daemons.client.session("s").chat("next").await.content(), "echo: next");
    assert_eq!(daemons.claudes(), [claude], "{}", daemons.log());
}

#[tokio::test]
async fn a_claude_that_asks_something_when_frontd_goes_is_answered_by_the_next_one() {
    // Half of it is drawn for the first frontd.
    let fake =
        Some(json!({ "dialog_delay_ms": 500, "dialog_piece_bytes": 600, "dialog_piece_ms": 500 }));
    let config = "[limits]\nstart_timeout_seconds = 10\n".to_owned();
    let mut daemons = TwoDaemons::start(Wanted { fake, config, ..Wanted::default() }).await;
    let client = daemons.client.session("s");
    let lost = tokio::spawn(async move { client.stream("one").await });
    until("a claude", &daemons, || daemons.claudes().len() == 1).await;
    let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
    let debug = |daemons: &TwoDaemons| {
        let log = daemons.session_file("debug.log").unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    };
    until("half a dialog", &daemons, || debug(&daemons).contains("piece of a dialog")).await;
    daemons.kill_frontd().await;
    lost.abort();
    until("a dialog", &daemons, || debug(&daemons).contains("dialog stands")).await;
    daemons.start_frontd().await;
    let reply = daemons.client.session("s").chat("two").await;
    assert_eq!(reply.status, 200, "{} {}", reply.text(), daemons.log());
    assert_eq!(daemons.claudes(), [claude], "{}", daemons.log());
}

#[tokio::test]
async fn a_claude_that_ended_while_frontd_was_away_is_resumed() {
    let mut daemons = TwoDaemons::start(Wanted::default()).await;
    assert_eq!(daemons.client.session("s").chat("one").await.content(), "echo: one");
    let [claude] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
    daemons.kill_frontd().await;
    super::sessions::kill(claude);
    until("its end", &daemons, || !processes::lives(claude)).await;
    daemons.start_frontd().await;
    assert_eq!(daemons.client.session("s").chat("two").await.content(), "echo: two");
    let [next] = daemons.claudes()[..] else { panic!("one claude: {:?}", daemons.claudes()) };
    let arguments = std::fs::read_to_string(format!("/proc/{next}/cmdline")).unwrap();
    assert!(arguments.contains("--resume"), "{arguments:?}");
}
