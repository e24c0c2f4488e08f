//! What single values of spawnd.toml may be. A type here is always valid, so that the parser
//! itself names the place of what is not.

use std::collections::BTreeMap;

use proto::ids::AbsolutePath;
use serde::Deserialize;

/// A number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Number<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Number<MIN, MAX> {
    type Error = String;
    fn try_from(number: u64) -> Result<Self, String> {
        match (MIN..=MAX).contains(&number) {
            true => Ok(Self(number)),
            false => Err(format!("must be {MIN} to {MAX}")),
        }
    }
}

impl<const MIN: u64, const MAX: u64> Number<MIN, MAX> {
    /// Of things in memory.
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Bytes: a number, or one with K, M, G or T (powers of 1024) in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSize")]
pub struct Size<const MIN: u64, const MAX: u64>(pub u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a number of bytes or a text like \"512M\"")]
enum RawSize {
    Number(u64),
    Text(String),
}

impl<const MIN: u64, const MAX: u64> TryFrom<RawSize> for Size<MIN, MAX> {
    type Error = String;
    fn try_from(raw: RawSize) -> Result<Self, String> {
        let bytes = match raw {
            RawSize::Number(bytes) => Some(bytes),
            RawSize::Text(text) => bytes(&text),
        };
        let fits = bytes.filter(|bytes| (MIN..=MAX).contains(bytes));
        fits.map(Self).ok_or_else(|| format!("must be {MIN} to {MAX} bytes, like \"512M\""))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'K') => (text.get(..at)?, 10),
        (at, 'M') => (text.get(..at)?, 20),
        (at, 'G') => (text.get(..at)?, 30),
        (at, 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    // The parser would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A list short enough to be searched at every request.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<T>", bound = "T: Deserialize<'de>")]
pub struct Few<T>(pub Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> TryFrom<Vec<T>> for Few<T> {
    type Error = &'static str;
    fn try_from(list: Vec<T>) -> Result<Self, Self::Error> {
        if list.len() <= 256 { Ok(Self(list)) } else { Err("holds more than 256 entries") }
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $check:expr) => {
        $(#[$doc])*
        // No Debug: a value may be a secret.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(pub String);

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err($rule) }
            }
        }
    };
}

/// A folder below which workspaces may lie.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Root {
    /// An absolute path that may hold `{home}` or `{workspace}`, at its start, and `{user}`.
    pub named: String,
    /// Where that led at start, if nothing was to be replaced; launch follows no symlink.
    pub real: Option<AbsolutePath>,
}

impl TryFrom<String> for Root {
    type Error = &'static str;
    fn try_from(named: String) -> Result<Self, Self::Error> {
        let below = Self::STARTS.iter().find_map(|start| named.strip_prefix(start));
        let rest = below.unwrap_or(&named).replace("{user}", "u");
        let whole = if below.is_some() { format!("/h{rest}") } else { rest.clone() };
        let fits = (rest.is_empty() || rest.starts_with('/'))
            && !rest.contains(['{', '}'])
            && AbsolutePath::new(whole).is_ok();
        match fits {
            true => Ok(Self { named, real: None }),
            false => Err(
                "must be an absolute path, or one with {home} or {workspace} at its start or {user}",
            ),
        }
    }
}

impl Root {
    /// The account's home, and the folder that spawnd makes for its user to work in.
    pub const STARTS: [&str; 2] = ["{home}", "{workspace}"];
}

checked_text!(
    /// A Unix group's name, as groupadd takes it or a directory may hold it.
    GroupName,
    "must be a group's name: 1 to 64 characters of [A-Za-z0-9_.-], the first no -",
    |text| name(text, 64)
);

checked_text!(
    /// Of a systemd credential: a file's name.
    CredentialName,
    "must be a credential's name: 1 to 128 characters of [A-Za-z0-9_.-], the first no - or .",
    |text| name(text, 128) && !text.starts_with('.')
);

checked_text!(
    /// Never one that steers the dynamic linker, this project, or what launch sets itself.
    VariableName,
    "must be [A-Z_][A-Z0-9_]*, and is not LD_*, SYNTHESIS_*, HOME, CLAUDE_CONFIG_DIR or another that spawnd sets",
    |text| {
        const OURS: [&str; 12] = [
            "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "NOTIFY_SOCKET",
            "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_TMPDIR", "CLAUDE_CODE_SANDBOXED", "DISABLE_AUTOUPDATER",
        ];
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && !text.starts_with("LD_")
            && !text.starts_with("SYNTHESIS_")
            && !OURS.contains(&text)
    }
);

checked_text!(
    /// What exec can carry.
    Value,
    "must hold no zero byte and at most 32768 bytes",
    |text| text.len() <= 32_768 && !text.contains('\0')
);

checked_text!(
    /// One tool, as `--allowedTools` takes it.
    Tool,
    "must be 1 to 512 characters, none of them a control character, the first no -",
    |text| {
        (1..=512).contains(&text.len())
            && !text.starts_with('-')
            && !text.chars().any(char::is_control)
    }
);

checked_text!(
    /// One argument for claude. Options that launch gives itself, or that would undo what policy
    /// decides, are not the file's to give; short ones could be joined to hide one.
    Argument,
    "must be no option that spawnd itself gives, no short option, no control character",
    |text| {
        const OURS: [&str; 21] = [
            "--session-id", "--resume", "--continue", "--fork-session", "--permission-mode",
            "--dangerously-skip-permissions", "--allow-dangerously-skip-permissions",
            "--mcp-config", "--strict-mcp-config", "--settings", "--setting-sources",
            "--debug-file", "--model", "--allowedTools", "--allowed-tools", "--channels",
            "--dangerously-load-development-channels", "--append-system-prompt-file",
            "--system-prompt-snapshot", "--print", "--",
        ];
        let option = text.split('=').next().unwrap_or_default();
        (1..=4096).contains(&text.len())
            && !text.chars().any(char::is_control)
            && !OURS.contains(&option)
            && (!text.starts_with('-') || text.starts_with("--"))
    }
);

checked_text!(
    /// What IPAddressAllow= takes (systemd.resource-control(5)).
    Addresses,
    "must be an address, ADDRESS/PREFIX, or any, localhost, link-local or multicast",
    |text| {
        if ["any", "localhost", "link-local", "multicast"].contains(&text) {
            return true;
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        prefix.is_none_or(|prefix| {
            prefix.bytes().all(|b| b.is_ascii_digit())
                && prefix.parse::<u8>().is_ok_and(|bits| bits <= longest)
        })
    }
);

fn name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

pub type Variables = BTreeMap<VariableName, Value>;
pub type Credentials = BTreeMap<VariableName, CredentialName>;

#[cfg(test)]
mod tests {
    use super::*;

    fn holds<T: TryFrom<String>>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(T::try_from((*text).to_owned()).is_ok(), "{text:?}");
        }
        for text in bad {
            assert!(T::try_from((*text).to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_root_is_a_path_with_known_words_in_their_places() {
        holds::<Root>(
            &[
                "{home}",
                "{home}/x",
                "{workspace}",
                "{workspace}/{user}",
                "/srv/{user}",
                "/srv/a{user}b",
                "/",
            ],
            &[
                "",
                "x",
                "{home}x",
                "/x/{home}",
                "/{workspace}",
                "{home}{workspace}",
                "{workspace}x",
                "{user}",
                "/{uid}",
                "/a/../b",
                "/a/",
                "{home}/",
            ],
        );
    }

    #[test]
    fn variables_of_the_linker_or_of_ours_are_refused() {
        holds::<VariableName>(
            &["A", "_X9", "ANTHROPIC_API_KEY", "PATH"],
            &["", "a", "9A", "A-B", "LD_PRELOAD", "SYNTHESIS_X", "HOME", "CLAUDE_CONFIG_DIR"],
        );
    }

    #[test]
    fn arguments_that_launch_owns_are_refused_in_either_form() {
        holds::<Argument>(
            &["--verbose", "--append-system-prompt=be kind", "word"],
            &["", "--resume", "--model=x", "-r", "-p", "--settings=/x", "--", "a\nb", "-"],
        );
    }

    #[test]
    fn addresses_are_what_systemd_takes() {
        holds::<Addresses>(
            &["any", "link-local", "10.0.0.0/8", "::1", "fe80::/64", "1.2.3.4"],
            &["", "all", "10.0.0.0/33", "::/129", "1.2.3", "host", "1.1.1.1/+8", "1.1.1.1/"],
        );
    }

    #[test]
    fn sizes_have_units_and_no_signs_and_never_overflow() {
        assert_eq!(bytes("4G"), Some(4 << 30));
        assert_eq!((bytes("64K"), bytes("512")), (Some(64 << 10), Some(512)));
        for bad in ["", "G", "-1G", "+1", "1.5G", "4GB", "4g", "99999999999999T", "\u{1d7d8}"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
