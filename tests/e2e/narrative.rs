//! What a run's events tell of claude's work, and of its troubles.

use serde_json::{Value, json};
use tests::harness::{Client, Options, Server};

use super::witness::{lines, of_type, outcome, statuses, until, until_asked};

fn with_mode(mode: &str) -> Options {
    let config = format!("[session]\npermission_mode = \"{mode}\"\n");
    Options { config, ..Options::default() }
}

/// The answer of a turn and all events of its run.
async fn turn(session: &Client, text: &str) -> (String, Vec<Value>) {
    let stream = session.stream(text).await;
    let run = stream.run.clone();
    let answer = stream.deltas().await.unwrap().concat();
    (answer, session.events(&run).await)
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_tool_is_told_with_its_input_and_its_output() {
    let server = Server::start(with_mode("bypassPermissions")).await;
    let text = r#"USE_TOOL Bash {"command":"echo seen; exit 0","description":"x"}"#;
    let (answer, events) = turn(&server.client, text).await;
    assert_eq!(answer, "seen");
    let ([call], [end]) =
        (&of_type(&events, "tool-input")[..], &of_type(&events, "tool-output")[..])
    else {
        panic!("{events:?}")
    };
    assert_eq!(call["name"], "Bash");
    assert_eq!(call["input"], json!({"command": "echo seen; exit 0", "description": "x"}));
    assert_eq!((&end["id"], &end["is_error"]), (&call["id"], &json!(false)));
    assert_eq!(end["output"]["stdout"], "seen", "{end}");
    // In the order in which it happened, and nothing of how claude talks to us.
    let order: Vec<&str> =
        kinds(&events).into_iter().filter(|kind| !["status", "usage"].contains(kind)).collect();
    assert_eq!(order, ["started", "tool-input", "tool-output", "text-delta", "finished"]);
    assert_eq!(statuses(&events)[0], "preparing");

    let failing = r#"CLAIM_TOOL {"name":"Read","input":{},"output":"no such file","fails":true}"#;
    let (_, events) = turn(&server.client, failing).await;
    let end = of_type(&events, "tool-output")[0];
    assert_eq!((&end["is_error"], &end["output"]), (&json!(true), &json!("no such file")));
}

#[tokio::test]
async fn what_claude_displays_is_commentary_unless_it_is_the_answer() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("displays");
    let (answer, events) = turn(&session, "DISPLAY 3 10").await;
    assert_eq!(answer, "echo: DISPLAY 3 10");
    let shown = of_type(&events, "commentary-delta");
    let text: String = shown.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert!(text.starts_with("display 1/3\ndisplay 2/3\ndisplay 3/3\n"), "{text}");
    let first = kinds(&events).iter().position(|kind| *kind == "commentary-delta");
    let answered = kinds(&events).iter().position(|kind| *kind == "text-delta");
    assert!(first < answered, "{events:?}");
    // A turn without a reply is answered by its last text, which was displayed as well.
    let (answer, events) = turn(&session, "TEXT_ONLY Only once.").await;
    assert_eq!(answer, "Only once.");
    let all: String = events.iter().map(Value::to_string).collect();
    // Once it is said by the person.
    assert_eq!(all.matches("Only once.").count(), 2, "{events:?}");
}

#[tokio::test]
async fn what_is_displayed_after_the_end_belongs_to_nobody() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("late");
    let (_, events) = turn(&session, "LATE_DISPLAY TEXT_ONLY too late").await;
    assert_eq!(of_type(&events, "commentary-delta"), Vec::<&Value>::new());
    let (answer, events) = turn(&session, "SLOW 300 SAY next").await;
    assert_eq!(answer, "next");
    let shown: String =
        of_type(&events, "commentary-delta").iter().map(|e| e.to_string()).collect();
    assert!(!shown.contains("too late"), "{events:?}");
}

#[tokio::test]
async fn condensing_is_a_status_and_media_are_parts() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("statuses");
    let (_, events) = turn(&session, "COMPACT").await;
    let told = statuses(&events);
    assert_eq!(told, ["preparing", "pushed", "compacting", "working"], "{events:?}");
    let (_, events) = turn(&session, "SAY look: ![a](https://pics.example/a.png)").await;
    let [media] = of_type(&events, "media")[..] else { panic!("{events:?}") };
    assert_eq!(media["url"], "https://pics.example/a.png");
    assert_eq!(media["media_type"], "image/png");
    // It may have waited for the end of the turn before, but claude was there already.
    assert!(!statuses(&events).contains(&"preparing"), "{events:?}");
}

/// The CLI writes the last message's tokens after the turn's end.
#[tokio::test]
async fn tokens_are_exact_once_the_transcript_is_whole() {
    let server = Server::start(Options::default()).await;
    let stream = server.client.stream("LATE_LINES 250 CHUNKS 3").await;
    let run = stream.run.clone();
    stream.deltas().await.unwrap();
    let total = |name: &str| {
        let usage = |line: &Value| line["message"]["usage"][name].as_u64();
        lines(&server).iter().filter_map(|(_, line)| usage(line)).sum::<u64>()
    };
    let path = format!("/v1/runs/{run}");
    until_asked("the tokens of the whole transcript", async || {
        let usage = server.client.get(&path).await.json()["usage"].clone();
        let exact = json!([total("input_tokens"), total("output_tokens")]);
        // Three replies and the turn's own last text.
        let whole = lines(&server).iter().filter(|(_, l)| l["type"] == "assistant").count() == 4;
        whole && json!([usage["input_tokens"], usage["output_tokens"]]) == exact
    })
    .await;
}

#[tokio::test]
async fn a_denied_permission_names_the_setting_and_the_turn_goes_on() {
    let server = Server::start(with_mode("acceptEdits")).await;
    let text = r#"USE_TOOL WebFetch {"url":"https://a.example/"}"#;
    let (answer, events) = turn(&server.client, text).await;
    assert!(answer.contains("permission_mode"), "{answer}");
    let [asked] = of_type(&events, "permission-requested")[..] else { panic!("{events:?}") };
    let [answered] = of_type(&events, "permission-resolved")[..] else { panic!("{events:?}") };
    assert_eq!((&asked["name"], &asked["id"]), (&json!("WebFetch"), &answered["id"]));
    assert_eq!(asked["input"]["url"], "https://a.example/");
    assert_eq!(answered["allowed"], false);
    assert!(answered["reason"].as_str().unwrap().contains("permission_mode"), "{answered}");
    assert!(statuses(&events).contains(&"waiting-for-permission"), "{events:?}");
    assert_eq!(*statuses(&events).last().unwrap(), "working");
    assert_eq!(outcome(&events), "completed");
}

#[tokio::test]
async fn a_plan_mode_session_can_still_answer() {
    let server = Server::start(with_mode("plan")).await;
    let (answer, events) = turn(&server.client, "SAY a plan").await;
    assert_eq!((answer.as_str(), outcome(&events)), ("a plan", "completed"));
    assert_eq!(of_type(&events, "permission-requested"), Vec::<&Value>::new(), "its own tool");
    let (answer, _) =
        turn(&server.client, r#"USE_TOOL Write {"file_path":"x","content":"y"}"#).await;
    assert!(answer.contains("permission_mode"), "{answer}");
}

/// In the stream, in the plain answer, in the run's events and in the run.
#[tokio::test]
async fn an_error_of_claudes_is_told_wherever_somebody_looks() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("errors");
    let words = "API Error: 529 mock error 529";
    let reply = session.chat("API_ERROR 529").await;
    assert_eq!((reply.status, &*reply.error_code()), (502, "model_error"), "{}", reply.text());
    assert!(reply.text().contains(words), "{}", reply.text());
    let stream = session.stream("SLOW 300 API_ERROR 529").await;
    let run = stream.run.clone();
    let frames = stream.all().await.unwrap();
    let last = frames.last().unwrap();
    assert!(last.contains("\"error\"") && last.contains(words), "{frames:?}");
    let events = session.events(&run).await;
    assert_eq!(outcome(&events), "failed");
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "model_error");
    assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    let described = session.get(&format!("/v1/runs/{run}")).await.json();
    assert_eq!((&described["status"], &described["error"]), (&json!("failed"), error));
    assert_eq!(session.chat("after").await.content(), "echo: after");
    until("it is not waited for", || server.claudes().len() == 1).await;
}
