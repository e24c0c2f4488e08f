//! `openapi.json` is kept: schemathesis (`make test` installs it) sends what it allows and what it
//! does not, and judges every answer: no 500, no status, header, media type or body that does not
//! stand there. What is sent and how it is judged: `schemathesis/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::required::{Required, Wanted};
use tests::harness::{Client, Options, Server, have_root, skip};
use tokio::process::Command;

/// Requests of each operation, beside the 1,500 that every pass begins with. SYNTHESIS_SCHEMA_EXAMPLES
/// says another number: 1,100 come to over 20,000 requests, in some minutes.
const EXAMPLES: usize = 40;
/// A pass of the greatest size on a busy machine.
const WITHIN: Duration = Duration::from_secs(3600);
/// The same requests each time, as far as they do not hang on answers.
const SEED: usize = 1;

const ALWAYS: [&str; 5] = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
];
const PHASES: &str = "coverage,fuzzing,stateful";
/// What the document does not allow is refused.
const REFUSES: &str = "negative_data_rejection";

#[tokio::test]
async fn no_answer_is_undocumented() {
    let Some(tool) = schemathesis() else { return };
    let examples = std::env::var("SYNTHESIS_SCHEMA_EXAMPLES").ok();
    let examples = examples.map_or(EXAMPLES, |text| text.parse().unwrap());
    let server = Server::start(Options {
        config: "[limits]\nprocesses = 8\nslot_wait_seconds = 1\n".to_owned(),
        fake: Some(fake()),
        ..Options::default()
    })
    .await;
    let pass = Pass { examples, ..Pass::of(&tool, &server.client) };
    let report = pass.run().await;
    assert!(report.passed, "{}\nthe server:\n{}", report.said, tail(&server.log()));
    let document = server.client.get("/openapi.json").await.json();
    let seen = &report.seen;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            // It takes its own place out.
            let well = |status: u16| (200..300).contains(&status);
            let served = seen.get(&(method.clone(), path.clone()));
            let served = served.is_some_and(|statuses| statuses.keys().any(|s| well(*s)));
            assert!(served || path == "/openapi.json", "{method} {path}: {seen:?}");
        }
    }
    let total = report.total();
    eprintln!("{total} requests, {} of them judged: {:?}", report.judged, report.statuses());
    assert!(report.judged >= 1000 + 10 * examples, "{}", report.said);
    assert_eq!(server.client.chat("hello").await.content(), "echo: hello");
}

#[tokio::test]
async fn no_answer_to_a_known_client_is_undocumented() {
    let Some(tool) = schemathesis() else { return };
    if !have_root() {
        return;
    }
    let limit = |requests: usize| Wanted {
        config: format!("[principals]\nrequests_per_minute = {requests}\n"),
        fake: Some(fake()),
        ..Wanted::default()
    };
    let free = Required::start(limit(1_000_000)).await;
    let known = free.bearer(&free.token(&["--user", "alice"]));
    let report = Pass::of(&tool, &known).run().await;
    assert!(report.passed, "{}\nthe server:\n{}", report.said, tail(&free.log()));
    assert!(report.statuses().contains_key(&201), "{:?}", report.statuses());

    let report = Pass { is_served: false, ..Pass::of(&tool, &free.client) }.run().await;
    assert!(report.passed, "{}\nthe server:\n{}", report.said, tail(&free.log()));
    assert!(report.statuses().contains_key(&401), "{:?}", report.statuses());
    drop(free);

    let narrow = Required::start(limit(60)).await;
    let known = narrow.bearer(&narrow.token(&["--user", "bob"]));
    let report = Pass { is_served: false, ..Pass::of(&tool, &known) }.run().await;
    assert!(report.passed, "{}\nthe server:\n{}", report.said, tail(&narrow.log()));
    assert!(report.statuses().contains_key(&429), "{:?}", report.statuses());
}

/// The instrument itself.
#[tokio::test]
async fn an_undocumented_status_is_found() {
    let Some(tool) = schemathesis() else { return };
    let server = Server::start(Options { fake: Some(fake()), ..Options::default() }).await;
    let mut document = server.client.get("/openapi.json").await.json();
    let answers = &mut document["paths"]["/v1/sessions"]["get"]["responses"];
    answers.as_object_mut().unwrap().remove("400").unwrap();
    let client = &server.client;
    let pass = Pass { document: Some(document), ..Pass::of(&tool, client) };
    let pass = Pass { only: Some("listSessions"), ..pass };
    let report = pass.run().await;
    assert!(!report.passed, "{}", report.said);
    for told in ["Undocumented status code", "Received: 400", "GET /v1/sessions"] {
        assert!(report.said.contains(told), "{told}: {}", report.said);
    }
}

/// Boots at once; its first hook would wait for a channel that is not there yet.
fn fake() -> Value {
    json!({ "development_dialog": false, "start_hook": false, "quiet": true })
}

/// One run of schemathesis.
struct Pass<'a> {
    tool: &'a Path,
    client: &'a Client,
    examples: usize,
    /// Does the server do what it is asked? Else even a good request is refused.
    is_served: bool,
    /// Another document than the server's.
    document: Option<Value>,
    /// One operation.
    only: Option<&'static str>,
}

struct Report {
    passed: bool,
    said: String,
    judged: usize,
    /// Of each operation, how often each status came.
    seen: BTreeMap<(String, String), BTreeMap<u16, usize>>,
}

impl<'a> Pass<'a> {
    fn of(tool: &'a Path, client: &'a Client) -> Self {
        Self { tool, client, examples: 3, is_served: true, document: None, only: None }
    }

    async fn run(self) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let (seen, told) = (folder.path().join("seen.json"), folder.path().join("report.json"));
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/schemathesis");
        let base = format!("http://{}", self.client.address);
        let mut checks = ALWAYS.to_vec();
        checks.extend(self.is_served.then_some(REFUSES));
        let mut command = Command::new(self.tool);
        command
            // A proxy of the caller's, or a configuration, would change what it does.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", files.join("hooks.py"))
            .env("SYNTHESIS_SEEN", &seen)
            .current_dir(folder.path())
            .arg("--no-color")
            .arg("--config-file")
            .arg(files.join("schemathesis.toml"))
            .arg("run");
        match &self.document {
            Some(document) => {
                let file = folder.path().join("openapi.json");
                std::fs::write(&file, document.to_string()).unwrap();
                command.arg(file).args(["--url", &base]);
            }
            None => {
                command.arg(format!("{base}/openapi.json"));
            }
        }
        if let Some(only) = self.only {
            command.args(["--include-operation-id", only]);
        }
        // The cases that are made for each parameter and field suffice where nothing is served.
        command.args(["--phases", if self.is_served { PHASES } else { "coverage" }]);
        for (name, value) in &self.client.headers {
            command.arg("--header").arg(format!("{name}: {value}"));
            // hooks.py begins runs of its own.
            command.env(format!("SYNTHESIS_{}", name.to_uppercase()), value);
        }
        command
            .args(["--checks", &checks.join(",")])
            .args(["--max-examples", &self.examples.to_string()])
            .args(["--seed", &SEED.to_string()])
            .args(["--report", "json"])
            .arg("--report-json-path")
            .arg(&told)
            .kill_on_drop(true);
        let output = tokio::time::timeout(WITHIN, command.output()).await;
        let output = output.expect("it ends in time").expect("it runs");
        let [said, complained] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let told: Value = read(&told).unwrap_or_else(|| panic!("no report: {said}{complained}"));
        let judged = usize::try_from(told["test_cases"]["generated"].as_u64().unwrap()).unwrap();
        let passed = output.status.success() && told["complete"] == json!(true);
        Report { passed, said: said + &complained, judged, seen: by_operation(&seen) }
    }
}

impl Report {
    fn statuses(&self) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for (status, count) in self.seen.values().flatten() {
            *statuses.entry(*status).or_default() += count;
        }
        statuses
    }

    fn total(&self) -> usize {
        self.statuses().values().sum()
    }
}

/// `GET /v1/runs/{id} 200`: how often.
fn by_operation(path: &Path) -> BTreeMap<(String, String), BTreeMap<u16, usize>> {
    let seen: BTreeMap<String, usize> = read(path).expect("hooks.py tells what was seen");
    let mut operations: BTreeMap<_, BTreeMap<u16, usize>> = BTreeMap::new();
    for (what, count) in seen {
        let [method, path, status] = what.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let operation = operations.entry((method.to_owned(), path.to_owned())).or_default();
        operation.insert(status.parse().unwrap(), count);
    }
    operations
}

/// What a server said last.
fn tail(log: &str) -> &str {
    const LENGTH: usize = 4000;
    &log[log.ceil_char_boundary(log.len().saturating_sub(LENGTH))..]
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn schemathesis() -> Option<PathBuf> {
    const VARIABLE: &str = "SYNTHESIS_TEST_SCHEMATHESIS";
    let tool = std::env::var_os(VARIABLE).map(PathBuf::from);
    if tool.is_none() {
        skip(&format!("no schemathesis: {VARIABLE} is not set (make test installs it)"));
    }
    tool
}
