//! spawnd → launch: the plan, which is decided before anything is done; launch → spawnd: the one
//! record on file descriptor 3. Both are built together; [`VERSION`] catches a half upgrade.

use serde::{Deserialize, Serialize};

use crate::ids::{
    AbsolutePath, ConversationId, Instructions, ModelName, Secret, SessionId, UnixUser,
};
use crate::spawn::{PermissionMode, TerminalSize};

/// launch refuses a plan of another version.
pub const VERSION: u32 = 4;

/// Everything that launch does, as decided by policy. It judges nothing itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    /// `CARGO_PKG_VERSION` of the spawnd that wrote it.
    pub build: String,
    pub session: SessionId,
    pub conversation: ConversationId,
    pub identity: Identity,
    pub terminal: TerminalSize,
    pub workspace: AbsolutePath,
    /// The root of policy that contains the workspace.
    pub workspace_root: AbsolutePath,
    /// The session's own folder: MCP configuration, settings, debug log, sockets.
    pub folder: AbsolutePath,
    pub home: AbsolutePath,
    /// `CLAUDE_CONFIG_DIR`; `None` leaves the CLI's own default below `home`.
    pub config_dir: Option<AbsolutePath>,
    /// Both are folders of spawnd's making, in which nobody has set the CLI up.
    pub private_home: bool,
    pub claude: AbsolutePath,
    /// Fixed arguments of policy, before those that launch always gives.
    pub claude_arguments: Vec<String>,
    pub channel: AbsolutePath,
    pub permission_mode: PermissionMode,
    pub model: Option<ModelName>,
    pub allowed_tools: Vec<String>,
    pub hooks: bool,
    /// Behind the CLI's own system prompt.
    pub instructions: Option<Instructions>,
    /// A workspace's own settings, hooks and MCP servers run code without asking.
    pub trust_project_settings: bool,
    /// Variables of policy, beside those that launch always sets.
    pub environment: Vec<(String, String)>,
    pub lifetime: Lifetime,
    pub limits: Limits,
    pub sandbox: Sandbox,
    pub bridge: Bridge,
}

/// What the end of spawnd means for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// It ends too, by SIGKILL of spawnd as well.
    EndsWithSpawnd,
    /// It goes on in its scope; systemd's store keeps its descriptors for the next spawnd.
    OutlivesSpawnd,
}

/// What launch limits itself; memory, tasks and addresses are the scope's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// RLIMIT_NOFILE, the hard one.
    pub open_files: u64,
    /// Of the session's own tmpfs: its folder, /tmp, /var/tmp and /dev/shm together.
    pub tmp_bytes: u64,
    pub tmp_inodes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    pub demand: Demand,
    /// Folders of which the session sees nothing but what is named elsewhere in the plan, beside
    /// those that launch always hides (/home, /root, /run, /tmp, /var/tmp, /dev).
    pub hidden: Vec<AbsolutePath>,
    /// Files and folders that stay visible inside hidden ones, read-only.
    pub visible: Vec<AbsolutePath>,
    /// May the session's processes trace one another?
    pub ptrace: bool,
}

/// What happens when the kernel, or a lack of rights, denies a part of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// The start is refused and the missing part named.
    Required,
    /// The session starts without it; the record names it.
    BestEffort,
}

/// Who claude runs as. Never uid 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub user: UnixUser,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, none by default.
    pub groups: Vec<u32>,
    pub shell: String,
    /// spawnd has root's rights and launch must give them up; else it already is this user.
    pub drop_root: bool,
}

/// Where channel finds frontd and proves itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    pub socket: AbsolutePath,
    /// The uid that the bridge's peer must have.
    pub frontd_uid: u32,
    pub secret: Secret,
}

/// The one record on fd 3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The next act is exec; end of file after this is success. `missing` names the parts of a
    /// best-effort sandbox that could not be had.
    Exec { resumed: bool, missing: Vec<String> },
    /// The user's world does not allow it.
    Refused { code: crate::spawn::RefusalCode, message: String },
    /// A step of ours failed. After `Exec` it means that exec itself failed.
    Failed { step: String, errno: i32 },
}
