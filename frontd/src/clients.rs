//! Clients as spawnd knows them: tokens and peers of Unix sockets, verified there and remembered
//! here for a little while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use nix::unistd::{Uid, User};
use proto::ids::{AbsolutePath, TokenText, UnixUser};
use proto::spawn::{Credential, Proof, RefusalCode, Scope, Who};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::client::{Client, Runner, Scopes};
use crate::foreign::Socket;
use crate::http::error::{Again, ApiError};
use crate::http::guard;
use crate::http::peer::unknown;

/// How long a verdict on a token is not asked for again: a revoked one is good for this long, but
/// starts no process.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Verdicts that are remembered. Beyond, all are asked for again.
const VERDICTS: usize = 4096;
/// Questions at once: a flood of wrong tokens leaves spawnd time for everything else.
const AT_ONCE: usize = 8;
/// How long a request waits for its turn to be asked about.
const WITHIN: Duration = Duration::from_secs(5);

/// The principal of root's connections. No Unix user that policy lets in has this name.
const ROOT: &str = "root";

/// A token's SHA-256: the text itself is not kept.
type Digested = [u8; 32];

/// What was said of tokens, and when.
struct Memory<T>(Mutex<HashMap<Digested, (Instant, T)>>);

impl<T: Clone> Memory<T> {
    fn get(&self, token: &Digested) -> Option<(Instant, T)> {
        self.lock().get(token).cloned()
    }

    fn put(&self, token: Digested, said: T) {
        let mut known = self.lock();
        if known.len() >= VERDICTS {
            known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        }
        if known.len() >= VERDICTS {
            known.clear();
        }
        known.insert(token, (Instant::now(), said));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digested, (Instant, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Clients {
    good: Memory<Arc<Client>>,
    /// Apart, so that a flood of these drives out no other.
    bad: Memory<()>,
    /// Turns to ask: of tokens that were never seen to hold, which anybody can send, and of
    /// everybody else, who must not wait behind them.
    strangers: Semaphore,
    others: Semaphore,
}

impl Default for Clients {
    fn default() -> Self {
        let (good, bad) = (Memory(Mutex::default()), Memory(Mutex::default()));
        let (strangers, others) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        Self { good, bad, strangers, others }
    }
}

impl Clients {
    /// Whose token this is.
    ///
    /// # Errors
    /// 401 for one that does not hold, 503 while spawnd cannot be asked.
    pub async fn of_token(&self, app: &App, token: TokenText) -> Result<Arc<Client>, ApiError> {
        let digest: Digested = Sha256::digest(token.expose()).into();
        let refused = || unknown("the token does not hold");
        let turn = match self.good.get(&digest) {
            Some((since, client)) if since.elapsed() < REMEMBERED => return Ok(client),
            Some(_) => &self.others,
            None => &self.strangers,
        };
        if self.bad.get(&digest).is_some_and(|(since, ())| since.elapsed() < REMEMBERED) {
            return Err(refused());
        }
        match self.ask(app, turn, Credential::Token { token }, None).await {
            Err(Denied::Refused) => {
                self.good.lock().remove(&digest);
                self.bad.put(digest, ());
                Err(refused())
            }
            Ok((Who::Token { principal, user, scopes, .. }, grant)) => {
                let runner = runner(app, Named::User(user), Proof::Grant { grant }).await?;
                let (principal, scopes) = (principal.as_str().into(), scopes_of(&scopes));
                let client = Client { principal, scopes, runner: Some(Arc::new(runner)) };
                let client = Arc::new(client);
                self.good.put(digest, Arc::clone(&client));
                Ok(client)
            }
            Err(Denied::Unasked) | Ok((Who::Peer { .. }, _)) => Err(unavailable()),
        }
    }

    /// Who is on the other end of a Unix socket. Root runs no sessions, and sees to those of others.
    ///
    /// # Errors
    /// 403 for one that spawnd does not take for a client, or that has no name; 503 while it cannot
    /// be asked.
    pub async fn of_peer(
        &self,
        app: &App,
        uid: u32,
        socket: &Arc<Socket>,
    ) -> Result<Arc<Client>, ApiError> {
        let socket = Some(Arc::clone(socket));
        let grant = match self.ask(app, &self.others, Credential::Peer {}, socket).await {
            // The kernel's word went the same way twice.
            Ok((Who::Peer { uid: seen }, grant)) if seen == uid => grant,
            Ok(_) | Err(Denied::Refused) => return Err(guard::stranger()),
            Err(Denied::Unasked) => return Err(unavailable()),
        };
        if uid == 0 {
            let scopes = Scopes { chat: false, ..Scopes::ALL };
            return Ok(Arc::new(Client { principal: ROOT.into(), scopes, runner: None }));
        }
        let runner = runner(app, Named::Uid(uid), Proof::Grant { grant }).await?;
        let scopes = Scopes { chat: true, ..Scopes::default() };
        let principal = runner.user.as_str().into();
        Ok(Arc::new(Client { principal, scopes, runner: Some(Arc::new(runner)) }))
    }

    /// What was verified before is asked for again.
    pub fn forget(&self) {
        self.good.lock().clear();
        self.bad.lock().clear();
    }

    async fn ask(
        &self,
        app: &App,
        turn: &Semaphore,
        credential: Credential,
        socket: Option<Arc<Socket>>,
    ) -> Result<(Who, proto::ids::Grant), Denied> {
        let asking = async {
            let _turn = turn.acquire().await;
            app.spawner.verify(credential, socket).await
        };
        match tokio::time::timeout(WITHIN, asking).await {
            Ok(Ok(verified)) => Ok(verified),
            Ok(Err((RefusalCode::NotProved, _))) => Err(Denied::Refused),
            Ok(Err((code, message))) => {
                tracing::error!(?code, message, "a client could not be verified");
                Err(Denied::Unasked)
            }
            Err(_) => Err(Denied::Unasked),
        }
    }
}

enum Denied {
    Refused,
    Unasked,
}

fn scopes_of(scopes: &[Scope]) -> Scopes {
    let has = |scope| scopes.contains(&scope);
    Scopes { chat: has(Scope::Chat), admin: has(Scope::Admin), metrics: has(Scope::Metrics) }
}

fn unavailable() -> ApiError {
    let message = "clients cannot be verified now";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        .with_again(Again::After { seconds: 2 })
}

enum Named {
    User(UnixUser),
    Uid(u32),
}

/// The account, by the name service, which may take its time.
async fn runner(app: &App, named: Named, proof: Proof) -> Result<Runner, ApiError> {
    let no_account = || {
        let message = "this client's Unix user is no account here";
        ApiError::new(StatusCode::FORBIDDEN, "no_session_user", message).with_again(Again::Never)
    };
    let found = tokio::task::spawn_blocking(move || match named {
        Named::User(user) => User::from_name(user.as_str()),
        Named::Uid(uid) => User::from_uid(Uid::from_raw(uid)),
    });
    let account = match found.await {
        Ok(Ok(Some(account))) => account,
        Ok(Ok(None)) => return Err(no_account()),
        Ok(Err(error)) => {
            tracing::error!(%error, "the name service");
            return Err(unavailable());
        }
        Err(_) => return Err(unavailable()),
    };
    let user = UnixUser::new(account.name).map_err(|_| no_account())?;
    let home = account.dir.to_str().unwrap_or_default();
    let workspace = app.config().default_workspace.replace("{home}", home);
    let workspace = AbsolutePath::new(workspace.replace("{user}", user.as_str()));
    let workspace = workspace.map_err(|_| no_account())?;
    Ok(Runner { user, uid: account.uid.as_raw(), workspace, proof })
}
