//! Sessions in scopes of systemd: the command that makes one, what is in it, its end, and whether
//! the kernel killed in it for want of memory. A scope outlives this daemon.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::Pid;
use proto::ids::SessionId;

use crate::cgroup::{self, Hierarchy};
use crate::policy::ScopeLimits;
use crate::refusal::Refusal;
use crate::spawn::by_descriptor;
use crate::{family, log, process, sys};

const SLICE: &str = "synthesis-sessions.slice";
/// systemd nests slices by the dashes of their names.
const SLICE_PATH: &str = "synthesis.slice/synthesis-sessions.slice";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("systemd-run {path}: {source}")]
    SystemdRun { path: PathBuf, source: std::io::Error },
    #[error("no version 2 control groups of systemd are mounted here: scopes cannot be watched")]
    NoControlGroups,
}

/// What is needed to make scopes and to find them again.
pub struct Scopes {
    systemd_run: OwnedFd,
    /// The slice's group as /proc names it, and its folder.
    group: String,
    folder: PathBuf,
}

impl Scopes {
    /// # Errors
    /// When systemd is not at work here.
    pub fn open(systemd_run: &Path) -> Result<Self, Error> {
        let failed = |source| Error::SystemdRun { path: systemd_run.to_owned(), source };
        let program = File::open(systemd_run).map_err(failed)?;
        // systemd itself sits in init.scope below the root of its tree.
        let init = cgroup::of_process(Pid::from_raw(1), Hierarchy::Unified);
        let init = init.ok_or(Error::NoControlGroups)?;
        let root = init.strip_suffix("init.scope").ok_or(Error::NoControlGroups)?;
        let group = format!("{root}{SLICE_PATH}");
        let folder = cgroup::folder(&group, Hierarchy::Unified).ok_or(Error::NoControlGroups)?;
        Ok(Self { systemd_run: program.into(), group, folder })
    }

    /// systemd-run in the place of launch, which it becomes once it is in the new scope: same
    /// process, same descriptors. launch itself is descriptor [`sys::exec::PROGRAM`].
    pub fn command(&self, session: &SessionId, limits: &ScopeLimits) -> Command {
        let mut command = Command::new(by_descriptor(self.systemd_run.as_fd()));
        command.arg0("systemd-run").args(arguments(session, limits));
        command
    }

    /// The scope of a session, made or not.
    pub fn of(&self, session: &SessionId) -> Scope {
        let unit = unit(session);
        Scope {
            group: format!("{}/{unit}", self.group),
            folder: self.folder.join(unit),
            memory: None,
        }
    }

    /// Sessions that have a scope now.
    pub fn found(&self) -> Vec<SessionId> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        entries.filter_map(|entry| session_of(entry.ok()?.file_name().to_str()?)).collect()
    }
}

fn unit(session: &SessionId) -> String {
    format!("synthesis-{session}.scope")
}

fn session_of(unit: &str) -> Option<SessionId> {
    SessionId::new(unit.strip_prefix("synthesis-")?.strip_suffix(".scope")?).ok()
}

/// systemd-run(1), systemd.resource-control(5), systemd.kill(5).
fn arguments(session: &SessionId, limits: &ScopeLimits) -> Vec<String> {
    let mut all = vec![
        "--quiet".to_owned(),
        "--no-ask-password".to_owned(),
        "--scope".to_owned(),
        // A scope that failed would keep its name.
        "--collect".to_owned(),
        format!("--unit={}", unit(session)),
        format!("--slice={SLICE}"),
        // Else it is the command line, for all to read.
        "--description=synthesis session".to_owned(),
    ];
    let mut property = |text: String| all.push(format!("--property={text}"));
    property(format!("MemoryMax={}", limits.memory_bytes));
    property(format!("TasksMax={}", limits.tasks));
    property(format!("CPUWeight={}", limits.cpu_weight));
    // An empty list would reset what was never set, and load a filter that passes everything.
    for (name, addresses) in [("Allow", &limits.ip_allow), ("Deny", &limits.ip_deny)] {
        // systemd-run takes a word as `link-local` only alone; more properties add up.
        for address in addresses {
            property(format!("IPAddress{name}={address}"));
        }
    }
    // A shell that ignores SIGTERM must not hold up a stop of the slice.
    property("SendSIGHUP=yes".to_owned());
    property("TimeoutStopSec=3".to_owned());
    all.push("--".to_owned());
    all.push(format!("/proc/self/fd/{}", sys::exec::PROGRAM));
    all
}

/// One session's scope.
pub struct Scope {
    group: String,
    folder: PathBuf,
    memory: Option<Memory>,
}

impl Scope {
    /// From here on `pid` is known to be in the scope and its memory is watched.
    ///
    /// # Errors
    /// When it is not in this scope.
    pub fn enter(&mut self, pid: Pid) -> Result<(), Refusal> {
        if !self.holds(pid) {
            return Err(Refusal::Scope);
        }
        self.memory = Memory::open(&self.folder, pid);
        Ok(())
    }

    pub fn holds(&self, pid: Pid) -> bool {
        cgroup::of_process(pid, Hierarchy::Unified).is_some_and(|group| group == self.group)
    }

    /// Readable with priority when the kernel counts something new.
    pub fn memory_events(&self) -> Option<BorrowedFd<'_>> {
        self.memory.as_ref().map(|memory| memory.file.as_fd())
    }

    /// To be called before the last process is waited for: the counter goes with its group.
    pub fn look_at_memory(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.look();
        }
    }

    /// Did the kernel kill in here for want of memory since this daemon watches? `unasked`: nobody
    /// here asked for the end, so that a kill that was counted somewhere may be this one.
    pub fn ran_out_of_memory(&self, unasked: bool) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.killed || (unasked && memory.suspected))
    }

    /// SIGKILL to all that is in the scope.
    pub fn strike(&self) {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            Ok(()) => {}
            // Linux before 5.14; or the group is gone, and there is nothing to read either.
            Err(_) => {
                self.processes()
                    .into_iter()
                    .filter_map(process::one)
                    .for_each(|p| family::kill(&p));
            }
        }
    }

    /// Is nothing left in it? A group that is gone is empty.
    pub fn is_over(&self) -> bool {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Ok(events) => value(&events, "populated") == Some(0),
            Err(error) => matches!(
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
                Errno::ENOENT | Errno::ENODEV
            ),
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let list = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
    }
}

/// The kernel's count of kills in one group. systemd removes a group as soon as it is empty and
/// may be faster than this daemon. Of version 2's file poll(2) tells each kill; version 1's has no
/// such event, and the kernel's count of all kills decides instead.
struct Memory {
    file: File,
    baseline: u64,
    /// Version 1 only: of the whole machine, when the group could still be read.
    overall: Option<u64>,
    killed: bool,
    /// The group was gone, and the machine's count had risen.
    suspected: bool,
}

impl Memory {
    fn open(folder: &Path, pid: Pid) -> Option<Self> {
        let unified = File::open(folder.join("memory.events")).ok().map(|file| (file, None));
        let found = unified.or_else(|| {
            let memory = Hierarchy::Controller("memory");
            let folder = cgroup::folder(&cgroup::of_process(pid, memory)?, memory)?;
            let file = File::open(folder.join("memory.oom_control")).ok()?;
            Some((file, Some(overall_kills())))
        });
        let Some((file, overall)) = found else {
            log::warning(format_args!("memory of pid {pid} cannot be watched"));
            return None;
        };
        let baseline = kills(&file)?;
        Some(Self { file, baseline, overall, killed: false, suspected: false })
    }

    fn look(&mut self) {
        let overall = self.overall.map(|_| overall_kills());
        self.note(kills(&self.file), overall);
    }

    /// `own`: `None` when the group is gone.
    fn note(&mut self, own: Option<u64>, overall: Option<u64>) {
        match own {
            Some(now) => {
                self.killed |= now > self.baseline;
                self.overall = overall;
            }
            // Without a count of the machine nothing is more than nothing.
            None => self.suspected |= overall > self.overall,
        }
    }
}

/// Both files are a few short lines. Read from their beginning, whatever was read before.
fn kills(file: &File) -> Option<u64> {
    let mut bytes = [0; 1024];
    let len = file.read_at(&mut bytes, 0).ok()?;
    value(std::str::from_utf8(bytes.get(..len)?).ok()?, "oom_kill")
}

fn overall_kills() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    value(&counters, "oom_kill").unwrap_or(0)
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == key).then(|| number.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_sessions_scopes_are_taken() {
        let session = SessionId::random();
        assert_eq!(session_of(&unit(&session)), Some(session));
        for other in ["synthesis-x.scope", "synthesis-.scope", "cgroup.procs", "user.scope"] {
            assert_eq!(session_of(other), None);
        }
    }

    #[test]
    fn limits_become_properties_and_launch_comes_last() {
        let limits = ScopeLimits {
            memory_bytes: 1 << 30,
            tasks: 7,
            cpu_weight: 100,
            ip_allow: Vec::new(),
            ip_deny: vec!["link-local".to_owned(), "10.0.0.0/8".to_owned()],
        };
        let session = SessionId::random();
        let arguments = arguments(&session, &limits);
        let has = |text: &str| arguments.iter().any(|argument| argument == text);
        assert!(has(&format!("--unit=synthesis-{session}.scope")));
        assert!(has("--property=MemoryMax=1073741824") && has("--property=TasksMax=7"));
        // Two in one property are refused by systemd-run.
        assert!(has("--property=IPAddressDeny=link-local"));
        assert!(has("--property=IPAddressDeny=10.0.0.0/8"));
        assert!(!arguments.iter().any(|argument| argument.contains("IPAddressAllow")));
        assert!(arguments.ends_with(&["--".to_owned(), "/proc/self/fd/5".to_owned()]));
    }

    #[test]
    fn a_kill_elsewhere_is_suspected_only_where_the_own_counter_has_no_event() {
        let folder = std::env::temp_dir().join(format!("memory-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("memory.events"), "oom_kill 2\n").unwrap();
        let mut v2 = Memory::open(&folder, Pid::this()).unwrap();
        v2.note(None, v2.overall.map(|before| before + 1));
        assert!(!v2.suspected && !v2.killed);
        v2.note(Some(3), None);
        assert!(v2.killed);
        fs::remove_dir_all(&folder).unwrap();
        let file = File::open("/dev/null").unwrap();
        let (killed, suspected) = (false, false);
        let mut v1 = Memory { file, baseline: 0, overall: Some(7), killed, suspected };
        v1.note(None, Some(7));
        assert!(!v1.suspected);
        v1.note(None, Some(8));
        assert!(v1.suspected && !v1.killed);
    }

    #[test]
    fn counters_are_whole_words_at_the_beginning_of_a_line() {
        let v2 = "low 0\noom 3\noom_kill 2\noom_group_kill 9\n";
        assert_eq!(value(v2, "oom_kill"), Some(2));
        assert_eq!(value("oom_kill_disable 0\nunder_oom 0\noom_kill 4", "oom_kill"), Some(4));
        assert_eq!(value("populated 1\nfrozen 0\n", "populated"), Some(1));
        assert_eq!(value("xoom_kill 1\noom_kill", "oom_kill"), None);
    }
}
