//! What runs, read from /proc from outside.

use std::collections::HashMap;
use std::path::Path;

/// Processes whose arguments or environment mention `path`.
pub fn mentioning(path: &Path) -> Vec<u32> {
    let needle = path.as_os_str().as_encoded_bytes();
    let mentions = |file: &str, pid: u32| {
        std::fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    all().into_iter().filter(|pid| mentions("cmdline", *pid) || mentions("environ", *pid)).collect()
}

/// Processes of which one argument is `argument` and another mentions `path`.
pub fn with_argument(path: &Path, argument: &str) -> Vec<u32> {
    let path = path.to_string_lossy();
    let fits = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let mut parts = arguments.split('\0');
        parts.any(|part| part == argument) && arguments.contains(&*path)
    };
    all().into_iter().filter(fits).collect()
}

/// The claudes whose session folders are below `sessions`.
pub fn claudes(sessions: &Path) -> Vec<u32> {
    let found = with_argument(sessions, "--mcp-config");
    // Between its fork and its exec a claude's child looks like another claude, and may be gone by
    // the time that its parent is asked for.
    let is_own = |pid| parent_of(pid).is_some_and(|parent| !found.contains(&parent));
    found.iter().copied().filter(|pid| is_own(*pid)).collect()
}

/// A file of the one session's own folder, as its claude sees it.
///
/// # Errors
/// What reading it answers.
///
/// # Panics
/// When there is not exactly one claude.
pub fn session_file(sessions: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let [claude] = claudes(sessions)[..] else { panic!("one claude: {:?}", claudes(sessions)) };
    let folder = std::fs::read_dir(sessions)?.next();
    let folder = folder.expect("a claude has a folder")?.path();
    let inside = folder.strip_prefix("/").expect("the state folder is absolute");
    std::fs::read(Path::new(&format!("/proc/{claude}/root")).join(inside).join(name))
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The executable's name as the kernel keeps it, and whether the process is more than a corpse.
pub fn name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last one does not.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The lines of /proc/PID/status, by their names.
pub fn status(pid: u32) -> Option<HashMap<String, String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Some(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// Is there such a process, and is it more than a corpse?
pub fn lives(pid: u32) -> bool {
    status(pid).is_some_and(|status| !status["State"].starts_with('Z'))
}

/// Every process that can be seen.
pub fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
