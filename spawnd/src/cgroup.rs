//! Where control groups are: what /proc says of a process's, and where that lies in the file
//! system. Hybrid hosts, with version 1 controllers beside version 2, are understood too.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// Version 2's one hierarchy, or a controller of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    Unified,
    Controller(&'static str),
}

/// The group of `pid` as /proc/PID/cgroup has it (cgroups(7)).
pub fn of_process(pid: Pid, hierarchy: Hierarchy) -> Option<String> {
    group(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, hierarchy)
}

/// The folder of a group that [`of_process`] named.
pub fn folder(group: &str, hierarchy: Hierarchy) -> Option<PathBuf> {
    place(&fs::read_to_string("/proc/self/mountinfo").ok()?, group, hierarchy)
}

fn group(table: &str, hierarchy: Hierarchy) -> Option<String> {
    let found = table.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match hierarchy {
            Hierarchy::Unified => id == "0" && controllers.is_empty(),
            Hierarchy::Controller(name) => controllers.split(',').any(|found| found == name),
        };
        is_it.then_some(path)
    })?;
    // A dead process that was not waited for keeps the name of a group that is gone.
    Some(found.strip_suffix(" (deleted)").unwrap_or(found).to_owned())
}

/// proc_pid_mountinfo(5): the fields before ` - ` are counted, those behind it name the kind.
fn place(mounts: &str, group: &str, hierarchy: Hierarchy) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let mut behind = behind.split(' ');
        let (kind, options) = (behind.next()?, behind.nth(1)?);
        let is_it = match hierarchy {
            Hierarchy::Unified => kind == "cgroup2",
            Hierarchy::Controller(name) => {
                kind == "cgroup" && options.split(',').any(|found| found == name)
            }
        };
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        is_it.then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/s.slice\n4:cpu,memory:/m.slice/x.scope\n0::/s.slice";
    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n\
        41 31 0:38 /a /sys/fs/cgroup/unified rw shared:9 master:2 - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_process_group_is_read_for_each_hierarchy() {
        let memory = Hierarchy::Controller("memory");
        assert_eq!(group(HYBRID, Hierarchy::Unified).unwrap(), "/s.slice");
        assert_eq!(group(HYBRID, memory).unwrap(), "/m.slice/x.scope");
        assert_eq!(group("0::/a:b (deleted)\n", Hierarchy::Unified).unwrap(), "/a:b");
        for none in ["", "0:", "1:memoryless:/x", "0:x:/y"] {
            assert_eq!(group(none, memory), None);
            assert_eq!(group(none, Hierarchy::Unified), None);
        }
    }

    #[test]
    fn a_group_lies_below_the_root_of_its_mount() {
        let at = |group, hierarchy| place(MOUNTS, group, hierarchy);
        let memory = at("/x.scope", Hierarchy::Controller("memory")).unwrap();
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory/x.scope"));
        let unified = at("/a/b.scope", Hierarchy::Unified).unwrap();
        assert_eq!(unified, Path::new("/sys/fs/cgroup/unified/b.scope"));
        assert_eq!(at("/other/b.scope", Hierarchy::Unified), None);
        assert_eq!(at("/x", Hierarchy::Controller("pids")), None);
    }
}
