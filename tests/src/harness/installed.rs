//! A throw-away machine on which the real installation runs under a real systemd, as an
//! administrator sets it up: accounts, folders, sockets, policy as shipped.
#![expect(clippy::unwrap_used, reason = "what a test cannot have ends it")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::container::{Container, Groups};
use super::machine::put;
use super::spawnd::until;
use super::{binary, skip};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
pub const SPAWND: &str = "synthesis-spawnd.service";
pub const FRONTD: &str = "synthesis-frontd.service";
/// Members of synthesis-users.
pub const ALICE: &str = "alice";
pub const BOB: &str = "bob";
/// An account that is no member.
pub const STRANGER: &str = "mallory";

/// The folder of the programs that this test was built with.
pub fn programs() -> PathBuf {
    binary("frontd").parent().unwrap().to_owned()
}

/// A target of the Makefile with these variables.
///
/// # Panics
/// When make cannot be run.
pub fn make(target: &str, variables: &[(&str, &str)]) -> Output {
    let mut make = Command::new("make");
    make.args(["--silent", "-C", ROOT, target]);
    // A jobserver of the make that started this test is none of ours.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    make.output().unwrap()
}

/// `make install` into a stage, as a package would have it.
///
/// # Panics
/// When it fails.
pub fn lay_out(stage: &Path) {
    let (stage, programs) = (stage.to_str().unwrap(), programs());
    let bin = programs.to_str().unwrap();
    let made = make("install", &[("DESTDIR", stage), ("PREFIX", "/usr"), ("BIN", bin)]);
    assert!(made.status.success(), "{made:?}");
}

/// Units of the stage that its machine starts by itself.
///
/// # Panics
/// When they cannot be enabled.
pub fn enable(stage: &Path, units: &[&str]) {
    let mut systemctl = Command::new("systemctl");
    let root = format!("--root={}", stage.display());
    let enabled = systemctl.args(["--quiet", &root, "enable"]).args(units).output().unwrap();
    assert!(enabled.status.success(), "{enabled:?}");
}

/// A stage that becomes a container's root folder, which everybody must get through.
///
/// # Panics
/// When it cannot be made.
pub fn stage() -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755)).unwrap();
    stage
}

/// The sources that `make install` needs, with built programs in `bin`, below `to` of the stage.
///
/// # Panics
/// When they cannot be copied.
pub fn sources(stage: &Path, to: &str) {
    let to = stage.join(to);
    fs::create_dir_all(to.join("bin")).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-r").args(["Makefile", "systemd", "docs"].map(|n| format!("{ROOT}/{n}")));
    assert!(copy.arg(&to).status().unwrap().success());
    for program in ["frontd", "spawnd", "launch", "channel"] {
        put(&to, &binary(program), &format!("bin/{program}"), 0o755);
    }
}

pub const VERSIONS: [&str; 2] = ["0.1.0-1", "0.2.0-1"];

/// The Debian package of this build, once in each of [`VERSIONS`]. Packed once for all tests of a
/// process. `None`, said, where that cannot be done.
///
/// # Panics
/// When it fails.
pub fn packages() -> Option<&'static [PathBuf; 2]> {
    static PACKAGES: OnceLock<Option<[PathBuf; 2]>> = OnceLock::new();
    let pack = || {
        if Command::new("cargo").arg("--version").output().is_err() {
            skip("needs cargo to have cargo-deb");
            return None;
        }
        let programs = programs();
        let out = programs.join("packages");
        Some(VERSIONS.map(|version| {
            let made = make(
                "deb",
                &[
                    ("BIN", programs.to_str().unwrap()),
                    ("OUT", out.to_str().unwrap()),
                    ("VERSION", version),
                    ("FAST", "1"),
                ],
            );
            assert!(made.status.success(), "{made:?}");
            out.join(format!("synthesis_{version}_amd64.deb"))
        }))
    };
    PACKAGES.get_or_init(pack).as_ref()
}

/// Puts both packages into a stage, as `/opt/old.deb` and `/opt/new.deb`; false where there are none.
pub fn put_packages(stage: &Path) -> bool {
    let Some(packages) = packages() else { return false };
    for (package, name) in packages.iter().zip(["old.deb", "new.deb"]) {
        put(stage, package, &format!("opt/{name}"), 0o644);
    }
    true
}

/// The fake claude, or another program of this build, where the shipped policy looks for the CLI.
pub fn put_claude(stage: &Path, program: &str) {
    put(stage, &binary(program), "usr/lib/synthesis/claude", 0o755);
}

/// A machine on which both daemons wait for the first request.
pub struct Installed {
    pub container: Container,
}

impl Installed {
    /// `None` where there can be none, which was said then.
    pub fn boot() -> Option<Self> {
        Self::boot_with(Groups::Usual, |_| {})
    }

    /// With another stage: `adapt` gets it after all was laid out.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn boot_with(groups: Groups, adapt: impl FnOnce(&Path)) -> Option<Self> {
        if !Container::is_possible() {
            return None;
        }
        let stage = stage();
        lay_out(stage.path());
        put_claude(stage.path(), "fake-claude");
        adapt(stage.path());
        let machine = Self { container: Container::boot_on(groups, stage.path()) };
        machine.set_up();
        Some(machine)
    }

    /// On which nothing of ours is installed yet; `fill` gets the stage. Where there can be one.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn boot_bare(fill: impl FnOnce(&Path)) -> Self {
        let stage = stage();
        fill(stage.path());
        Self { container: Container::boot(stage.path()) }
    }

    /// What the package's postinst, and then the administrator does.
    ///
    /// # Panics
    /// When a step fails.
    pub fn set_up(&self) {
        let users = [ALICE, BOB].map(|name| {
            format!("useradd --create-home --groups synthesis-users --shell /bin/sh {name}")
        });
        let steps = [
            "systemd-sysusers synthesis.conf".to_owned(),
            "systemd-tmpfiles --create synthesis.conf".to_owned(),
            "journalctl --update-catalog".to_owned(),
            users.join("; "),
            format!("useradd --create-home --shell /bin/sh {STRANGER}"),
            "systemctl enable --quiet --now synthesis-spawnd.socket synthesis-frontd.socket".into(),
        ];
        self.container.say(&["sh", "-ec", &steps.join("\n")]);
    }

    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.container.say(&[&["systemctl"], arguments].concat())
    }

    /// A request of this account over the Unix socket, as curl has it; the status stands alone in
    /// the last line of what it prints.
    pub fn curl(&self, user: &str, path: &str, more: &[&str]) -> Answer {
        Answer::of(&self.container.run_as(user, &curl(path, more)))
    }

    /// As [`Self::curl`], while the test does something else.
    pub fn curling(&self, user: &str, path: &str, more: &[&str]) -> Child {
        self.container.start_as(user, &curl(path, more))
    }

    /// A chat completion of this account in the conversation of this name.
    pub fn chat(&self, user: &str, session: &str, text: &str) -> Answer {
        Answer::of(&self.chatting(user, session, text).wait_with_output().unwrap())
    }

    pub fn chatting(&self, user: &str, session: &str, text: &str) -> Child {
        let body = json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
        let header = format!("x-synthesis-session: {session}");
        self.curling(user, "/v1/chat/completions", &["-H", JSON, "-H", &header, "-d", &body])
    }

    /// Every claude there is: its process id and its account.
    pub fn claudes(&self) -> BTreeSet<(u32, String)> {
        let all = self.container.say(&["ps", "-e", "-o", "pid=,user:32=,args="]);
        let claude = |line: &str| {
            let mut words = line.split_whitespace();
            let (pid, user) = (words.next()?.parse().ok()?, words.next()?.to_owned());
            (words.next()? == "/usr/lib/synthesis/claude").then_some((pid, user))
        };
        all.lines().filter_map(claude).collect()
    }

    /// A property of a unit.
    pub fn shows(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", &format!("--property={property}"), unit])
    }

    /// What both daemons and systemd said of them.
    pub fn log(&self) -> String {
        let units = ["-u", SPAWND, "-u", FRONTD];
        self.container.say(&[&["journalctl", "--no-pager", "-o", "cat"], &units[..]].concat())
    }

    /// # Panics
    /// When the log does not say so in time.
    pub fn waits_for_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }
}

pub const JSON: &str = "content-type: application/json";
/// curl's own patience, in seconds.
const WITHIN: &str = "60";

fn curl<'a>(path: &str, more: &[&'a str]) -> Vec<&'a str> {
    // A test has a handful of paths; the command wants them as long as it lives.
    let url: &'static str = format!("http://localhost{path}").leak();
    let socket = ["curl", "-sSN", "-m", WITHIN, "--unix-socket", "/run/synthesis/http.sock"];
    [&socket[..], &["-w", "\n%{http_code}", url], more].concat()
}

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// # Panics
    /// When there was no answer.
    pub fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
        Self { status: status.parse().unwrap(), body: body.to_owned() }
    }

    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Of a chat completion.
    ///
    /// # Panics
    /// When it is none.
    pub fn content(&self) -> String {
        let json = self.json();
        let content = json["choices"][0]["message"]["content"].as_str();
        content.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// Of an error.
    ///
    /// # Panics
    /// When it is none.
    pub fn code(&self) -> String {
        let json = self.json();
        json["error"]["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}
