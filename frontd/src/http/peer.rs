//! The other end of one connection, and which client that makes of its requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use proto::ids::TokenText;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::error::{Again, ApiError};
use super::guard;
use crate::app::{Access, App};
use crate::audit;
use crate::client::Client;
use crate::foreign::Socket;

/// How long the kernel's word about a Unix socket's peer is not asked for again. What spawnd grants
/// by it lives longer than that by far.
const PEER_FOR: Duration = Duration::from_secs(60);

/// With which our tokens begin. Clients that insist on some key send another word.
const TOKEN: &str = "syn-";

/// One connection's other end.
pub struct Peer {
    place: Place,
    known: Mutex<Option<Known>>,
}

enum Place {
    Tcp {
        peer: SocketAddr,
        /// The kernel's word, where it was asked.
        uid: Option<u32>,
        /// Judged when it came: later its port may be another's. `None` where tokens are asked for.
        local: Option<Result<Arc<Client>, ApiError>>,
    },
    Unix {
        uid: u32,
        /// What spawnd is shown.
        socket: Arc<Socket>,
    },
}

struct Known {
    since: Instant,
    client: Arc<Client>,
}

impl Peer {
    /// # Errors
    /// When the connection is gone already.
    pub fn of_tcp(app: &App, stream: &TcpStream, peer: SocketAddr) -> std::io::Result<Self> {
        let own = stream.local_addr()?;
        let (uid, local) = match &app.site.access {
            Access::Local { uid: user, client } => {
                let uid = guard::uid(own, peer);
                (uid, Some(guard::connection(*user, uid).map(|()| Arc::clone(client))))
            }
            // Who tried and failed is on record by it.
            Access::Required => (guard::uid(own, peer), None),
        };
        Ok(Self::new(Place::Tcp { peer, uid, local }))
    }

    /// # Errors
    /// When the kernel does not say whose it is.
    pub fn of_unix(socket: Arc<Socket>) -> std::io::Result<Self> {
        let uid = socket.credentials()?.uid;
        Ok(Self::new(Place::Unix { uid, socket }))
    }

    fn new(place: Place) -> Self {
        Self { place, known: Mutex::new(None) }
    }

    /// Whose request this is.
    ///
    /// # Errors
    /// 401 without a token that holds, 403 for a stranger, 503 while spawnd cannot be asked.
    pub async fn client(&self, app: &App, headers: &HeaderMap) -> Result<Arc<Client>, ApiError> {
        match (&app.site.access, &self.place) {
            (Access::Local { .. }, Place::Tcp { local, .. }) => {
                local.clone().unwrap_or_else(|| Err(guard::stranger()))
            }
            (Access::Local { uid, client }, Place::Unix { uid: peer, .. }) => {
                if peer == uid || *peer == 0 {
                    Ok(Arc::clone(client))
                } else {
                    Err(guard::stranger())
                }
            }
            (Access::Required, place) => {
                let is_tcp = matches!(place, Place::Tcp { .. });
                match (bearer(headers, is_tcp)?, place) {
                    (Some(token), _) => app.clients.of_token(app, token).await,
                    (None, Place::Tcp { .. }) => Err(unknown("a token is needed")),
                    (None, Place::Unix { uid, socket }) => self.of_peer(app, *uid, socket).await,
                }
            }
        }
    }

    /// Who is on the other end of the Unix socket.
    async fn of_peer(
        &self,
        app: &App,
        uid: u32,
        socket: &Arc<Socket>,
    ) -> Result<Arc<Client>, ApiError> {
        let mut known = self.known.lock().await;
        if let Some(Known { since, client }) = &*known
            && since.elapsed() < PEER_FOR
        {
            return Ok(Arc::clone(client));
        }
        let client = app.clients.of_peer(app, uid, socket).await?;
        *known = Some(Known { since: Instant::now(), client: Arc::clone(&client) });
        Ok(client)
    }

    /// For the record.
    pub fn origin(&self) -> audit::Peer {
        match &self.place {
            Place::Tcp { uid: Some(uid), .. } | Place::Unix { uid, .. } => audit::Peer::Uid(*uid),
            Place::Tcp { peer, uid: None, .. } => audit::Peer::Address(peer.ip()),
        }
    }
}

/// The token of `Authorization: Bearer`. On a Unix socket a word that is none of ours is passed
/// over: some libraries do not do without.
fn bearer(headers: &HeaderMap, strict: bool) -> Result<Option<TokenText>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unknown("`Authorization` stands twice"));
    }
    let text = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let text = text.filter(|text| text.starts_with(TOKEN) || strict);
    match text.map(|text| TokenText::new(text.to_owned())) {
        Some(Ok(token)) => Ok(Some(token)),
        Some(Err(_)) => Err(unknown("the token does not hold")),
        None if strict => Err(unknown("a token is needed")),
        None => Ok(None),
    }
}

/// 401.
pub fn unknown(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message).with_again(Again::Never)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str], strict: bool) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        let token = bearer(&headers, strict).map_err(|error| error.code)?;
        Ok(token.map(|token| token.expose().to_owned()))
    }

    #[test]
    fn a_bearer_token_is_read_and_anything_else_is_none() {
        assert_eq!(of(&["Bearer syn-abc"], true), Ok(Some("syn-abc".into())));
        assert_eq!(of(&["bearer syn-abc"], false), Ok(Some("syn-abc".into())));
        assert_eq!(of(&["Bearer other"], true), Ok(Some("other".into())));
        for bad in [&["Basic eDp5"][..], &["Bearer"], &["Bearer a", "Bearer b"], &["Bearer a b"]] {
            assert_eq!(of(bad, true), Err("invalid_api_key"), "{bad:?}");
        }
        assert_eq!(of(&[], true), Ok(None));
    }

    #[test]
    fn on_a_unix_socket_a_key_that_is_none_of_ours_counts_for_nothing() {
        assert_eq!(of(&["Bearer unused"], false), Ok(None));
        assert_eq!(of(&["Basic eDp5"], false), Ok(None));
        assert_eq!(of(&["Bearer syn-a", "Bearer syn-b"], false), Err("invalid_api_key"));
    }
}
