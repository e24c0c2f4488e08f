//! The spawnd.toml of `frontd dev`: the calling user, or, when root calls, an account without
//! rights. It never touches a disk: spawnd reads it from a memory file.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use proto::ids::AbsolutePath;
use serde_json::{Map, Value, json};

use super::stage::Stage;

/// Sessions at once, as spawnd counts them; frontd's own default is 20.
const SESSIONS: u32 = 128;

/// The file, for spawnd's `--config-fd`. It may hold the caller's key: for the caller alone.
///
/// # Errors
/// When a path cannot be said, or the memory file made.
pub(super) fn file(stage: &Stage) -> anyhow::Result<File> {
    let text = toml::to_string(&document(stage)?).context("write spawnd.toml")?;
    // Not CLOEXEC: it is to cross the exec.
    let mut file = File::from(memfd_create("spawnd.toml", MFdFlags::empty())?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn document(stage: &Stage) -> anyhow::Result<Value> {
    let state = &stage.state;
    let mut document = json!({
        "frontd": stage.frontd_uid,
        "sandbox": "best-effort",
        "audit": "best-effort",
        "scopes": false,
        "state": state,
        "run": format!("{state}/run"),
        "bridge": absolute(&stage.bridge_socket)?,
        "claude": {},
        "programs": { "channel": absolute(&stage.channel)? },
        "limits": { "sessions": SESSIONS, "spawns_per_second": 1000, "spawn_burst": 1000 },
        "users": { "allow": [{
            "name": stage.session_user.name,
            "proof": "none",
            "roots": roots(stage),
            "permission_modes": ["acceptEdits", "bypassPermissions", "dontAsk", "manual", "plan"],
            "home": "real",
            "instructions": true,
            "sessions": SESSIONS,
            "environment": passed_on(std::env::vars_os()),
            "visible": listed("SYNTHESIS_VISIBLE"),
            "account": {
                "uid": stage.session_user.uid.as_raw(),
                "gid": stage.session_user.gid.as_raw(),
                "home": stage.home,
                "shell": stage.shell(),
            },
        }] },
    });
    if let Some(claude) = &stage.claude {
        document["claude"]["path"] = json!(absolute(claude)?);
    }
    if let Some(folder) = config_dir(stage) {
        document["users"]["allow"][0]["account"]["config_dir"] =
            json!(absolute(Path::new(&folder))?);
    }
    Ok(document)
}

/// The caller's own; root's is not for the user that root's claude runs as.
fn config_dir(stage: &Stage) -> Option<std::ffi::OsString> {
    let folder = std::env::var_os("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty());
    if stage.as_root { None } else { folder }
}

fn roots(stage: &Stage) -> Vec<AbsolutePath> {
    let mut roots = vec![stage.home.clone()];
    roots.extend(AbsolutePath::new(format!("{}/workspace", stage.state)));
    if stage.as_root {
        roots.extend(listed("SYNTHESIS_WORKSPACE_ROOTS"));
    }
    // Braces would be words of spawnd.toml's own.
    roots.retain(|root| !root.as_str().contains(['{', '}']));
    roots
}

/// Absolute paths joined by colons; what is none is passed over.
fn listed(variable: &str) -> Vec<AbsolutePath> {
    let text = std::env::var(variable).unwrap_or_default();
    text.split(':').filter_map(|text| AbsolutePath::new(text).ok()).collect()
}

/// The caller's login and endpoint, and the PATH on which claude's tools are found. Nothing else
/// of the environment reaches a session.
fn passed_on(
    all: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Map<String, Value> {
    let mut passed = Map::new();
    for (name, value) in all {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let login = name.starts_with("ANTHROPIC_") || name == "CLAUDE_CODE_OAUTH_TOKEN";
        let value = match name.as_str() {
            "PATH" => {
                let folders: Vec<&str> = value.split(':').filter(|f| f.starts_with('/')).collect();
                folders.join(":")
            }
            _ if login && name.bytes().all(plain) => value,
            _ => continue,
        };
        if !value.is_empty() || login {
            passed.insert(name, Value::String(value));
        }
    }
    passed
}

/// Made absolute by the current folder; `..` is resolved, for text alone cannot.
pub(super) fn absolute(path: &Path) -> anyhow::Result<AbsolutePath> {
    let shown = path.display();
    let mut path = std::path::absolute(path).with_context(|| shown.to_string())?;
    if path.components().any(|c| c == std::path::Component::ParentDir) {
        path = std::fs::canonicalize(&path).with_context(|| shown.to_string())?;
    }
    let text = path.to_str().with_context(|| format!("{shown} is not UTF-8"))?;
    let text = if text.len() > 1 { text.trim_end_matches('/') } else { text };
    AbsolutePath::new(text).with_context(|| shown.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_login_and_absolute_path_entries_are_passed_on() {
        let all = [
            ("PATH", ".:/usr/bin::bin:/bin"),
            ("ANTHROPIC_API_KEY", "k"),
            ("ANTHROPIC_x", "k"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "t"),
            ("LD_PRELOAD", "/evil.so"),
            ("SYNTHESIS_BRIDGE_TOKEN", "s"),
            ("NODE_OPTIONS", "--require /evil.js"),
        ];
        let passed = passed_on(all.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        let names: Vec<&String> = passed.keys().collect();
        assert_eq!(names, ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "PATH"]);
        assert_eq!(passed["PATH"], "/usr/bin:/bin");
    }

    #[test]
    fn a_named_path_is_made_absolute_even_if_nothing_is_there() {
        assert_eq!(absolute(Path::new("/no/such/claude")).unwrap().as_str(), "/no/such/claude");
        assert!(absolute(Path::new("x/claude")).unwrap().as_str().ends_with("/x/claude"));
        assert_eq!(absolute(Path::new("/usr/../usr/bin/")).unwrap().as_str(), "/usr/bin");
    }
}
