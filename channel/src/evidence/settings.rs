//! Settings of the user or the machine that switch our hooks off: the session could not tell when
//! a turn ends, and says so at once instead.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Settings that apply to every user of the machine.
const MANAGED: &str = "/etc/claude-code/managed-settings.json";

/// Bytes of a settings file that are read; real ones have some thousand.
const SETTINGS_FILE: usize = 1024 * 1024;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    disable_all_hooks: serde_json::Value,
    allow_managed_hooks_only: serde_json::Value,
}

/// Why hooks will not run, if the settings say so.
pub(crate) fn hooks_off(config_dir: &Path) -> Option<String> {
    let user = config_dir.join("settings.json");
    let managed = PathBuf::from(MANAGED);
    disabled_by(&user, false).or_else(|| disabled_by(&managed, true))
}

fn disabled_by(file: &Path, managed: bool) -> Option<String> {
    let settings: Settings =
        serde_json::from_slice(&super::read_small(file, SETTINGS_FILE)?).ok()?;
    let by = |key: &str| Some(format!("hooks are disabled by {key} in {}", file.display()));
    if settings.disable_all_hooks == true {
        by("disableAllHooks")
    } else if managed && settings.allow_managed_hooks_only == true {
        by("allowManagedHooksOnly")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_disables_hooks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        assert_eq!(disabled_by(&file, false), None, "no file");
        for harmless in ["", "{", "null", "[]", "{\"disableAllHooks\":\"no\"}", "{\"a\":1}"] {
            std::fs::write(&file, harmless).unwrap();
            assert_eq!(disabled_by(&file, false), None, "{harmless}");
        }
        std::fs::write(&file, r#"{"model":"x","disableAllHooks":true}"#).unwrap();
        let reason = hooks_off(folder.path()).unwrap();
        assert_eq!(reason, format!("hooks are disabled by disableAllHooks in {}", file.display()));
        std::fs::write(&file, r#"{"allowManagedHooksOnly":true}"#).unwrap();
        assert_eq!(disabled_by(&file, false), None, "only managed settings can say so");
        assert!(disabled_by(&file, true).unwrap().contains("allowManagedHooksOnly"));
    }
}
