//! Who may talk to this server, and from where: the peer's uid, the Host and the Origin. Runs
//! before anything of a request is used.

use std::net::SocketAddr;

use http::{HeaderMap, StatusCode, header};

use super::cors;
use super::error::{Again, ApiError};
use crate::app::App;
use crate::principal;

/// Whose loopback connection it is, by the kernel's socket tables.
pub fn uid(own: SocketAddr, peer: SocketAddr) -> Option<u32> {
    principal::peer_uid(own, peer).unwrap_or_else(|error| {
        tracing::error!(%error, "the kernel's socket tables");
        None
    })
}

/// Judged once for each connection of a server for one user.
///
/// # Errors
/// 403 unless the peer is a loopback socket of this user or of root.
pub fn connection(user: u32, uid: Option<u32>) -> Result<(), ApiError> {
    match uid {
        Some(uid) if uid == user || uid == 0 => Ok(()),
        Some(_) | None => {
            tracing::warn!(?uid, "a stranger's connection was refused");
            Err(stranger())
        }
    }
}

/// The code of a refusal that is about the peer alone.
pub const STRANGER: &str = "not_your_server";

/// 403: not one of those who are served here.
pub fn stranger() -> ApiError {
    forbidden(STRANGER, "this server answers only its own users")
}

/// Judged for each request: a page of another site must not reach a server on loopback, by DNS
/// rebinding (Host) or by a plain cross-site request (Origin).
///
/// # Errors
/// 403 for a foreign or missing Host and for a foreign Origin.
pub fn request(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let mut hosts = headers.get_all(header::HOST).iter();
    if hosts.next().is_none() || hosts.next().is_some() {
        return Err(forbidden("foreign_host", "exactly one Host is needed"));
    }
    if !host.and_then(host_name).is_some_and(|name| allowed(app, name)) {
        return Err(forbidden("foreign_host", "this Host is not served here (see allowed_hosts)"));
    }
    let let_in = cors::origin(&app.config().cors, headers).is_some();
    for origin in headers.get_all(header::ORIGIN).iter().filter(|_| !let_in) {
        let name = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let name = name.and_then(|(_, authority)| host_name(authority));
        if !name.is_some_and(|name| allowed(app, name)) {
            return Err(forbidden(
                "foreign_origin",
                "pages of this Origin may not use this server (see cors.allowed_origins)",
            ));
        }
    }
    Ok(())
}

fn allowed(app: &App, name: &str) -> bool {
    let loopback = ["localhost", "127.0.0.1", "[::1]"];
    let config = app.config();
    let mut names = loopback.into_iter().chain(config.allowed_hosts.iter().map(String::as_str));
    names.any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// `name[:port]` without its port; `None` for anything else.
fn host_name(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            (authority.get(..end + 2)?, authority.get(end + 2..)?)
        }
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let good_port =
        port.is_empty() || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    (good_port && !name.is_empty()).then_some(name)
}

/// 403: known, but not for this.
pub fn not_allowed() -> ApiError {
    let message = "this client is known, but not for this: its token has another scope; root runs no sessions";
    forbidden("scope", message)
}

fn forbidden(code: &'static str, message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, message).with_again(Again::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_its_name_with_or_without_a_port() {
        assert_eq!(host_name("localhost"), Some("localhost"));
        assert_eq!(host_name("127.0.0.1:18900"), Some("127.0.0.1"));
        assert_eq!(host_name("[::1]:1"), Some("[::1]"));
        for bad in ["", ":1", "localhost:", "localhost:1@evil", "127.0.0.1:80:90", "[::1"] {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }
}
