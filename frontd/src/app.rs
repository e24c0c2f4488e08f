//! Everything that the parts of one server share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use proto::spawn::TerminalSize;

use crate::audit::Audit;
use crate::client::{Client, LOCAL, Runner, Scopes};
use crate::clients::Clients;
use crate::config::Config;
use crate::landing::Landing;
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::run::Runs;
use crate::session::directory::Directory;
use crate::session::pool::Pool;
use crate::shares::Shares;
use crate::spawner::Spawner;
use crate::store::StoreHandle;

pub struct App {
    pub config: Live,
    pub clients: Clients,
    pub quotas: Quotas,
    pub site: Site,
    pub runs: Runs,
    pub directory: Arc<Directory>,
    pub pool: Pool,
    pub spawner: Spawner,
    pub store: StoreHandle,
    pub landing: Landing,
    pub audit: Audit,
    pub metrics: Metrics,
    /// Room for request bodies, in KiB.
    pub bodies: Shares,
    /// Readers of runs that are over: each holds a page of events.
    pub late_readers: Shares,
    pub began: Instant,
    /// What asks for something now is told to come again.
    pub stopping: AtomicBool,
}

/// What is known of the place at start and stays.
#[derive(Debug, Clone)]
pub struct Site {
    pub access: Access,
    pub terminal: TerminalSize,
    /// An API key is in the environment that policy gives to claude, so its question about the
    /// key may be answered.
    pub policy_set_key: bool,
}

/// How clients are known.
#[derive(Debug, Clone)]
pub enum Access {
    /// By the uid of their loopback connection, which must be this or root's. All are one client.
    Local { uid: u32, client: Arc<Client> },
    /// By a token, or by the kernel's word about the peer of a Unix socket; spawnd judges both.
    Required,
}

impl Access {
    /// Clients of this uid and root's, for whom `runner` works.
    pub fn local(uid: u32, runner: Runner) -> Self {
        let client =
            Client { principal: LOCAL.into(), scopes: Scopes::ALL, runner: Some(Arc::new(runner)) };
        Self::Local { uid, client: Arc::new(client) }
    }
}

/// The configuration, which may be read anew while the server runs. A request works with one from
/// its beginning to its end.
pub struct Live {
    config: RwLock<Arc<Config>>,
    read: Mutex<LastRead>,
}

/// What came of the latest try to read it.
#[derive(Debug, Clone)]
pub struct LastRead {
    pub at: SystemTime,
    /// Why the configuration before stays.
    pub error: Option<String>,
}

impl Live {
    pub fn new(config: Config) -> Self {
        let read = LastRead { at: SystemTime::now(), error: None };
        Self { config: RwLock::new(Arc::new(config)), read: Mutex::new(read) }
    }

    pub fn replace(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.note(None);
    }

    /// It was tried to read another.
    pub fn refuse(&self, error: String) {
        self.note(Some(error));
    }

    pub fn last_read(&self) -> LastRead {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: Option<String>) {
        let read = LastRead { at: SystemTime::now(), error };
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

impl App {
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Is this server on its way out?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
