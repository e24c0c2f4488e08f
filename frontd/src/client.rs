//! Who a request comes from, once that is known: what it may do, and as whom its sessions run.

use std::sync::Arc;

use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::Proof;
use serde::{Deserialize, Serialize};

/// The one principal of a server that knows its clients by their uid alone.
pub const LOCAL: &str = "local";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Sessions, runs and keys of others do not exist for it.
    pub principal: Arc<str>,
    pub scopes: Scopes,
    /// `None`: no session runs for it.
    pub runner: Option<Arc<Runner>>,
}

/// What a client may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Sessions and runs of its own.
    pub chat: bool,
    /// Everybody's sessions: seen and stopped, not read.
    pub admin: bool,
    pub metrics: bool,
}

impl Scopes {
    pub const ALL: Self = Self { chat: true, admin: true, metrics: true };
}

/// As whom a client's sessions run. Stored with each message until its run is over, so that a
/// process can be started for it after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    pub user: UnixUser,
    /// Of that user: its channels come with it.
    pub uid: u32,
    /// Where its conversations live that name no other place.
    pub workspace: AbsolutePath,
    /// What spawnd is shown for it.
    pub proof: Proof,
}
