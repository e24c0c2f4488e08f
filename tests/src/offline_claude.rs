//! A wrapper that turns the real Claude Code CLI into one that needs no account and no network:
//! it sets the offline variables, seeds a configuration file where there is none, and becomes
//! the CLI (same process id). Claude's environment is built from nothing by launch, so the
//! wrapper is told everything by `<its own path>.conf`, which [`Offline::install`] writes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Made up; the mock takes any.
const API_KEY: &str = "sk-ant-offline-0000000000000000000000000000";
/// The CLI names an approved key by so many of its last characters.
const KEY_TAIL: usize = 20;

/// The wrapper's conf file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offline {
    /// The real CLI.
    pub claude: PathBuf,
    /// Where the mock model listens, `http://127.0.0.1:PORT`.
    pub base_url: String,
    /// The channel feature's flag is false.
    #[serde(default)]
    pub gated_off: bool,
    /// Seed nothing: the CLI wants to begin its onboarding and fails without a network.
    #[serde(default)]
    pub not_onboarded: bool,
    /// Do not approve the key beforehand: the CLI draws its custom-API-key dialog.
    #[serde(default)]
    pub ask_api_key: bool,
    /// No key at all: the CLI registers, and the first turn fails with `Not logged in`.
    #[serde(default)]
    pub not_logged_in: bool,
    /// More variables for the CLI.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl Offline {
    pub fn new(claude: impl Into<PathBuf>, base_url: impl Into<String>) -> Self {
        Self {
            claude: claude.into(),
            base_url: base_url.into(),
            gated_off: false,
            not_onboarded: false,
            ask_api_key: false,
            not_logged_in: false,
            environment: BTreeMap::new(),
        }
    }

    /// Puts a wrapper of its own into `folder` and gives its path. `wrapper` is the built
    /// `offline-claude`; it is linked, not copied, where possible: a file that was just written
    /// may be refused by exec (`ETXTBSY`) while another thread forks.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn install(&self, wrapper: &Path, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join("claude");
        self.configure(&path)?;
        std::fs::hard_link(wrapper, &path)
            .or_else(|_| std::fs::copy(wrapper, &path).map(|_| ()))?;
        Ok(path)
    }

    /// Writes the conf file of the wrapper at `path`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, path: &Path) -> io::Result<()> {
        let conf = conf_path(path);
        let real = Self { claude: self.real(), ..self.clone() };
        std::fs::write(&conf, serde_json::to_vec_pretty(&real)?)?;
        // Sessions may run as another user.
        std::fs::set_permissions(&conf, std::fs::Permissions::from_mode(0o644))
    }

    /// What a session must see for the wrapper in `folder` to find its conf file and the CLI
    /// (`SYNTHESIS_VISIBLE`).
    pub fn visible(&self, folder: &Path) -> String {
        let real = self.real();
        let cli = real.parent().unwrap_or(Path::new("/"));
        format!("{}:{}", folder.display(), cli.display())
    }

    /// Inside a session only files themselves are shown, not the links that lead to them.
    fn real(&self) -> PathBuf {
        self.claude.canonicalize().unwrap_or_else(|_| self.claude.clone())
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        let mut set = vec![
            // The cached flags count although nothing is fetched.
            ("CLAUDE_CODE_GB_DISK_CACHE_WHEN_TELEMETRY_OFF", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL", "1"),
            ("ANTHROPIC_BASE_URL", self.base_url.as_str()),
        ];
        if !self.not_logged_in {
            set.push(("ANTHROPIC_API_KEY", API_KEY));
        }
        set.extend(self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        set
    }

    /// The `.claude.json` of a claude that has been used before.
    pub fn seed(&self) -> Option<Value> {
        if self.not_onboarded {
            return None;
        }
        let mut seed = json!({
            "hasCompletedOnboarding": true,
            "cachedFeatureFlags": {
                "tengu_harbor": !self.gated_off,
                "tengu_harbor_permissions": !self.gated_off,
            },
        });
        if !self.ask_api_key {
            let tail = &API_KEY[API_KEY.len() - KEY_TAIL..];
            seed["customApiKeyResponses"] = json!({"approved": [tail], "rejected": []});
        }
        Some(seed)
    }
}

/// What `offline-claude` does: reads its conf, seeds, becomes the CLI. Returns only on failure.
pub fn run(arguments: impl Iterator<Item = OsString>) -> anyhow::Error {
    match prepare() {
        Ok(offline) => {
            let variables = offline.environment();
            let error = Command::new(&offline.claude).args(arguments).envs(variables).exec();
            anyhow::Error::new(error).context(offline.claude.display().to_string())
        }
        Err(error) => error,
    }
}

fn prepare() -> anyhow::Result<Offline> {
    use anyhow::Context as _;
    let conf = conf_path(&std::env::current_exe()?);
    let bytes = std::fs::read(&conf).with_context(|| conf.display().to_string())?;
    let offline: Offline =
        serde_json::from_slice(&bytes).with_context(|| conf.display().to_string())?;
    if let Some(seed) = offline.seed() {
        let folder = std::env::var_os("CLAUDE_CONFIG_DIR").or_else(|| std::env::var_os("HOME"));
        let folder = folder.context("neither CLAUDE_CONFIG_DIR nor HOME is set")?;
        plant(&Path::new(&folder).join(".claude.json"), &seed)?;
    }
    Ok(offline)
}

fn conf_path(wrapper: &Path) -> PathBuf {
    let mut name = wrapper.as_os_str().to_owned();
    name.push(".conf");
    PathBuf::from(name)
}

/// Puts into the file what it lacks of the seed; one that has it is left alone, for several sessions
/// may start at once in one home. The CLI never sees half a file.
fn plant(path: &Path, seed: &Value) -> anyhow::Result<()> {
    let mut known = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(error.into()),
    };
    let (Some(known), Some(wanted)) = (known.as_object_mut(), seed.as_object()) else {
        anyhow::bail!("{} holds no object", path.display());
    };
    if wanted.keys().all(|key| known.contains_key(key)) {
        return Ok(());
    }
    for (key, value) in wanted {
        known.entry(key).or_insert_with(|| value.clone());
    }
    let whole = path.with_extension(format!("seed.{}", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&whole)?;
    file.write_all(serde_json::to_string(known)?.as_bytes())?;
    Ok(std::fs::rename(&whole, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_planted_once_and_never_over_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".claude.json");
        std::fs::write(&path, r#"{"mine":1,"both":"mine"}"#).unwrap();
        let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
        plant(&path, &json!({ "both": "planted", "new": 2 })).unwrap();
        assert_eq!(read(), json!({ "mine": 1, "both": "mine", "new": 2 }));
        plant(&path, &json!({ "new": 3 })).unwrap();
        assert_eq!(read()["new"], 2);
        std::fs::remove_file(&path).unwrap();
        plant(&path, &json!({ "new": 4 })).unwrap();
        assert_eq!(read(), json!({ "new": 4 }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn options_change_the_seed() {
        let mut offline = Offline::new("/bin/claude", "http://127.0.0.1:1");
        let seed = offline.seed().unwrap();
        assert_eq!(seed["cachedFeatureFlags"]["tengu_harbor"], true);
        assert_eq!(seed["customApiKeyResponses"]["approved"][0].as_str().unwrap().len(), 20);
        offline.gated_off = true;
        offline.ask_api_key = true;
        let seed = offline.seed().unwrap();
        assert_eq!(seed["cachedFeatureFlags"]["tengu_harbor"], false);
        assert!(seed["customApiKeyResponses"].is_null());
        offline.not_onboarded = true;
        assert_eq!(offline.seed(), None);
    }
}
