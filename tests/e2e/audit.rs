//! frontd's record outside systemd: JSON lines on stderr. Each kind with all its fields, whoever
//! tries to write others, and no word of anybody's messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::harness::{Options, Server, TwoDaemons, Wanted};

use super::witness::until;

const DOC: &str = include_str!("../../docs/audit.md");

type Fields = BTreeMap<String, String>;

/// What frontd's part of the document says of a kind.
fn id_of(kind: &str) -> &'static str {
    let (_, part) = DOC.split_once("\n## frontd\n").expect("frontd's part");
    let row = part.lines().find_map(|line| line.strip_prefix(&format!("| `{kind}` | `")));
    row.and_then(|rest| rest.split('`').next()).unwrap_or_else(|| panic!("{kind}: no row"))
}

fn entries_in(log: &str) -> Vec<Fields> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let fields = lines.map(|line| serde_json::from_str::<Fields>(line).expect("an entry"));
    fields.filter(|entry| entry["SYSLOG_IDENTIFIER"] == "synthesis-frontd").collect()
}

fn of_kind(log: &str, kind: &str) -> Vec<Fields> {
    let id = id_of(kind);
    let entries = entries_in(log).into_iter().filter(|entry| entry["MESSAGE_ID"] == id);
    let entries: Vec<Fields> = entries.collect();
    assert!(entries.iter().all(|entry| entry["SYNTHESIS_KIND"] == kind));
    entries
}

/// The last entry of a kind, once there are `count`.
async fn last(server: &Server, kind: &str, count: usize) -> Fields {
    until(kind, || of_kind(&server.log(), kind).len() >= count).await;
    let mut entries = of_kind(&server.log(), kind);
    assert_eq!(entries.len(), count, "{kind}: {entries:?}");
    entries.pop().unwrap()
}

/// It has these fields of ours and no other, none of them empty.
fn has_exactly(entry: &Fields, names: &[&str]) {
    let prefixed = |name: &&str| format!("SYNTHESIS_{name}");
    let mut expected: Vec<String> = names.iter().map(prefixed).collect();
    expected.extend(["SYNTHESIS_KIND", "SYNTHESIS_WITNESS"].map(str::to_owned));
    expected.sort_unstable();
    let ours = entry.keys().filter(|name| name.starts_with("SYNTHESIS_"));
    assert_eq!(ours.cloned().collect::<Vec<_>>(), expected, "{entry:?}");
    assert!(entry.values().all(|value| !value.is_empty()), "{entry:?}");
    for name in entry.keys() {
        assert!(DOC.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

const WHOSE: [&str; 5] = ["PRINCIPAL", "USER", "KEY", "RUN", "REQUEST"];
const TOKENS: [&str; 4] =
    ["INPUT_TOKENS", "OUTPUT_TOKENS", "CACHE_READ_TOKENS", "CACHE_CREATION_TOKENS"];

fn with<'a>(own: &[&'a str]) -> Vec<&'a str> {
    [&WHOSE[..], own].concat()
}

#[tokio::test]
async fn a_turn_is_on_record_from_its_request_to_its_tokens() {
    let config = "[audit]\ntools = true\ntool_preview_bytes = 200\n".to_owned()
        + "[session]\npermission_mode = \"bypassPermissions\"\n";
    let server = Server::start(Options { config, ..Options::default() }).await;
    let restart = last(&server, "restart", 1).await;
    has_exactly(&restart, &["COUNT"]);
    assert_eq!((&*restart["SYNTHESIS_COUNT"], &*restart["SYNTHESIS_WITNESS"]), ("0", "frontd"));

    let session = server.client.session("main").with("x-request-id", "from-the-proxy.7");
    let text = r#"USE_TOOL Bash {"command":"TOKEN=hunter2 true; echo seen","description":"words"}"#;
    let reply = session.chat(text).await;
    assert_eq!((reply.status, reply.header("x-request-id")), (200, Some("from-the-proxy.7")));
    let run = reply.header("x-synthesis-run").unwrap();
    let key = reply.header("x-synthesis-session").unwrap();

    let admitted = last(&server, "admitted", 1).await;
    has_exactly(&admitted, &["PRINCIPAL", "KEY", "RUN", "REQUEST", "ROUTE", "CLIENT_UID"]);
    assert_eq!(admitted["SYNTHESIS_ROUTE"], "POST /v1/chat/completions");
    assert_eq!(admitted["SYNTHESIS_CLIENT_UID"], nix::unistd::Uid::current().to_string());
    let start = last(&server, "turn-start", 1).await;
    has_exactly(&start, &with(&["SESSION", "CONVERSATION", "WORKSPACE", "WAITED_MS"]));
    let tool = last(&server, "tool", 1).await;
    has_exactly(&tool, &with(&["SESSION", "CONVERSATION", "TOOL", "PREVIEW"]));
    assert_eq!((&*tool["SYNTHESIS_TOOL"], &*tool["SYNTHESIS_WITNESS"]), ("Bash", "session"));
    let preview = &tool["SYNTHESIS_PREVIEW"];
    assert!(preview.contains("echo seen") && !preview.contains("hunter2"), "{preview}");
    let end = last(&server, "turn-end", 1).await;
    assert_eq!(end["SYNTHESIS_OUTCOME"], "completed");
    end["SYNTHESIS_DURATION_MS"].parse::<u64>().unwrap();
    assert_eq!(end["SYNTHESIS_WITNESS"], "frontd");
    let usage = last(&server, "usage", 1).await;
    has_exactly(
        &usage,
        &[&["PRINCIPAL", "USER", "KEY", "RUN", "SESSION", "CONVERSATION"], &TOKENS[..]].concat(),
    );
    assert_eq!(usage["SYNTHESIS_WITNESS"], "session");
    assert!(usage["SYNTHESIS_OUTPUT_TOKENS"].parse::<u64>().unwrap() > 0);
    for entry in [&admitted, &start, &tool, &end, &usage] {
        assert_eq!((&*entry["SYNTHESIS_RUN"], &*entry["SYNTHESIS_KEY"]), (run, key));
        assert_eq!(entry["SYNTHESIS_PRINCIPAL"], "local");
        if entry["MESSAGE_ID"] != usage["MESSAGE_ID"] {
            assert_eq!(entry["SYNTHESIS_REQUEST"], "from-the-proxy.7");
        }
    }
    // The same process and user as in spawnd's own record.
    let log = server.log();
    let spawned = log.lines().filter(|line| line.starts_with('{')).find(|line| {
        line.contains("\"SYNTHESIS_KIND\":\"started\"") && line.contains("synthesis-spawnd")
    });
    let spawned: Fields = serde_json::from_str(spawned.expect("spawnd's entry")).unwrap();
    for name in ["SYNTHESIS_SESSION", "SYNTHESIS_USER", "SYNTHESIS_CONVERSATION"] {
        assert_eq!(spawned[name], start[name], "{name}");
    }
}

#[tokio::test]
async fn no_word_of_a_message_an_answer_or_a_tool_is_on_record_by_default() {
    let config = "[session]\npermission_mode = \"bypassPermissions\"\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("quiet");
    session.chat(r#"USE_TOOL Bash {"command":"echo shibboleth","description":"x"}"#).await;
    session.chat("SAY shibboleth").await;
    session.chat("TEXT_ONLY shibboleth").await;
    session.chat("API_ERROR 529 shibboleth").await;
    last(&server, "turn-end", 4).await;
    let entries = entries_in(&server.log());
    assert!(!format!("{entries:?}").contains("shibboleth"), "{entries:?}");
    assert_eq!(of_kind(&server.log(), "tool"), Vec::<Fields>::new());
    let failed = of_kind(&server.log(), "turn-end").pop().unwrap();
    assert_eq!(
        (&*failed["SYNTHESIS_OUTCOME"], &*failed["SYNTHESIS_REASON"]),
        ("failed", "model_error")
    );
}

#[tokio::test]
async fn content_is_on_record_where_it_is_switched_on_and_cut() {
    let config = "[audit]\ncontent = true\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    server.client.chat("SAY the answer").await;
    server.client.chat(&format!("SAY {}", "x".repeat(10_000))).await;
    let long = last(&server, "turn-end", 2).await;
    let content = |kind| of_kind(&server.log(), kind)[0]["SYNTHESIS_CONTENT"].clone();
    assert!(content("turn-start").contains("SAY the answer"));
    assert_eq!(content("turn-end"), "the answer");
    assert_eq!(long["SYNTHESIS_CONTENT"].len(), 4096);
}

#[tokio::test]
async fn what_is_refused_names_who_what_and_why() {
    let server = Server::start(Options::default()).await;
    let client = server.client.with("x-request-id", "odd\tid");
    let reply = client.get("/v1/runs/run_0").await;
    let id = reply.header("x-request-id").unwrap().to_owned();
    assert!(id.starts_with("req_") && id.len() == 36, "{id}");
    let refused = last(&server, "refused", 1).await;
    has_exactly(&refused, &["PRINCIPAL", "REQUEST", "ROUTE", "STATUS", "REASON", "CLIENT_UID"]);
    assert_eq!(refused["SYNTHESIS_REQUEST"], id);
    assert_eq!(refused["SYNTHESIS_ROUTE"], "GET /v1/runs/{id}");
    assert_eq!(
        (&*refused["SYNTHESIS_STATUS"], &*refused["SYNTHESIS_REASON"]),
        ("404", "unknown_run")
    );
    // A path that is none is not quoted.
    server.client.get("/v1/elsewhere%0aSYNTHESIS_USER=root").await;
    let refused = last(&server, "refused", 2).await;
    assert_eq!(
        (&*refused["SYNTHESIS_ROUTE"], &*refused["SYNTHESIS_REASON"]),
        ("none", "unknown_route")
    );
    let foreign = server.client.with("origin", "https://evil.example").get("/health").await;
    assert_eq!(foreign.status, 403);
    let refused = last(&server, "refused", 3).await;
    assert_eq!(refused["SYNTHESIS_REASON"], "foreign_origin");
}

#[tokio::test]
async fn reading_and_forgetting_are_on_record_and_watching_is_not() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("read");
    let key = session.chat("hello").await.header("x-synthesis-session").unwrap().to_owned();
    for path in ["/health", "/ready", "/metrics", "/openapi.json", "/v1/models"] {
        assert_eq!(server.client.get(path).await.status, 200, "{path}");
    }
    server.client.get(&format!("/v1/sessions/{key}/messages")).await;
    let read = last(&server, "admitted", 2).await;
    assert_eq!(read["SYNTHESIS_ROUTE"], "GET /v1/sessions/{id}/messages");
    assert_eq!((&*read["SYNTHESIS_KEY"], &*read["SYNTHESIS_STATUS"]), (&*key, "200"));
    server.client.request("DELETE", &format!("/v1/sessions/{key}"), Bytes::new()).await;
    let forgot = last(&server, "admitted", 3).await;
    assert_eq!(forgot["SYNTHESIS_ROUTE"], "DELETE /v1/sessions/{id}");
    assert_eq!(forgot["SYNTHESIS_KEY"], key);
}

#[tokio::test]
async fn an_abort_names_its_run_and_the_turn_ends_with_it() {
    let server = Server::start(Options::default()).await;
    let mut stream = server.client.stream("HANG").await;
    stream.next().await.unwrap();
    let run = stream.run.clone();
    let reply = server.client.post(&format!("/v1/runs/{run}/abort"), &Value::Null).await;
    assert_eq!(reply.status, 202);
    let abort = last(&server, "abort", 1).await;
    has_exactly(&abort, &with(&["SESSION", "CONVERSATION"]));
    assert_eq!(abort["SYNTHESIS_RUN"], run);
    let end = last(&server, "turn-end", 1).await;
    assert_eq!((&*end["SYNTHESIS_OUTCOME"], &*end["SYNTHESIS_RUN"]), ("aborted", &*run));
    let asked = of_kind(&server.log(), "admitted").pop().unwrap();
    assert_eq!(asked["SYNTHESIS_ROUTE"], "POST /v1/runs/{id}/abort");
    assert_eq!(asked["SYNTHESIS_RUN"], run);
}

#[tokio::test]
async fn a_restart_and_what_it_took_over_are_on_record() {
    let mut daemons = TwoDaemons::start(Wanted::default()).await;
    let mut stream = daemons.client.stream("HANG").await;
    stream.next().await.unwrap();
    let run = stream.run.clone();
    until("it is on record", || of_kind(&daemons.log(), "turn-start").len() == 1).await;
    daemons.kill_frontd().await;
    daemons.start_frontd().await;
    until("it is taken over", || of_kind(&daemons.log(), "adopted").len() == 1).await;
    let log = daemons.log();
    let [first, second] = &of_kind(&log, "restart")[..] else { panic!("{log}") };
    assert_eq!((&*first["SYNTHESIS_COUNT"], &*second["SYNTHESIS_COUNT"]), ("0", "1"));
    let adopted = of_kind(&log, "adopted").pop().unwrap();
    has_exactly(&adopted, &["PRINCIPAL", "USER", "KEY", "SESSION", "CONVERSATION"]);
    let start = of_kind(&log, "turn-start").pop().unwrap();
    assert_eq!(adopted["SYNTHESIS_SESSION"], start["SYNTHESIS_SESSION"]);
    let metrics = daemons.client.get("/metrics").await.text();
    assert!(metrics.contains("\nsynthesis_adoptions_total 1\n"), "{metrics}");

    daemons.client.post(&format!("/v1/runs/{run}/abort"), &Value::Null).await;
    until("it ends", || of_kind(&daemons.log(), "turn-end").len() == 1).await;
    let end = of_kind(&daemons.log(), "turn-end").pop().unwrap();
    assert_eq!((&*end["SYNTHESIS_RUN"], &*end["SYNTHESIS_OUTCOME"]), (&*run, "aborted"));
    assert_eq!(end["SYNTHESIS_SESSION"], start["SYNTHESIS_SESSION"]);
}

/// Names that a client, a model or a file system may have: none adds a line, a field or a colour.
#[tokio::test]
async fn forged_values_stay_values() {
    let config = "[audit]\ntools = true\ntool_preview_bytes = 300\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let evil = "x\nSYNTHESIS_USER=root\n{\"MESSAGE_ID\":\"0\"}\u{1b}[2J\u{202e}";
    let claim = serde_json::json!({
        "name": evil, "input": {"command": evil}, "output": "", "fails": false,
    });
    let session = server.client.session("a b\u{e9}%0A\"quoted\"");
    let reply = session.chat(&format!("CLAIM_TOOL {claim}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let tool = last(&server, "tool", 1).await;
    assert!(tool["SYNTHESIS_TOOL"].starts_with(r"x\nSYNTHESIS_USER=root\n{"), "{tool:?}");
    assert_ne!(tool["SYNTHESIS_USER"], "root");
    for path in ["/v1/sessions/x%0aSYNTHESIS_USER=root%1b[2J", "/v1/runs/run_%0a%00"] {
        assert_eq!(server.client.get(path).await.status, 404);
    }
    let refused = last(&server, "refused", 2).await;
    assert!(!refused.contains_key("SYNTHESIS_USER"));
    let keyed = &of_kind(&server.log(), "refused")[0];
    assert_eq!(keyed["SYNTHESIS_KEY"], r"x\nSYNTHESIS_USER=root\u{1b}[2J");
    let log = server.log();
    let ours = log.lines().filter(|line| line.contains("synthesis-frontd"));
    assert!(ours.clone().count() > 5);
    for line in ours {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\0']), "{line}");
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted() {
    const SENT: usize = 300;
    let server = Server::start(Options::default()).await;
    for _ in 0..SENT {
        server.client.get("/v1/runs/run_0").await;
    }
    let counts = || -> usize {
        let log = server.log();
        let counted = of_kind(&log, "counted");
        assert!(counted.iter().all(|e| e["SYNTHESIS_COUNTED"] == id_of("refused")));
        assert!(counted.iter().all(|e| e["SYNTHESIS_PRINCIPAL"] == "local"));
        counted.iter().map(|e| e["SYNTHESIS_COUNT"].parse::<usize>().unwrap()).sum::<usize>()
            + of_kind(&log, "refused").len()
    };
    until("all are told of", || counts() == SENT).await;
    assert!(of_kind(&server.log(), "refused").len() < SENT / 2);
}

#[tokio::test]
async fn what_was_only_counted_is_written_at_the_end() {
    let server = Server::start(Options::default()).await;
    for _ in 0..25 {
        server.client.get("/v1/runs/run_0").await;
    }
    let (_, log) = server.stop(Signal::SIGTERM).await;
    let counted = of_kind(&log, "counted");
    let sum: usize = counted.iter().map(|e| e["SYNTHESIS_COUNT"].parse::<usize>().unwrap()).sum();
    assert_eq!(sum + of_kind(&log, "refused").len(), 25);
}
