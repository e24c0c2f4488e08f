//! Acting on a plan: the session's folder, a terminal, the plan on a sealed memfd, and launch.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{PtyMaster, grantpt, posix_openpt, unlockpt};
use nix::unistd::{Pid, pipe2};
use proto::launch::Plan;

use crate::folder::Folders;
use crate::notify::Inbox;
use crate::policy::ScopeLimits;
use crate::process;
use crate::refusal::Refusal;
use crate::scope::Scopes;
use crate::sealed::sealed;
use crate::session::{Child, Containment, Kin, Origin, Session, Starting, State};
use crate::status::Status;
use crate::sys;

/// From the request to claude's exec: a few milliseconds, but the workspace may lie on a network
/// file system that hangs.
pub const START_WITHIN: Duration = Duration::from_secs(20);

/// What every start is made with.
pub struct Means<'a> {
    pub launch: &'a OwnedFd,
    pub scopes: Option<&'a Scopes>,
    /// Of marks ([`process::mark_of`]).
    pub ceiling: u64,
}

/// Starts launch with `plan`, in a scope if policy has limits for one. The folder exists; on an
/// error it is left for a sweep.
///
/// # Errors
/// The step that failed.
pub fn start(
    plan: &Plan,
    scope: Option<&ScopeLimits>,
    inbox: Inbox,
    means: &Means<'_>,
    origin: Origin,
    now: Instant,
) -> Result<Session, Refusal> {
    let (leader, follower) = terminal().map_err(failed("terminal"))?;
    let (status, status_end) = status_pipe().map_err(failed("status pipe"))?;
    // It holds the session's secret, so it is no argument and no variable.
    let sealed = sealed("plan", plan).map_err(failed("plan"))?;

    let (mut command, program, containment) = match (scope, means.scopes) {
        (Some(limits), Some(scopes)) => (
            scopes.command(&plan.session, limits),
            Some(means.launch.try_clone().map_err(failed("launch"))?),
            Containment::Scope(scopes.of(&plan.session)),
        ),
        (Some(_), None) => return Err(Refusal::Scope),
        (None, _) => {
            let mut command = Command::new(by_descriptor(means.launch.as_fd()));
            command.arg0("launch");
            let mark = process::mark_of(&plan.session, means.ceiling);
            (command, None, Containment::Family { mark })
        }
    };
    command.env_clear().current_dir("/");
    let copy = || follower.try_clone().map_err(failed("terminal"));
    command.stdin(Stdio::from(copy()?)).stdout(Stdio::from(copy()?)).stderr(Stdio::from(copy()?));
    let descriptors = [status_end, sealed].into_iter().chain(program);
    sys::exec::with(&mut command, descriptors.collect());
    let pid = pid_of(&command.spawn().map_err(failed("launch"))?);
    // The command holds our copies of the follower and of the pipe's other end: with them open
    // neither a hang-up nor an end of file could be seen.
    drop(command);

    // An unreaped child keeps its number, so this cannot name another process.
    let pidfd = sys::pidfd::open(pid).map_err(|error| {
        // Out of descriptors: a process that cannot be watched must not go on.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        failed("pidfd")(error)
    })?;
    Ok(Session {
        conversation: plan.conversation,
        user: plan.identity.user.clone(),
        owner: crate::folder::Owner { uid: plan.identity.uid, gid: plan.identity.gid },
        start: process::one(pid).map_or(0, |p| p.start),
        containment,
        lock: None,
        state: State::Starting(Starting {
            child: Child { pid, pidfd, kin: Kin::Own },
            leader,
            inbox,
            status: Status::new(status),
            deadline: now + START_WITHIN,
            origin,
        }),
    })
}

/// The folder with its notify socket, on which the session's readiness is heard.
///
/// # Errors
/// The step that failed.
pub fn prepare(folders: &Folders, plan: &Plan) -> Result<Inbox, Refusal> {
    let owner = crate::folder::Owner { uid: plan.identity.uid, gid: plan.identity.gid };
    folders.create(&plan.session, owner).map(Inbox::new)
}

/// launch, at a work beside its main one, with its standard streams closed.
pub fn beside(launch: BorrowedFd<'_>, work: &str) -> Command {
    let mut command = Command::new(by_descriptor(launch));
    command.arg0("launch").arg(work).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A program by the file that was opened at start: the path may lead elsewhere by now.
pub fn by_descriptor(program: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", program.as_raw_fd()))
}

/// The kernel's process ids fit in its pid_t.
pub fn pid_of(child: &Process) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid of the kernel is a positive pid_t"))
}

fn failed<E: Into<std::io::Error>>(step: &'static str) -> impl Fn(E) -> Refusal {
    move |error| Refusal::Start { step, errno: error.into().raw_os_error().unwrap_or(0) }
}

/// Leader and follower, both CLOEXEC.
fn terminal() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let leader: PtyMaster = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&leader)?;
    unlockpt(&leader)?;
    let follower = sys::terminal::follower(leader.as_fd())?;
    Ok((leader.into(), follower))
}

/// Only our end does not block: launch's is a plain pipe.
fn status_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}
