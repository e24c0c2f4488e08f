//! The record of both daemons on an installed machine: what people did is found by the documented
//! queries, and what others write is not.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tests::harness::installed::{ALICE, Answer, BOB, FRONTD, Installed, JSON, SPAWND, STRANGER};
use tests::harness::spawnd::until;

const DOC: &str = include_str!("../../docs/audit.md");
const FRONTDS: &str = "_UID=$(id -u synthesis) _SYSTEMD_UNIT=synthesis-frontd.service";
const SPAWNDS: &str = "_UID=0 _SYSTEMD_UNIT=synthesis-spawnd.service";

type Fields = BTreeMap<String, Value>;

fn text<'a>(entry: &'a Fields, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {entry:?}"))
}

fn shell(machine: &Installed, line: &str) -> String {
    machine.container.say(&["sh", "-c", line])
}

/// What the trusted fields find of one of frontd's kinds.
fn entries(machine: &Installed, kind: &str) -> Vec<Fields> {
    let (_, part) = DOC.split_once("\n## frontd\n").unwrap();
    let row = part.lines().find_map(|line| line.strip_prefix(&format!("| `{kind}` | `")));
    let id = row.and_then(|rest| rest.split('`').next()).unwrap();
    machine.container.say(&["journalctl", "--sync"]);
    let found = shell(machine, &format!("journalctl -q -o json --all {FRONTDS} MESSAGE_ID={id}"));
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one entry of a kind with this value, once it is there.
fn entry(machine: &Installed, kind: &str, (name, value): (&str, &str)) -> Fields {
    until(&format!("{kind} of {value}"), || {
        let mut found = entries(machine, kind);
        found.retain(|entry| entry.get(name).and_then(Value::as_str) == Some(value));
        assert!(found.len() < 2, "{found:?}");
        found.pop()
    })
}

/// Every documented query, with what stands for something replaced.
fn queries(of: &[(&str, &str)]) -> Vec<String> {
    let doc = DOC.replace("\\\n", " ");
    let queries = doc.lines().filter(|line| line.starts_with("    journalctl "));
    let filled = queries.map(|query| {
        let fill = |query: String, (name, value): &(&str, &str)| query.replace(name, value);
        of.iter().fold(format!("{query} "), fill)
    });
    filled.collect()
}

#[test]
fn what_people_did_is_found_by_the_documented_queries_and_forged_entries_are_not() {
    let Some(machine) = Installed::boot() else { return };
    let added = machine.container.say(&["spawnd", "token", "add", "--user", BOB]);
    let token = added.split_whitespace().find(|word| word.starts_with("syn-")).unwrap();
    let (word, request) = ("shibboleth", "x-request-id: by-alice.1");
    let body = format!(r#"{{"messages":[{{"role":"user","content":"SAY {word}"}}]}}"#);
    let chat = ["-i", "-H", JSON, "-H", request, "-d", &body];
    let answer = machine.curl(ALICE, "/v1/chat/completions", &chat);
    assert_eq!(answer.status, 200, "{answer:?} {}", machine.log());
    assert!(answer.body.contains("x-request-id: by-alice.1"), "{answer:?}");
    let header = |name: &str| {
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    let (run, key) = (header("x-synthesis-run:"), header("x-synthesis-session:"));
    let tcp = |token: &str, path: &str, more: &[&str]| {
        let (bearer, url) =
            (format!("authorization: Bearer {token}"), format!("http://127.0.0.1:18900{path}"));
        let asked = ["curl", "-sS", "-m", "30", "-w", "\n%{http_code}", "-H", &bearer, &url];
        Answer::of(&machine.container.run_as(STRANGER, &[&asked, more].concat()))
    };
    assert_eq!(tcp("syn-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "/v1/models", &[]).status, 401);
    let begun = tcp(token, "/v1/runs", &["-H", JSON, "-d", r#"{"input":"HANG"}"#]);
    assert_eq!(begun.status, 201, "{begun:?}");
    let hung = begun.json()["id"].as_str().unwrap().to_owned();
    entry(&machine, "turn-start", ("SYNTHESIS_RUN", &hung));
    let abort = tcp(token, &format!("/v1/runs/{hung}/abort"), &["-X", "POST"]);
    assert_eq!(abort.status, 202, "{abort:?}");
    let failing = machine.chat(BOB, "failing", "API_ERROR 529");
    assert_eq!(failing.code(), "model_error");

    // Each as the journal has it.
    let frontd = machine.container.say(&["id", "-u", "synthesis"]);
    let uid_of = |user: &str| machine.container.say(&["id", "-u", user]);
    let by_run = ("SYNTHESIS_RUN", &*run);
    let admitted = entry(&machine, "admitted", by_run);
    assert_eq!(text(&admitted, "SYNTHESIS_ROUTE"), "POST /v1/chat/completions");
    assert_eq!(text(&admitted, "SYNTHESIS_CLIENT_UID"), uid_of(ALICE));
    let start = entry(&machine, "turn-start", by_run);
    let workspace = format!("/var/lib/synthesis/users/{ALICE}/workspace");
    assert_eq!(text(&start, "SYNTHESIS_WORKSPACE"), workspace);
    let end = entry(&machine, "turn-end", by_run);
    assert_eq!(text(&end, "SYNTHESIS_OUTCOME"), "completed");
    let usage = entry(&machine, "usage", by_run);
    assert_eq!(text(&usage, "SYNTHESIS_WITNESS"), "session");
    for entry in [&admitted, &start, &end, &usage] {
        assert_eq!(text(entry, "SYNTHESIS_PRINCIPAL"), ALICE);
        assert_eq!(text(entry, "SYNTHESIS_KEY"), key);
        assert_eq!((text(entry, "_UID"), text(entry, "_SYSTEMD_UNIT")), (&*frontd, FRONTD));
    }
    for entry in [&admitted, &start, &end] {
        assert_eq!(text(entry, "SYNTHESIS_REQUEST"), "by-alice.1");
    }
    for entry in [&start, &end, &usage] {
        assert_eq!(text(entry, "SYNTHESIS_USER"), ALICE);
        assert_eq!(text(entry, "SYNTHESIS_SESSION"), text(&start, "SYNTHESIS_SESSION"));
    }
    let stranger = entry(&machine, "authentication", ("SYNTHESIS_REASON", "invalid_api_key"));
    // On loopback the kernel knows more than an address.
    assert_eq!(text(&stranger, "SYNTHESIS_CLIENT_UID"), uid_of(STRANGER));
    let aborted = entry(&machine, "turn-end", ("SYNTHESIS_RUN", &hung));
    assert_eq!(text(&aborted, "SYNTHESIS_OUTCOME"), "aborted");
    assert_eq!(text(&aborted, "SYNTHESIS_PRINCIPAL"), BOB);
    assert_eq!(text(&entry(&machine, "abort", ("SYNTHESIS_RUN", &hung)), "SYNTHESIS_USER"), BOB);
    let failed = entry(&machine, "turn-end", ("SYNTHESIS_OUTCOME", "failed"));
    assert_eq!(text(&failed, "SYNTHESIS_REASON"), "model_error");
    assert_eq!(text(&entries(&machine, "restart")[0], "SYNTHESIS_COUNT"), "0");

    // It ends its process, and is answered then.
    let forget = machine.curl(ALICE, &format!("/v1/sessions/{key}"), &["-X", "DELETE"]);
    assert_eq!(forget.status, 204, "{forget:?}");
    entry(&machine, "admitted", ("SYNTHESIS_ROUTE", "DELETE /v1/sessions/{id}"));

    // The turn and its process, in one answer.
    let session = text(&start, "SYNTHESIS_SESSION");
    let all = [("=ID ", session), ("=RUN ", &run), ("=REQUEST ", "by-alice.1"), ("=KEY ", &key)];
    let all = all.map(|(name, value)| (name, format!("={value} ")));
    let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let asked = queries(&all);
    assert!(asked.len() > 15, "{asked:?}");
    let who = shell(&machine, &asked[0]);
    for said in [&run, session, "turn-start", "turn-end", "started", "completed", "peer", "token"] {
        assert!(who.contains(said), "no {said} in {who}");
    }
    let both = shell(&machine, &asked[1]);
    assert!(both.contains("claude was given a message") && both.contains("spawnd["), "{both}");

    forge(&machine, &run, session, &key);
    // What did not happen here.
    let never = ["out of memory", "=team", "=k3x7q2mz", "SYNTHESIS_PROOF=none", "75bf8fc6c8fce7"];
    for query in &asked {
        let found = shell(&machine, &query.replacen("journalctl", "journalctl -q --all", 1));
        assert_eq!(found.is_empty(), never.iter().any(|word| query.contains(word)), "{query}");
        assert!(!found.contains("forged"), "{query}\n  finds\n{found}");
        let (_, terms) = query.split_once("journalctl").unwrap();
        for term in terms.split(" + ") {
            assert!(term.contains(FRONTDS) || term.contains(SPAWNDS), "{term}");
        }
    }
    let everything = shell(&machine, &format!("journalctl -o json --all -u {FRONTD} -u {SPAWND}"));
    assert!(!everything.contains(word) && !everything.contains(token), "content is on record");
    let explained = shell(&machine, &format!("journalctl -q -x {FRONTDS}"));
    assert!(explained.contains("A turn of alice ended: completed"), "{explained}");
}

/// Entries of every kind, with all that a query may look for, by people who may write any: a user,
/// and frontd's own uid outside of its unit.
fn forge(machine: &Installed, run: &str, session: &str, key: &str) {
    let ids = DOC.split('`').filter(|word| word.len() == 32 && !word.contains(' '));
    let forged: String = ids
        .map(|id| {
            format!(
                "MESSAGE=forged\nMESSAGE_ID={id}\nSYNTHESIS_REASON=forged\nPRIORITY=5\n\
                 SYSLOG_IDENTIFIER=synthesis-frontd\nSYNTHESIS_KIND=forged\nSYNTHESIS_RUN={run}\n\
                 SYNTHESIS_SESSION={session}\nSYNTHESIS_KEY={key}\nSYNTHESIS_PRINCIPAL=alice\n\
                 SYNTHESIS_REQUEST=by-alice.1\nSYNTHESIS_USER=alice\nSYNTHESIS_OUTCOME=failed\n\
                 SYNTHESIS_EXIT=out of memory\nSYNTHESIS_TOKEN=k3x7q2mz\nSYNTHESIS_PROOF=none\n\
                 _UID=0\n_SYSTEMD_UNIT={FRONTD}\n\n"
            )
        })
        .collect();
    let count = forged.matches("MESSAGE=forged").count();
    assert!(count > 20, "{count}");
    for entry in forged.split_terminator("\n\n") {
        let file = "/srv/forged";
        fs::create_dir_all(machine.container.path("/srv")).unwrap();
        fs::write(machine.container.path(file), format!("{entry}\n")).unwrap();
        for user in [ALICE, "synthesis"] {
            let by = machine.container.run_as(user, &["logger", "--journald=/srv/forged"]);
            assert!(by.status.success(), "{by:?}");
        }
    }
    machine.container.say(&["journalctl", "--sync"]);
    let arrived = shell(machine, "journalctl -q -o cat SYNTHESIS_KIND=forged");
    assert_eq!(arrived.lines().count(), 2 * count, "they did arrive");
}
