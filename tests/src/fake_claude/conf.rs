//! How one fake claude behaves at its start and around its turns, from a JSON file: claude's
//! environment is built from nothing, so nothing can be told through it.
//!
//! The first of these that exists is read: `<executable>.conf` beside the executable (give each
//! test a hard link or copy of its own), then `$HOME/.fake-claude.json`. Unknown fields are
//! refused with exit status 2, so that a typing error cannot pass as a test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Every field has a default: an empty file is a claude that behaves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Conf {
    /// Dialogs before the development-channels one, in order: `trust`, `api_key`, `bypass`,
    /// `unknown`. trust and bypass also come by themselves when the real CLI would draw them.
    pub(super) dialogs: Vec<DialogName>,
    /// Draw the development-channels dialog (bench: false, boot at once).
    pub(super) development_dialog: bool,
    /// Wait before the first dialog is drawn.
    pub(super) dialog_delay_ms: u64,
    /// Draw dialogs in pieces of so many bytes (0: whole) …
    pub(super) dialog_piece_bytes: usize,
    /// … with this pause between them.
    pub(super) dialog_piece_ms: u64,
    /// Wait between the handshake with the channel and its registration.
    pub(super) registration_delay_ms: u64,
    /// Refuse the channel for this reason instead. As with the real CLI no development-channels
    /// dialog is drawn then.
    pub(super) skip_reason: Option<String>,
    /// Neither register nor refuse.
    pub(super) never_registers: bool,
    /// Print this and end, before anything else.
    pub(super) exit_at_start: Option<ExitAtStart>,
    /// The first so many pushes are lost without a trace.
    pub(super) deaf_pushes: usize,
    /// Never read the terminal's input once the dialogs are done.
    pub(super) ignores_terminal: bool,
    /// MiB printed on the terminal right after registration.
    pub(super) print_mib: usize,
    /// SIGTERM and SIGINT do nothing.
    pub(super) ignores_sigterm: bool,
    /// False: run no hooks, as with `disableAllHooks` in the user's settings.
    pub(super) hooks: bool,
    /// Run the hook `SessionStart`. It comes before the channel is there, and waits for it in vain
    /// for as long as a hook may.
    pub(super) start_hook: bool,
    /// Draw nothing on the terminal during turns (bench).
    pub(super) quiet: bool,
    /// Keep a transcript (bench: false).
    pub(super) transcript: bool,
    /// Keep `sessions/<pid>.json` (bench: false).
    pub(super) state_file: bool,
    /// Points at which it waits until the test lets it go on (`stage`): `boot`, `unregistered`,
    /// `pushed`, `prompted`, `received`, `tool`, `progress`, `replied`, `stopped`.
    pub(super) holds: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DialogName {
    Trust,
    ApiKey,
    Bypass,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExitAtStart {
    pub(super) status: i32,
    pub(super) text: String,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            dialogs: Vec::new(),
            development_dialog: true,
            dialog_delay_ms: 0,
            dialog_piece_bytes: 0,
            dialog_piece_ms: 0,
            registration_delay_ms: 0,
            skip_reason: None,
            never_registers: false,
            exit_at_start: None,
            deaf_pushes: 0,
            ignores_terminal: false,
            print_mib: 0,
            ignores_sigterm: false,
            hooks: true,
            start_hook: true,
            quiet: false,
            transcript: true,
            state_file: true,
            holds: Vec::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
}

impl Conf {
    /// Reads the first file that exists; none is the default.
    pub(super) fn load() -> Result<Self, Error> {
        for path in places() {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    return serde_json::from_slice(&bytes)
                        .map_err(|source| Error::Parse { path, source });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Ok(Self::default())
    }

    pub(super) fn dialog_delay(&self) -> Duration {
        Duration::from_millis(self.dialog_delay_ms)
    }

    pub(super) fn dialog_pause(&self) -> Duration {
        Duration::from_millis(self.dialog_piece_ms)
    }

    pub(super) fn registration_delay(&self) -> Duration {
        Duration::from_millis(self.registration_delay_ms)
    }
}

fn places() -> impl Iterator<Item = PathBuf> {
    let beside = std::env::current_exe().ok().map(|path| {
        let mut name = path.into_os_string();
        name.push(".conf");
        PathBuf::from(name)
    });
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".fake-claude.json"));
    beside.into_iter().chain(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_behaves_and_a_typing_error_is_refused() {
        assert_eq!(serde_json::from_str::<Conf>("{}").unwrap(), Conf::default());
        assert!(serde_json::from_str::<Conf>(r#"{"hook": false}"#).is_err());
        let conf: Conf =
            serde_json::from_str(r#"{"dialogs": ["trust", "unknown"], "hooks": false}"#).unwrap();
        assert_eq!(conf.dialogs, [DialogName::Trust, DialogName::Unknown]);
    }
}
