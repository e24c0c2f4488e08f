//! Everything that the parts of one server share.

use std::sync::Arc;

use proto::ids::{AbsolutePath, UnixUser};
use proto::spawn::TerminalSize;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::landing::Landing;
use crate::run::Runs;
use crate::session::directory::Directory;
use crate::session::pool::Pool;
use crate::spawner::Spawner;
use crate::store::StoreHandle;

pub struct App {
    pub config: Config,
    pub site: Site,
    pub runs: Runs,
    pub directory: Arc<Directory>,
    pub pool: Pool,
    pub spawner: Spawner,
    pub store: StoreHandle,
    pub landing: Landing,
    /// Room for request bodies, in KiB.
    pub bodies: Arc<Semaphore>,
    /// Readers of runs that are over: each holds a page of events.
    pub late_readers: Arc<Semaphore>,
}

/// What is known of the place at start and stays.
#[derive(Debug, Clone)]
pub struct Site {
    /// Who sessions run as.
    pub user: UnixUser,
    pub uid: u32,
    /// Whose clients are served over loopback, besides root's.
    pub client_uid: u32,
    pub default_workspace: AbsolutePath,
    pub terminal: TerminalSize,
    /// An API key is in the environment that policy gives to claude, so its question about the
    /// key may be answered.
    pub policy_set_key: bool,
}
