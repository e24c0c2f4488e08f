//! Runs that are under way when frontd stops or is killed, and go on with the next one.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::harness::TwoDaemons;

use super::held::{self, MESSAGE, Read, STAGES};

#[derive(Debug, Clone, Copy)]
enum End {
    Stop,
    Kill,
}

const ENDS: [End; 2] = [End::Stop, End::Kill];

async fn end(daemons: &mut TwoDaemons, how: End) {
    match how {
        End::Stop => daemons.stop_frontd().await,
        End::Kill => daemons.kill_frontd().await,
    }
}

async fn status(daemons: &TwoDaemons, run: &str) -> String {
    let run = daemons.client.get(&format!("/v1/runs/{run}")).await.json();
    run["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_queued_run_keeps_its_place() {
    for how in ENDS {
        let mut daemons = held::start(&["progress"], "").await;
        let client = daemons.client.session("s");
        let (first, _) = held::begin(&client, "1", MESSAGE).await;
        held::at(&daemons, "progress").await;
        let claude = held::the_claude(&daemons);
        let mut reads = [Read::default(), Read::default(), Read::default()];
        let mut runs = vec![first];
        for (number, read) in reads.iter_mut().enumerate().skip(1) {
            let (run, _) = held::begin(&client, &number.to_string().repeat(2), "more").await;
            let position = json!(number - 1);
            assert!(read.on(&client, &run, |event| event["position"] == position).await);
            runs.push(run);
        }
        end(&mut daemons, how).await;
        daemons.start_frontd().await;
        for (run, expected) in runs.iter().zip(["running", "queued", "queued"]) {
            assert_eq!(status(&daemons, run).await, expected, "{how:?}");
        }
        held::release(&daemons, "progress");
        for (run, read) in runs.iter().zip(&mut reads) {
            read.until_over(&client, run).await;
            assert_eq!(status(&daemons, run).await, "completed", "{how:?} {}", daemons.log());
            assert_eq!(held::pushes(&daemons, run), 1, "{how:?}");
        }
        assert_eq!(reads[0].outcome(&client, &runs[0]).await, "answer", "{how:?}");
        assert_eq!((reads[1].texts(), reads[2].texts()), (vec!["echo: more"], vec!["echo: more"]));
        // The last one came to the head once, when the one before it went.
        let positions: Vec<&Value> =
            reads[2].events.iter().map(|(_, event)| &event["position"]).collect();
        let positions: Vec<_> = positions.into_iter().filter(|place| !place.is_null()).collect();
        assert_eq!(positions, [&json!(1), &json!(0)], "{how:?}");
        let order: Vec<String> = held::journal(&daemons)
            .into_iter()
            .filter(|line| line.1 == "push")
            .map(|line| line.2)
            .collect();
        let expected: Vec<&str> = runs.iter().map(|run| &run["run_".len()..]).collect();
        assert_eq!(order, expected, "{how:?}");
        assert_eq!(daemons.claudes(), [claude], "{how:?}: {}", daemons.log());
    }
}

#[tokio::test]
async fn a_run_that_is_aborted_ends_as_aborted() {
    for how in ENDS {
        let mut daemons = held::start(&["progress"], "").await;
        let client = daemons.client.session("s");
        let (run, _) = held::begin(&client, "key", MESSAGE).await;
        held::at(&daemons, "progress").await;
        let claude = held::the_claude(&daemons);
        let mut read = Read::default();
        held::signal(claude, Signal::SIGSTOP);
        let asked = client.post(&format!("/v1/runs/{run}/abort"), &json!({})).await;
        assert_eq!(asked.status, 202, "{}", asked.text());
        assert!(read.on(&client, &run, |event| event["status"] == "aborting").await);
        end(&mut daemons, how).await;
        daemons.start_frontd().await;
        held::signal(claude, Signal::SIGCONT);
        read.until_over(&client, &run).await;
        assert_eq!(read.outcome(&client, &run).await, "aborted", "{how:?} {}", daemons.log());
        assert_eq!(client.chat("next").await.content(), "echo: next", "{how:?}");
        assert_eq!(daemons.claudes(), [claude], "{how:?} {}", daemons.log());
    }
}

#[tokio::test]
async fn a_chat_that_was_cut_off_is_whole_when_asked_again() {
    for how in ENDS {
        let mut daemons = held::start(&["progress"], "").await;
        let client = daemons.client.session("s").with("idempotency-key", "key");
        let mut stream = client.stream(MESSAGE).await;
        while !stream.next().await.unwrap().expect("a chunk").contains("first half") {}
        end(&mut daemons, how).await;
        let rest = stream.all().await;
        if matches!(how, End::Stop) {
            let rest = rest.unwrap();
            let last = rest.last().expect("an error frame");
            assert!(last.contains("\"stopping\""), "{rest:?}");
        }
        daemons.start_frontd().await;
        // Twice at once: the key's run is known to the store alone.
        let again = (client.stream(MESSAGE).await, client.stream(MESSAGE).await);
        held::release(&daemons, "progress");
        for stream in [again.0, again.1] {
            let deltas = stream.deltas().await.unwrap();
            assert_eq!(deltas.concat(), STAGES.join("\n\n"), "{how:?}");
        }
        let runs = held::journal(&daemons).iter().filter(|line| line.1 == "push").count();
        assert_eq!(runs, 1, "{how:?}");
    }
}

#[tokio::test]
async fn many_who_ask_again_at_once_all_get_the_answer() {
    let mut daemons = held::start(&["progress"], "").await;
    let client = daemons.client.session("s").with("idempotency-key", "key");
    let mut stream = client.stream(MESSAGE).await;
    while !stream.next().await.unwrap().expect("a chunk").contains("first half") {}
    daemons.kill_frontd().await;
    daemons.start_frontd().await;
    // While the run is under way, and when it is over: its key is known to the store alone.
    for release in [true, false] {
        let asked = (0..20).map(|_| async { client.stream(MESSAGE).await });
        let streams = futures_util::future::join_all(asked).await;
        if release {
            held::release(&daemons, "progress");
        }
        for stream in streams {
            assert_eq!(stream.deltas().await.unwrap().concat(), STAGES.join("\n\n"));
        }
    }
}

#[tokio::test]
async fn a_stop_is_no_client_that_hangs_up() {
    let mut daemons = held::start(&["progress"], "").await;
    let client = daemons.client.session("s");
    let mut first = client.with("x-synthesis-on-disconnect", "cancel").stream(MESSAGE).await;
    while !first.next().await.unwrap().expect("a chunk").contains("first half") {}
    // The head of its stream comes although it waits: it is queued.
    let waiting = client.stream("SAY waited").await;
    let runs = [&first, &waiting]
        .map(|stream| stream.headers["x-synthesis-run"].to_str().unwrap().to_owned());
    daemons.stop_frontd().await;
    for stream in [first, waiting] {
        let rest = stream.all().await.unwrap();
        assert!(rest.last().is_some_and(|last| last.contains("\"stopping\"")), "{rest:?}");
    }
    daemons.start_frontd().await;
    held::release(&daemons, "progress");
    let again = client.with("x-stainless-retry-count", "1").chat("SAY waited").await;
    assert_eq!(again.content(), "waited", "{}", daemons.log());
    let mut read = Read::default();
    read.until_over(&client, &runs[0]).await;
    assert_eq!(read.outcome(&client, &runs[0]).await, "answer");
    assert_eq!(runs.map(|run| held::pushes(&daemons, &run)), [1, 1]);
    let pushed = held::journal(&daemons).iter().filter(|line| line.1 == "push").count();
    assert_eq!(pushed, 2, "the retry is no second turn");
}

#[tokio::test]
async fn a_message_that_left_no_trace_is_sent_once_more_and_then_no_more() {
    let mut daemons = held::start(&["pushed"], "").await;
    let client = daemons.client.session("s");
    let (run, _) = held::begin(&client, "key", MESSAGE).await;
    held::at(&daemons, "pushed").await;
    let mut read = Read::default();
    assert!(read.on(&client, &run, |event| event["status"] == "pushed").await);
    // Nobody is left to say whether claude took it up.
    held::signal(held::channel_of(held::the_claude(&daemons)).unwrap(), Signal::SIGKILL);
    assert!(read.on(&client, &run, |event| event["status"] == "retrying").await);
    daemons.kill_frontd().await;
    daemons.start_frontd().await;
    held::until("the second push", &daemons, || held::pushes(&daemons, &run) == 2).await;
    held::signal(held::channel_of(held::the_claude(&daemons)).unwrap(), Signal::SIGKILL);
    read.until_over(&client, &run).await;
    assert_eq!(read.outcome(&client, &run).await, "not_received", "{}", daemons.log());
    assert_eq!(held::pushes(&daemons, &run), 2);
    held::release(&daemons, "pushed");
    assert_eq!(client.chat("SAY next").await.content(), "next");
}

#[tokio::test]
async fn what_was_answered_before_the_restart_is_part_of_the_answer() {
    let mut daemons = held::start(&["progress"], "").await;
    let client = daemons.client.session("s");
    let (run, _) = held::begin(&client, "key", MESSAGE).await;
    held::at(&daemons, "progress").await;
    let claude = held::the_claude(&daemons);
    let mut read = Read::default();
    assert!(read.on(&client, &run, |event| event["type"] == "text-delta").await);
    daemons.kill_frontd().await;
    daemons.start_frontd().await;
    held::release(&daemons, "progress");
    read.until_over(&client, &run).await;
    // The person's words are told otherwise: the answer alone shows that it is this conversation.
    let body = json!({ "model": "synthesis", "messages": [
        { "role": "user", "content": "told otherwise" },
        { "role": "assistant", "content": STAGES.join("\n\n") },
        { "role": "user", "content": "next" },
    ]});
    let next = client.post("/v1/chat/completions", &body).await;
    assert_eq!(next.content(), "echo: next");
    assert_eq!(daemons.claudes(), [claude], "{}", daemons.log());
}

#[tokio::test]
async fn files_are_fetched_from_the_next_frontd() {
    for how in ENDS {
        let mut daemons = held::start(&["never"], "").await;
        let client = daemons.client.session("s");
        assert_eq!(client.chat("one").await.content(), "echo: one");
        let claude = held::the_claude(&daemons);
        let channel = held::channel_of(claude).unwrap();
        held::idle(&daemons).await;
        // The frame with the message waits before the channel's door; the file is not asked for.
        held::signal(channel, Signal::SIGSTOP);
        let bytes = vec![b'x'; 2 << 20];
        let data = format!("data:text/plain;base64,{}", data_encoding::BASE64.encode(&bytes));
        let body =
            json!({ "input": { "text": "FILES", "files": [{ "name": "big.txt", "data": data }] } });
        let reply = client.post("/v1/runs", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let run = reply.json()["id"].as_str().unwrap().to_owned();
        let mut read = Read::default();
        assert!(read.on(&client, &run, |event| event["status"] == "pushed").await);
        end(&mut daemons, how).await;
        held::signal(channel, Signal::SIGCONT);
        daemons.start_frontd().await;
        read.until_over(&client, &run).await;
        let [text] = read.texts()[..] else { panic!("{:?} {}", read.events, daemons.log()) };
        assert!(text.starts_with("big.txt: 2097152 bytes"), "{text}");
        assert_eq!(held::pushes(&daemons, &run), 1);
        assert_eq!(daemons.claudes(), [claude], "{how:?}");
    }
}

#[tokio::test]
async fn a_turn_that_fills_the_terminal_pauses_and_goes_on() {
    let mut daemons = held::start(&["received", "tool"], "").await;
    held::release(&daemons, "tool");
    let client = daemons.client.session("s");
    // More than a terminal holds.
    let (run, _) = held::begin(&client, "key", "FLOOD 1024 STAGES").await;
    held::at(&daemons, "received").await;
    let claude = held::the_claude(&daemons);
    let mut read = Read::default();
    assert!(read.on(&client, &run, |event| event["status"] == "pushed").await);
    daemons.kill_frontd().await;
    held::release(&daemons, "received");
    // It waits in a poll for room on its terminal, and for nothing else.
    let written = || std::fs::read_to_string(format!("/proc/{claude}/io")).unwrap_or_default();
    let first = written();
    held::until("output", &daemons, || written() != first).await;
    daemons.start_frontd().await;
    read.until_over(&client, &run).await;
    assert_eq!(read.outcome(&client, &run).await, "answer", "{}", daemons.log());
    assert_eq!(held::pushes(&daemons, &run), 1);
    assert_eq!(daemons.claudes(), [claude], "{}", daemons.log());
}
