//! Where the walk stopped: one variant per step, and the record that tells spawnd.

use nix::errno::Errno;
use proto::ids::AbsolutePath;
use proto::launch::Record;
use proto::spawn::RefusalCode;

use crate::workspace;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("inherited descriptors")]
    Descriptors(std::io::Error),
    #[error("reading the plan")]
    PlanRead(std::io::Error),
    #[error("plan is not sealed")]
    PlanUnsealed,
    #[error("plan does not decode")]
    PlanDecode,
    #[error("plan is of version {version}, build {build:?}")]
    PlanVersion { version: u32, build: String },
    #[error("new session")]
    Session(Errno),
    #[error("controlling terminal")]
    Terminal(std::io::Error),
    #[error("mount namespace: {what}")]
    Mount { what: String, errno: Errno },
    #[error("a required part of the sandbox cannot be had here: {0}")]
    Unavailable(&'static str),
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    #[error("limit {what}")]
    Limit { what: &'static str, errno: Errno },
    #[error("signal mask")]
    SignalMask(Errno),
    #[error("session user has uid 0")]
    RootPlanned,
    #[error("{what}")]
    Identity { what: &'static str, errno: Errno },
    #[error("capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("root's rights could be had back by {0}")]
    RootRegained(&'static str),
    #[error("rights are not as planned: {0}")]
    Unproved(&'static str),
    #[error("no_new_privs")]
    NoNewPrivs(Errno),
    #[error("parent death signal")]
    Lifetime(Errno),
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
    #[error(transparent)]
    Folder(workspace::Error),
    #[error("claude {path} cannot be executed by this user: {}", errno.desc())]
    Claude { path: AbsolutePath, errno: Errno },
    #[error("channel {path} cannot be executed by this user: {}", errno.desc())]
    Channel { path: AbsolutePath, errno: Errno },
    #[error("session file {name}")]
    File { name: &'static str, errno: Errno },
    #[error("transcript")]
    Transcript(std::io::Error),
    #[error("an argument holds a zero byte")]
    Zero,
    #[error("status record")]
    Record(Errno),
    #[error("exec of claude")]
    Exec(Errno),
}

impl Stop {
    /// `refused` for what the user's world does not allow, `failed` for our own steps.
    pub(crate) fn record(&self) -> Record {
        let refused = |code| Record::Refused { code, message: self.to_string() };
        if matches!(self, Self::Workspace(_)) {
            refused(RefusalCode::WorkspaceUnusable)
        } else if matches!(self, Self::Unavailable(_)) {
            refused(RefusalCode::SandboxUnavailable)
        } else if matches!(self, Self::Claude { .. }) {
            refused(RefusalCode::ClaudeMissing)
        } else if matches!(self, Self::Channel { .. } | Self::Folder(_)) {
            refused(RefusalCode::StartFailed)
        } else {
            Record::Failed { step: self.to_string(), errno: self.errno() }
        }
    }

    /// The cause travels as a number beside the step; 0 when the step has none.
    fn errno(&self) -> i32 {
        match self {
            Self::Descriptors(error)
            | Self::PlanRead(error)
            | Self::Terminal(error)
            | Self::Transcript(error) => error.raw_os_error().unwrap_or(0),
            Self::Session(errno)
            | Self::Mount { errno, .. }
            | Self::Limit { errno, .. }
            | Self::SignalMask(errno)
            | Self::Identity { errno, .. }
            | Self::NoNewPrivs(errno)
            | Self::Lifetime(errno)
            | Self::Claude { errno, .. }
            | Self::Channel { errno, .. }
            | Self::File { errno, .. }
            | Self::Record(errno)
            | Self::Exec(errno) => *errno as i32,
            Self::Workspace(_)
            | Self::Folder(_)
            | Self::Unavailable(_)
            | Self::Landlock(_)
            | Self::Seccomp(_)
            | Self::PlanDecode
            | Self::PlanUnsealed
            | Self::PlanVersion { .. }
            | Self::RootPlanned
            | Self::Capabilities(_)
            | Self::RootRegained(_)
            | Self::Unproved(_)
            | Self::Zero => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_travels_with_its_errno_and_without_its_text() {
        let stop = Stop::File { name: "mcp.json", errno: Errno::EEXIST };
        let step = "session file mcp.json".to_owned();
        assert_eq!(stop.record(), Record::Failed { step, errno: Errno::EEXIST as i32 });
    }

    #[test]
    fn an_unproved_drop_is_a_failure_without_an_errno() {
        let record = Stop::RootRegained("setuid").record();
        assert!(matches!(record, Record::Failed { errno: 0, .. }));
    }
}
