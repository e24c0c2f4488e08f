//! The configuration read again while the server runs. A file that cannot be used changes nothing,
//! and what cannot change keeps its value and is named.

use std::sync::Arc;

use crate::app::{Access, App};
use crate::config::Config;
use crate::environment::Source;

/// Reads the file again and uses what it says from now on. A request or a session that has begun
/// keeps what it began with.
pub async fn reload(app: &Arc<App>, source: &Source) {
    let source = source.clone();
    // A disk may take its time.
    let config = match tokio::task::spawn_blocking(move || source.read()).await {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => return refuse(app, &anyhow::Error::from(error)),
        Err(error) => return refuse(app, &error.into()),
    };
    let (config, kept) = merge(&app.config(), config);
    if !kept.is_empty() {
        let keys = kept.join(", ");
        tracing::warn!(keys, "changed in the configuration, which takes a restart");
    }
    let each = match app.site.access {
        Access::Local { .. } => None,
        Access::Required => Some(config.principals.processes),
    };
    app.pool.resize(config.limits.processes, each);
    app.store.set_keep(config.store.keep());
    app.config.replace(config);
    // Tokens are asked for again, and with them where their users' conversations live.
    app.clients.forget();
    tracing::info!("configuration read again");
}

fn refuse(app: &App, error: &anyhow::Error) {
    let error = format!("{error:#}");
    tracing::error!("the configuration cannot be used: the one before stays: {error}");
    app.config.refuse(error);
}

/// The new configuration, but for what cannot change, and the keys of that which would have. Sockets
/// are open, and who is let in is built upon them.
fn merge(old: &Config, mut new: Config) -> (Config, Vec<&'static str>) {
    let mut kept = Vec::new();
    keep("listen", &old.listen, &mut new.listen, &mut kept);
    keep("auth.mode", &old.auth.mode, &mut new.auth.mode, &mut kept);
    let (was, is) = (&old.bridge, &mut new.bridge);
    keep("bridge.socket", &was.socket, &mut is.socket, &mut kept);
    let (allowed, allow) = (&was.allow_unauthenticated, &mut is.allow_unauthenticated);
    keep("bridge.allow_unauthenticated", allowed, allow, &mut kept);
    let (listened, listen) = (&was.first_version_listen, &mut is.first_version_listen);
    keep("bridge.first_version_listen", listened, listen, &mut kept);
    (new, kept)
}

fn keep<T: Clone + PartialEq>(
    key: &'static str,
    old: &T,
    new: &mut T,
    kept: &mut Vec<&'static str>,
) {
    if old != new {
        new.clone_from(old);
        kept.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_keeps_its_value_and_is_named() {
        let old = Config::default();
        let text = r#"
            listen = "127.0.0.1:1"
            auth.mode = "required"
            claude_model = "opus"
            [bridge]
            socket = "/run/other.sock"
            allow_unauthenticated = true
            first_version_listen = "127.0.0.1:2"
            [limits]
            processes = 3
            [store]
            keep_days = 2
            "#;
        let (new, kept) = merge(&old, Config::parse(text).unwrap());
        let keys = [
            "listen",
            "auth.mode",
            "bridge.socket",
            "bridge.allow_unauthenticated",
            "bridge.first_version_listen",
        ];
        assert_eq!(kept, keys);
        assert_eq!((&new.listen, &new.auth, &new.bridge), (&old.listen, &old.auth, &old.bridge));
        assert_eq!((new.limits.processes, new.store.keep_days), (3, 2));
        assert_eq!(new.claude_model.as_ref().unwrap().as_str(), "opus");
        assert_eq!(merge(&old, old.clone()), (old.clone(), Vec::new()));
    }
}
