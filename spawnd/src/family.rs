//! Which processes belong to a session, and their end.
//!
//! A session's processes are claude, everything below it, and everything below an orphan of the
//! session. Orphans are adopted by spawnd (a child subreaper) and carry the session's mark. An
//! orphan whose mark is no live session's hid itself: it is taken to belong to any session that
//! was there when it started, so that nothing outlives the last of them.
//!
//! Limits of this, until each session has a scope of its own: a process may lower its mark to
//! that of another live session of the same user and then lives until that one ends; and a chain
//! of processes that each fork and exit faster than /proc can be read is caught late.

use std::collections::{HashMap, HashSet};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::process::{self, Process};
use crate::sys;

/// What a session's processes are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// claude or launch, as long as it was not waited for.
    pub root: Option<Pid>,
    /// When the session's first process started, in ticks.
    pub start: u64,
    pub mark: u64,
}

/// What spawnd knows of its own children.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Children that spawnd started itself: no orphans.
    pub started: HashSet<Pid>,
    /// Marks of the other live sessions.
    pub foreign_marks: HashSet<u64>,
}

/// The live processes of the session, from one look at the process table.
pub fn members(
    processes: &[Process],
    me: Pid,
    claim: &Claim,
    around: &Surroundings,
    mark: impl Fn(Pid) -> Option<u64>,
) -> Vec<Process> {
    let is_root = |p: &&Process| {
        Some(p.pid) == claim.root
            || (p.parent == me
                && !around.started.contains(&p.pid)
                && match mark(p.pid) {
                    Some(found) if found == claim.mark => true,
                    Some(found) if around.foreign_marks.contains(&found) => false,
                    Some(_) | None => p.start >= claim.start,
                })
    };
    let roots: Vec<Process> = processes.iter().filter(is_root).copied().collect();
    below(processes, roots)
}

/// `roots` and all that descends from them, the live ones.
fn below(processes: &[Process], roots: Vec<Process>) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut open = roots;
    let mut found = Vec::new();
    while let Some(process) = open.pop() {
        // Removal ends cycles, which a table read while it changes may show.
        open.extend(children.remove(&process.pid).unwrap_or_default());
        found.push(process);
    }
    found.retain(|p| p.alive);
    found
}

/// Is `pid` a live descendant of `ancestor`?
pub fn descends(pid: Pid, ancestor: Pid) -> bool {
    // Deeper chains are nobody's honest process tree.
    let mut next = pid;
    for _ in 0..64 {
        match process::one(next) {
            Some(p) if p.alive && p.parent == ancestor => return true,
            Some(p) if p.parent.as_raw() > 1 => next = p.parent,
            Some(_) | None => return false,
        }
    }
    false
}

/// SIGKILL to every live process of the session. How many there were: none is the proof that
/// the session is over.
pub fn strike(claim: &Claim, around: &Surroundings) -> usize {
    let members = members(&process::all(), nix::unistd::getpid(), claim, around, process::mark);
    members.iter().for_each(kill);
    members.len()
}

/// Kills exactly this process: a successor with the same number has another start.
pub fn kill(process: &Process) {
    let Ok(pidfd) = sys::pidfd::open(process.pid) else { return };
    if process::one(process.pid).is_some_and(|now| now.start == process.start) {
        use std::os::fd::AsFd as _;
        // Gone in between is as good.
        let _ = sys::pidfd::signal(pidfd.as_fd(), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: i32 = 10;

    fn table(rows: &[(i32, i32, u64, bool)]) -> Vec<Process> {
        rows.iter()
            .map(|&(pid, parent, start, alive)| Process {
                pid: Pid::from_raw(pid),
                parent: Pid::from_raw(parent),
                start,
                alive,
            })
            .collect()
    }

    fn found(rows: &[(i32, i32, u64, bool)], claim: &Claim, marks: &[(i32, u64)]) -> Vec<i32> {
        let around = Surroundings {
            started: HashSet::from([Pid::from_raw(20), Pid::from_raw(30)]),
            foreign_marks: HashSet::from([77]),
        };
        let marks: HashMap<i32, u64> = marks.iter().copied().collect();
        let mark = |pid: Pid| marks.get(&pid.as_raw()).copied();
        let mut pids: Vec<i32> = members(&table(rows), Pid::from_raw(ME), claim, &around, mark)
            .iter()
            .map(|p| p.pid.as_raw())
            .collect();
        pids.sort_unstable();
        pids
    }

    fn claim(root: Option<i32>) -> Claim {
        Claim { root: root.map(Pid::from_raw), start: 100, mark: 55 }
    }

    #[test]
    fn claude_and_all_below_it_belong() {
        let rows =
            [(20, ME, 100, true), (21, 20, 101, true), (22, 21, 102, true), (30, ME, 1, true)];
        assert_eq!(found(&rows, &claim(Some(20)), &[]), [20, 21, 22]);
    }

    #[test]
    fn an_orphan_with_our_mark_belongs_with_its_children() {
        let rows = [(40, ME, 150, true), (41, 40, 151, true)];
        assert_eq!(found(&rows, &claim(None), &[(40, 55)]), [40, 41]);
    }

    #[test]
    fn an_orphan_of_a_live_session_is_left_alone() {
        assert_eq!(found(&[(40, ME, 150, true)], &claim(None), &[(40, 77)]), [0; 0]);
    }

    #[test]
    fn an_orphan_that_hid_its_mark_is_nobodys_and_dies() {
        assert_eq!(found(&[(40, ME, 150, true)], &claim(None), &[(40, 3)]), [40]);
        assert_eq!(found(&[(40, ME, 150, true)], &claim(None), &[]), [40]);
        assert_eq!(found(&[(40, ME, 99, true)], &claim(None), &[]), [0; 0]);
    }

    #[test]
    fn processes_of_others_and_our_own_are_never_members() {
        let rows = [(1, 0, 0, true), (50, 1, 150, true), (20, ME, 150, true), (30, ME, 150, true)];
        assert_eq!(found(&rows, &claim(None), &[(50, 55)]), [0; 0]);
    }

    #[test]
    fn a_zombie_is_no_member_but_its_threads_children_are() {
        let rows = [(20, ME, 100, false), (21, 20, 101, true)];
        assert_eq!(found(&rows, &claim(Some(20)), &[]), [21]);
    }
}
