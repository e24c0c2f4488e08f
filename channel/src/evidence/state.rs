//! The CLI's state file `sessions/<pid>.json`: does it say that claude is idle?

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Bytes of a state file that are read; real ones have some hundred.
const STATE_FILE: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    status: String,
    /// Milliseconds since 1970 of the last change of `status`.
    status_updated_at: Option<u64>,
}

/// The file of the claude with process id `pid`.
pub(crate) fn path(config_dir: &Path, pid: u32) -> PathBuf {
    config_dir.join("sessions").join(format!("{pid}.json"))
}

/// Is claude idle, and not merely still idle? It turns busy some 50 ms after a push; an idle from
/// before `pushed` (milliseconds since 1970) would be taken for the end of the turn.
pub(crate) fn is_idle(file: &Path, pushed: u64) -> bool {
    let Some(text) = super::read_small(file, STATE_FILE) else {
        return false;
    };
    // claude replaces the file while we read: half a text is simply read again.
    let Ok(state) = serde_json::from_slice::<State>(&text) else {
        return false;
    };
    state.status == "idle" && state.status_updated_at.is_none_or(|at| at >= pushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_idle_newer_than_the_push_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sessions")).unwrap();
        let file = path(folder.path(), 42);
        assert!(!is_idle(&file, 0), "no file");
        for (text, idle) in [
            ("", false),
            ("{\"status\":\"idle\"", false),
            ("{\"status\":\"busy\",\"statusUpdatedAt\":200}", false),
            ("{\"status\":\"idle\",\"statusUpdatedAt\":99}", false),
            ("{\"status\":\"idle\",\"statusUpdatedAt\":100}", true),
            ("{\"pid\":42,\"status\":\"idle\"}", true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_idle(&file, 100), idle, "{text}");
        }
    }
}
