//! The sockets that clients and channels come to: bound here, or handed over by systemd.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use listenfd::ListenFd;
use nix::sys::socket::Backlog;
use tokio::net::TcpListener;

use crate::environment::Environment;
use crate::foreign;
use crate::http::server::Listener;

/// Every socket, there before any right is given up.
pub struct Listeners {
    http: Vec<Std>,
    bridge: StdUnixListener,
    first_version: Option<StdTcpListener>,
}

/// As they come, before the event loop has them.
enum Std {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// As the event loop has them.
pub struct Open {
    pub http: Vec<Listener>,
    /// The first TCP address of HTTP.
    pub address: Option<SocketAddr>,
    pub bridge: foreign::Listener,
    pub first_version: Option<TcpListener>,
}

impl Listeners {
    /// # Errors
    /// Names the address that cannot be bound.
    pub fn bind(environment: &Environment, bridge: &Path) -> anyhow::Result<Self> {
        let tcp = |address, variable: &str| {
            let listener = StdTcpListener::bind(address);
            listener.with_context(|| format!("listen on {address} ({variable} names another)"))
        };
        let first_version = if environment.config.bridge.allow_unauthenticated {
            if !environment.bridge.ip().is_loopback() {
                bail!(
                    "SYNTHESIS_BRIDGE={}: the first version is for loopback only",
                    environment.bridge
                );
            }
            Some(tcp(environment.bridge, "SYNTHESIS_BRIDGE")?)
        } else {
            None
        };
        Ok(Self {
            http: vec![Std::Tcp(tcp(environment.http, "SYNTHESIS_HTTP")?)],
            bridge: bind_bridge(bridge)?,
            first_version,
        })
    }

    /// What systemd handed over: the Unix socket named `bridge`, and HTTP on every other. `None`
    /// when it handed nothing over.
    ///
    /// # Errors
    /// When what came is not what is needed.
    pub fn activated(bridge: &Path) -> anyhow::Result<Option<Self>> {
        let mut passed = ListenFd::from_env();
        if passed.len() == 0 {
            return Ok(None);
        }
        let (mut http, mut bridges) = (Vec::new(), Vec::new());
        for index in 0..passed.len() {
            if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                http.push(Std::Tcp(listener));
                continue;
            }
            let unix = passed.take_unix_listener(index);
            let unix = unix.with_context(|| format!("descriptor {} of systemd", index + 3))?;
            let listener = unix.context("a descriptor of systemd that is there twice")?;
            if listener.local_addr()?.as_pathname() == Some(bridge) {
                bridges.push(listener);
            } else {
                http.push(Std::Unix(listener));
            }
        }
        let shown = bridge.display();
        ensure!(!http.is_empty(), "systemd handed over no socket for HTTP");
        let bridge = bridges.pop().with_context(|| format!("systemd handed over no {shown}"))?;
        ensure!(bridges.is_empty(), "systemd handed over {shown} twice");
        Ok(Some(Self { http, bridge, first_version: None }))
    }

    /// Begins to listen, as whom this process is now: the kernel shows connecting peers the
    /// credentials of the last listen(2) (unix(7)), and channels look whether they are frontd's.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(self) -> anyhow::Result<Open> {
        let (mut http, mut address) = (Vec::new(), None);
        for listener in self.http {
            http.push(match listener {
                Std::Tcp(listener) => {
                    let listener = tcp(listener)?;
                    address = address.or(Some(listener.local_addr()?));
                    Listener::Tcp(listener)
                }
                Std::Unix(listener) => Listener::Unix(unix(listener)?),
            });
        }
        let first_version = self.first_version.map(tcp).transpose()?;
        Ok(Open { http, address, bridge: unix(self.bridge)?, first_version })
    }
}

fn tcp(listener: StdTcpListener) -> anyhow::Result<TcpListener> {
    listen(&listener)?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

fn unix(listener: StdUnixListener) -> anyhow::Result<foreign::Listener> {
    listen(&listener)?;
    Ok(foreign::Listener::new(listener)?)
}

/// The standard library's queue is 128 long; whoever comes beyond waits a second. After a restart
/// all readers come at once.
fn listen(socket: &impl AsFd) -> nix::Result<()> {
    nix::sys::socket::listen(socket, Backlog::MAXCONN)
}

/// Replaces the socket of an earlier server, but not that of a live one.
fn bind_bridge(path: &Path) -> anyhow::Result<StdUnixListener> {
    let shown = path.display();
    if StdUnixStream::connect(path).is_ok() {
        bail!("another server listens on {shown}");
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove the old {shown}")),
    }
    let listener = StdUnixListener::bind(path).with_context(|| format!("listen on {shown}"))?;
    // Any session's user may knock; uid and secret decide.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}
