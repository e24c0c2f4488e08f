//! Facts of processes from /proc. Reads only files that touch none of the process's memory: those
//! would block on a process that makes its pages unavailable.

use std::io::Read as _;

use nix::unistd::Pid;
use proto::ids::SessionId;

/// One process at one moment. `pid` and `start` together name it for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: Pid,
    /// Clock ticks after boot.
    pub start: u64,
    /// Can still run code: neither zombie nor dead.
    pub alive: bool,
}

/// Every process that this one can see.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| one(Pid::from_raw(pid)))
        .collect()
}

/// The process with this number now.
pub fn one(pid: Pid) -> Option<Process> {
    parse(pid, &read(pid, "stat")?)
}

/// proc_pid_stat(5). The name may hold anything, closing parentheses too: the last one counts.
fn parse(pid: Pid, stat: &[u8]) -> Option<Process> {
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual is the first after the name.
    let field = |number: usize| fields.get(number - 3).copied();
    let state = field(3)?;
    let threads: u64 = field(20)?.parse().ok()?;
    Some(Process {
        pid,
        parent: Pid::from_raw(field(4)?.parse().ok()?),
        start: field(22)?.parse().ok()?,
        // A first thread that ended shows Z while its other threads run on.
        alive: !matches!(state, "Z" | "X") || threads > 1,
    })
}

/// The mark that launch put on a session's processes: a number in their RLIMIT_LOCKS, a limit
/// that Linux has ignored since 2.4.25. It is inherited by every fork and exec, outlives
/// `env -i`, `setsid` and a double fork, and can only be lowered, never raised.
pub fn mark_of(session: &SessionId, ceiling: u64) -> u64 {
    // FNV-1a, then 62 bits: far from RLIM_INFINITY, and never 0.
    let hash = session.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mark = (hash >> 3) | (1 << 61);
    if mark <= ceiling { mark } else { mark % ceiling.max(1) }
}

/// This process's own ceiling for marks; launch inherits it.
pub fn mark_ceiling() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_LOCKS).map_or(u64::MAX, |(_, hard)| hard)
}

/// The mark that a process carries, if it has any.
pub fn mark(pid: Pid) -> Option<u64> {
    parse_mark(&read(pid, "limits")?)
}

fn parse_mark(limits: &[u8]) -> Option<u64> {
    let line = limits.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"Max file locks"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Both files are under 2 KiB; the bound is against surprises.
fn read(pid: Pid, file: &str) -> Option<Vec<u8>> {
    let file = std::fs::File::open(format!("/proc/{pid}/{file}")).ok()?;
    let mut content = Vec::with_capacity(1024);
    file.take(16 * 1024).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "1 5 5 34816 5 4194304 1 0 0 0 0 0 0 0 20 0 THREADS 0 777 1 1";

    fn stat(name: &str, state: &str, threads: u32) -> Vec<u8> {
        format!("9 ({name}) {state} {}", TAIL.replace("THREADS", &threads.to_string())).into_bytes()
    }

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let process = parse(Pid::from_raw(9), &stat("x) R 4242 (", "S", 1)).unwrap();
        assert_eq!(process.parent, Pid::from_raw(1));
        assert_eq!(process.start, 777);
        assert!(process.alive);
    }

    #[test]
    fn a_zombie_first_thread_with_running_others_is_alive() {
        assert!(!parse(Pid::from_raw(9), &stat("x", "Z", 1)).unwrap().alive);
        assert!(parse(Pid::from_raw(9), &stat("x", "Z", 2)).unwrap().alive);
    }

    #[test]
    fn broken_stat_is_no_process() {
        for bad in [&b""[..], b"9 (x", b"9 (x) S", b"\xff\xfe)"] {
            assert_eq!(parse(Pid::from_raw(9), bad), None);
        }
    }

    #[test]
    fn this_process_is_seen() {
        let me = nix::unistd::getpid();
        assert!(all().iter().any(|p| p.pid == me && p.alive));
    }

    #[test]
    fn a_mark_stays_under_its_ceiling() {
        let session = SessionId::random();
        assert!(mark_of(&session, u64::MAX) >= 1 << 61);
        assert_eq!(mark_of(&session, u64::MAX), mark_of(&session, u64::MAX - 1));
        assert!(mark_of(&session, 1000) < 1000);
        assert_eq!(mark_of(&session, 0), 0);
    }

    #[test]
    fn an_unlimited_process_has_no_mark() {
        let line = |v: &str| format!("Limit  Soft\nMax file locks   {v}   {v}   locks \n");
        assert_eq!(parse_mark(line("unlimited").as_bytes()), None);
        assert_eq!(parse_mark(line("77").as_bytes()), Some(77));
    }
}
