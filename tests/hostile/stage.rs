//! One spawnd with its frontd played by the test, and the way to let a hostile claude try things.

use std::fs;
use std::path::{Path, PathBuf};

use proto::ids::SessionId;
use proto::spawn::{Event, Spawn};
use tests::harness::seqpacket::{Client, Started};
use tests::harness::spawnd::{Daemon, Settings, User, file, until};
use tests::hostile_claude::{ATTACKS, Attempt, DONE, Line, Outcome, REPORT};

pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) daemon: Daemon,
    workspaces: u32,
}

/// A hostile claude that lives.
pub(crate) struct Attacker {
    pub(crate) started: Started,
    pub(crate) workspace: PathBuf,
}

pub(crate) struct Report(pub(crate) Vec<Line>);

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        let daemon = Daemon::start(settings);
        let client = daemon.client();
        Self { client, daemon, workspaces: 0 }
    }

    pub(crate) fn workspace(&mut self, user: &User) -> PathBuf {
        self.workspaces += 1;
        self.daemon.place.workspace(user, &format!("w{}", self.workspaces))
    }

    /// A workspace of this user in which these attempts lie ready.
    pub(crate) fn prepare(&mut self, user: &User, attempts: &[Attempt]) -> (PathBuf, Spawn) {
        let workspace = self.workspace(user);
        write_attempts(&workspace, user, attempts);
        let request = self.daemon.request_of(user, &workspace);
        (workspace, request)
    }

    /// Starts a claude of this user that tries these.
    pub(crate) fn begin(&mut self, user: &User, attempts: &[Attempt]) -> Attacker {
        let (workspace, request) = self.prepare(user, attempts);
        let started = self.client.spawn(&request);
        let started =
            started.unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", self.daemon.place.log()));
        Attacker { started, workspace }
    }

    /// What became of these attempts of the first user's claude; it lives on.
    pub(crate) fn attack(&mut self, attempts: &[Attempt]) -> (Attacker, Report) {
        let user = self.daemon.users[0].clone();
        let attacker = self.begin(&user, attempts);
        let report = attacker.report();
        (attacker, report)
    }

    /// One attempt.
    pub(crate) fn attempt(&mut self, attempt: Attempt) -> Line {
        let (attacker, report) = self.attack(&[attempt]);
        self.client.end(&attacker.started.session);
        report.0.into_iter().next().unwrap()
    }

    /// READY was said for this session, by the events that came so far or come soon.
    pub(crate) fn saw_ready(&mut self, session: &SessionId, within: std::time::Duration) -> bool {
        while let Some(event) = self.client.event(within) {
            if matches!(&event, Event::Ready { session: found, .. } if found == session) {
                return true;
            }
        }
        false
    }
}

pub(crate) fn write_attempts(workspace: &Path, user: &User, attempts: &[Attempt]) {
    let text = serde_json::to_string(attempts).unwrap();
    file(&workspace.join(ATTACKS), &text, user.uid, 0o644);
}

impl Attacker {
    /// When all was tried.
    pub(crate) fn report(&self) -> Report {
        let done = self.workspace.join(DONE);
        until("the attacker's report", || done.exists().then_some(()));
        self.report_so_far()
    }

    pub(crate) fn report_so_far(&self) -> Report {
        let text = fs::read_to_string(self.workspace.join(REPORT)).unwrap_or_default();
        Report(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.started.session
    }
}

impl Report {
    /// Nothing of it worked, and everything was tried.
    #[track_caller]
    pub(crate) fn all_denied(&self) {
        let open: Vec<&Line> =
            self.0.iter().filter(|line| line.outcome != Outcome::Denied).collect();
        assert!(!self.0.is_empty() && open.is_empty(), "not denied: {open:#?}");
    }

    #[track_caller]
    pub(crate) fn all_succeeded(&self) {
        let failed: Vec<&Line> =
            self.0.iter().filter(|line| line.outcome != Outcome::Succeeded).collect();
        assert!(!self.0.is_empty() && failed.is_empty(), "did not succeed: {failed:#?}");
    }
}
