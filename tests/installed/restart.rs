//! The daemons go and come back, one by one and by an upgrade, with sessions at work: no session
//! ends, no answer is lost or told twice, nobody is turned away from the port.

use std::collections::BTreeSet;
use std::process::Child;

use serde_json::{Value, json};
use tests::directive::STAGES;
use tests::harness::container::Container;
use tests::harness::installed::{ALICE, FRONTD, Installed, JSON, SPAWND, put_claude, put_packages};
use tests::harness::spawnd::until;

const SESSIONS: usize = 20;
const AT_WORK: usize = 5;
/// Of the fakes, all in the workspace of one user.
const WORKSPACE: &str = "/var/lib/synthesis/users/alice/workspace";

/// What an administrator, a fault or a package does to the daemons.
const ENDS: [&[&str]; 5] = [
    &["systemctl", "restart", FRONTD],
    &["systemctl", "restart", SPAWND],
    &["systemctl", "kill", "--kill-whom=main", "--signal=KILL", FRONTD],
    &["systemctl", "kill", "--kill-whom=main", "--signal=KILL", SPAWND],
    &["dpkg", "-i", "/opt/new.deb"],
];

/// Knocks at the port every few milliseconds, and says when it was not let in.
const KNOCK: &str = r#"
use Socket;
$| = 1;
print "knocking\n";
while (!-e "/tmp/enough") {
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
    connect($s, sockaddr_in(18900, inet_aton("127.0.0.1"))) or print "refused: $!\n";
    select(undef, undef, undef, 0.005);
}
"#;

/// One user's 20 sessions, whose claudes wait in the midst of a message with stages.
fn boot() -> Option<Installed> {
    if !Container::is_possible() {
        return None;
    }
    let mut packed = false;
    let machine = Installed::boot_bare(|stage| {
        packed = put_packages(stage);
        put_claude(stage, "fake-claude");
        let conf = json!({ "holds": ["progress"] }).to_string();
        std::fs::write(stage.join("usr/lib/synthesis/claude.conf"), conf).unwrap();
    });
    if !packed {
        return None;
    }
    machine.container.say(&["dpkg", "-i", "/opt/old.deb"]);
    let many = "[limits]\nprocesses = 100\n[principals]\nprocesses = 100\nruns = 1000\n\
        requests_per_minute = 100000\n";
    std::fs::write(machine.container.path("/etc/synthesis/frontd.toml"), many).unwrap();
    machine.set_up();
    Some(machine)
}

/// A run that is begun, and whoever reads its events.
struct Run {
    id: String,
    reader: Child,
}

impl Run {
    fn begin(machine: &Installed, session: usize, key: &str) -> Self {
        let session = format!("x-synthesis-session: s{session}");
        let key = format!("idempotency-key: {key}");
        let body = json!({ "input": "STAGES" }).to_string();
        let headers = ["-H", JSON, "-H", &session, "-H", &key, "-d", &body];
        let begun = machine.curl(ALICE, "/v1/runs", &headers);
        assert_eq!(begun.status, 201, "{begun:?} {}", machine.log());
        let id = begun.json()["id"].as_str().unwrap().to_owned();
        let reader = machine.curling(ALICE, &format!("/v1/runs/{id}/events"), &[]);
        Self { id, reader }
    }

    /// Its reader was cut off at most; who reads from the beginning has every event once, and one
    /// answer.
    fn ends_whole(self, machine: &Installed, how: &[&str]) {
        drop(self.reader.wait_with_output());
        let all = machine.curl(ALICE, &format!("/v1/runs/{}/events", self.id), &[]);
        assert_eq!(all.status, 200, "{how:?}: {all:?}");
        let events: Vec<Value> = all
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let finished = events.iter().filter(|event| event["type"] == "finished").count();
        assert_eq!(finished, 1, "{how:?}: {events:#?} {}", machine.log());
        let texts: Vec<&str> = events
            .iter()
            .filter(|event| event["type"] == "text-delta")
            .map(|event| event["delta"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(texts.concat(), STAGES.concat(), "{how:?}: {events:#?}");
        let run = machine.curl(ALICE, &format!("/v1/runs/{}", self.id), &[]).json();
        assert_eq!(run["status"], "completed", "{how:?}: {run}");
    }
}

/// How often claudes were given messages, by their journal.
fn pushes(machine: &Installed) -> Vec<String> {
    let journal = std::fs::read_to_string(machine.container.path(&format!("{WORKSPACE}/journal")));
    let journal = journal.unwrap_or_default();
    let pushed = journal.lines().filter(|line| line.split(' ').nth(1) == Some("push"));
    pushed.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn no_session_ends_and_no_answer_is_lost_whatever_becomes_of_the_daemons() {
    let Some(machine) = boot() else { return };
    let place = |name: &str| machine.container.path(&format!("{WORKSPACE}/{name}"));
    let asked: Vec<Child> =
        (0..SESSIONS).map(|n| machine.chatting(ALICE, &format!("s{n}"), "hello")).collect();
    for asked in asked {
        let answer = asked.wait_with_output().unwrap();
        assert!(answer.status.success(), "{answer:?} {}", machine.log());
    }
    let claudes = machine.claudes();
    assert_eq!(claudes.len(), SESSIONS, "{}", machine.log());
    let inode = ["stat", "-c", "%i", "/run/synthesis/http.sock"];
    let socket = machine.container.say(&inode);
    let knocking = machine.container.start_as("nobody", &["perl", "-e", KNOCK]);

    for (round, how) in ENDS.iter().enumerate() {
        let before = pushes(&machine).len();
        let begin = |n: usize| Run::begin(&machine, n, &format!("key-{round}-{n}"));
        let runs: Vec<Run> = (0..AT_WORK).map(begin).collect();
        until("all of them at work", || (pushes(&machine).len() == before + AT_WORK).then_some(()));
        until("one of them in the midst", || place("at-progress").exists().then_some(()));
        let pids = [SPAWND, FRONTD].map(|unit| machine.shows(unit, "MainPID"));
        machine.container.say(how);
        until("another daemon", || {
            let now = [SPAWND, FRONTD].map(|unit| machine.shows(unit, "MainPID"));
            (now != pids && !now.contains(&"0".to_owned())).then_some(())
        });
        std::fs::write(place("go-progress"), "").unwrap();
        for run in runs {
            run.ends_whole(&machine, how);
        }
        assert_eq!(pushes(&machine).len(), before + AT_WORK, "{how:?}: a message was given again");
        assert_eq!(machine.claudes(), claudes, "{how:?} {}", machine.log());
        for name in ["go-progress", "at-progress"] {
            std::fs::remove_file(place(name)).unwrap();
        }
    }
    // Every session is the one that it was, idle ones too.
    std::fs::write(place("go-progress"), "").unwrap();
    for n in 0..SESSIONS {
        assert_eq!(machine.chat(ALICE, &format!("s{n}"), "still").content(), "echo: still");
    }
    assert_eq!(machine.claudes(), claudes);
    let messages = pushes(&machine);
    let different: BTreeSet<&String> = messages.iter().collect();
    assert_eq!(different.len(), messages.len(), "a message was given twice");

    assert_eq!(machine.container.say(&inode), socket);
    machine.container.say(&["touch", "/tmp/enough"]);
    let knocked = knocking.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&knocked.stdout), "knocking\n");
}
