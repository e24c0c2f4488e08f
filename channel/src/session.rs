//! What this channel was started for, read once from the environment that launch wrote into the
//! MCP file. Refuses to start on anything that is missing or malformed.

use std::path::PathBuf;

use proto::ids::{ConversationId, Invalid, Secret, SessionId};

/// Everything that the environment says. Holds the secret: neither `Debug` nor `Display`.
pub(crate) struct Session {
    pub(crate) bridge: PathBuf,
    /// The uid that the bridge's peer must have before it is told the secret.
    pub(crate) frontd_uid: u32,
    pub(crate) session: SessionId,
    pub(crate) conversation: ConversationId,
    pub(crate) token: Secret,
    pub(crate) debug_file: PathBuf,
    pub(crate) hook_socket: PathBuf,
    /// Are claude's hooks set up to report here?
    pub(crate) hooks: bool,
    /// Where files may be put.
    pub(crate) tmp: PathBuf,
    /// The CLI's configuration folder.
    pub(crate) config_dir: PathBuf,
    /// claude's working directory, which names its transcript's folder.
    pub(crate) workspace: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BadEnvironment {
    #[error("{0} is not set")]
    Missing(&'static str),
    #[error("{name}: {source}")]
    Invalid { name: &'static str, source: Invalid },
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("working directory: {0}")]
    Workspace(std::io::Error),
}

impl Session {
    /// # Errors
    /// [`BadEnvironment`] names the variable; never its value, which may be the secret.
    pub(crate) fn from_environment(
        get: impl Fn(&str) -> Option<String>,
        workspace: std::io::Result<PathBuf>,
    ) -> Result<Self, BadEnvironment> {
        let need = |name: &'static str| {
            get(name).filter(|value| !value.is_empty()).ok_or(BadEnvironment::Missing(name))
        };
        let path = |name: &'static str| {
            let path = PathBuf::from(need(name)?);
            if path.is_absolute() { Ok(path) } else { Err(BadEnvironment::Malformed(name)) }
        };
        let url = need("SYNTHESIS_WS_URL")?;
        let bridge = url.strip_prefix("unix:").map(PathBuf::from).filter(|p| p.is_absolute());
        let uid = need("SYNTHESIS_FRONTD_UID")?;
        let conversation = need("SYNTHESIS_CLAUDE_SESSION")?;
        Ok(Self {
            bridge: bridge.ok_or(BadEnvironment::Malformed("SYNTHESIS_WS_URL"))?,
            frontd_uid: uid
                .parse()
                .map_err(|_| BadEnvironment::Malformed("SYNTHESIS_FRONTD_UID"))?,
            session: SessionId::new(need("SYNTHESIS_OPENCLAW_SESSION")?).map_err(|source| {
                BadEnvironment::Invalid { name: "SYNTHESIS_OPENCLAW_SESSION", source }
            })?,
            conversation: serde_json::from_value::<ConversationId>(conversation.into())
                .map_err(|_| BadEnvironment::Malformed("SYNTHESIS_CLAUDE_SESSION"))?,
            token: Secret::new(need("SYNTHESIS_BRIDGE_TOKEN")?).map_err(|source| {
                BadEnvironment::Invalid { name: "SYNTHESIS_BRIDGE_TOKEN", source }
            })?,
            debug_file: path("SYNTHESIS_DEBUG_FILE")?,
            hook_socket: path("SYNTHESIS_HOOK_SOCKET")?,
            hooks: need("SYNTHESIS_HOOKS")? == "1",
            tmp: get("TMPDIR")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| PathBuf::from("/tmp")),
            config_dir: match get("CLAUDE_CONFIG_DIR").filter(|dir| !dir.is_empty()) {
                Some(dir) => PathBuf::from(dir),
                None => PathBuf::from(need("HOME")?).join(".claude"),
            },
            workspace: workspace.map_err(BadEnvironment::Workspace)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: (&str, Option<&str>)) -> Result<Session, BadEnvironment> {
        let get = |name: &str| {
            if name == change.0 {
                return change.1.map(str::to_owned);
            }
            let value = match name {
                "SYNTHESIS_WS_URL" => "unix:/run/bridge.sock",
                "SYNTHESIS_FRONTD_UID" => "7",
                "SYNTHESIS_OPENCLAW_SESSION" => "abcdefghijklmnopqrstuvwxyz",
                "SYNTHESIS_CLAUDE_SESSION" => "d2498efe-661c-46a2-91d4-be3138aa86dc",
                "SYNTHESIS_BRIDGE_TOKEN" => return Some("0123456789abcdef".repeat(4)),
                "SYNTHESIS_DEBUG_FILE" => "/s/debug.log",
                "SYNTHESIS_HOOK_SOCKET" => "/s/hook.sock",
                "SYNTHESIS_HOOKS" => "1",
                "HOME" => "/home/al",
                _ => return None,
            };
            Some(value.to_owned())
        };
        Session::from_environment(get, Ok(PathBuf::from("/w")))
    }

    #[test]
    fn a_complete_environment_is_read() {
        let session = read(("", None)).expect("complete");
        assert_eq!(session.bridge, PathBuf::from("/run/bridge.sock"));
        assert_eq!(session.config_dir, PathBuf::from("/home/al/.claude"));
        assert!(session.hooks);
        assert_eq!(session.tmp, PathBuf::from("/tmp"));
        let elsewhere = read(("TMPDIR", Some("/s/tmp"))).expect("complete");
        assert_eq!(elsewhere.tmp, PathBuf::from("/s/tmp"));
        let moved = read(("CLAUDE_CONFIG_DIR", Some("/c"))).expect("complete");
        assert_eq!(moved.config_dir, PathBuf::from("/c"));
    }

    #[test]
    fn a_bad_variable_is_named_and_its_value_is_not_shown() {
        for (name, value) in [
            ("SYNTHESIS_WS_URL", Some("ws://127.0.0.1:1")),
            ("SYNTHESIS_WS_URL", Some("unix:relative")),
            ("SYNTHESIS_FRONTD_UID", Some("-1")),
            ("SYNTHESIS_FRONTD_UID", None),
            ("SYNTHESIS_OPENCLAW_SESSION", Some("../x")),
            ("SYNTHESIS_CLAUDE_SESSION", Some("sesame")),
            ("SYNTHESIS_BRIDGE_TOKEN", Some("sesame")),
            ("SYNTHESIS_DEBUG_FILE", Some("debug.log")),
            ("SYNTHESIS_HOOKS", None),
        ] {
            let error = match read((name, value)) {
                Ok(_) => panic!("{name} was accepted"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(name), "{error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
