//! The deny list: what a session's processes may not ask of the kernel, and why not. Data, to be
//! reviewed line by line; [`seccomp`] makes filters of it. What needs a capability stands here as
//! well where it has a history of faults.
//!
//! [`seccomp`]: crate::seccomp

/// One line of the list.
#[derive(Debug)]
#[allow(dead_code, reason = "name and reason are for the reader, and for the tests")]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) number: i64,
    pub(crate) when: When,
    pub(crate) answer: Answer,
    pub(crate) reason: &'static str,
}

/// By argument, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Is(u8, u32),
    Has(u8, u32),
    NotIn(u8, &'static [u32]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// EPERM.
    NotPermitted,
    /// ENOSYS, on which callers try an older call.
    NotThere,
}

/// What applies; with `ptrace` the session's processes may look into one another.
pub(crate) fn entries(ptrace: bool) -> impl Iterator<Item = &'static Entry> {
    let tracing = if ptrace { &[] } else { TRACING };
    DENIED.iter().chain(OF_THIS_MACHINE).chain(tracing)
}

const fn never(name: &'static str, number: i64, reason: &'static str) -> Entry {
    Entry { name, number, when: When::Always, answer: Answer::NotPermitted, reason }
}

const fn not(name: &'static str, number: i64, when: When, reason: &'static str) -> Entry {
    Entry { name, number, when, answer: Answer::NotPermitted, reason }
}

/// Not in the libc crate yet; the same on every architecture.
const SYS_OPEN_TREE_ATTR: i64 = 467;

const MOUNTS: &str = "mounts are what hides the machine from the session";
const NAMESPACE: &str = "a new namespace opens code of the kernel that only root reaches else";
const NEW_USER: &str = "in a new user namespace the session would hold every capability";
const MODULES: &str = "code for the kernel";
const KEXEC: &str = "another kernel";
const RING: &str = "its operations run past this very list, and its history of faults is long";
const KEYS: &str = "keyrings are shared by uid, across sessions";
const CLOCK: &str = "the machine's time is everybody's";
const HANDLES: &str = "opens files past the folders on their way";
const MACHINE: &str = "the machine's, not a session's";
const OTHERS: &str = "Landlock guards against signals to others, but not against this";
const FAMILY: &str = "the others see all traffic, pass every rule, or are old code with faults";
const ASKING: u32 = 0xffff_ffff;

const DENIED: &[Entry] = &[
    never("mount", libc::SYS_mount, MOUNTS),
    never("umount2", libc::SYS_umount2, MOUNTS),
    never("pivot_root", libc::SYS_pivot_root, MOUNTS),
    never("chroot", libc::SYS_chroot, MOUNTS),
    never("move_mount", libc::SYS_move_mount, MOUNTS),
    never("open_tree", libc::SYS_open_tree, MOUNTS),
    never("open_tree_attr", SYS_OPEN_TREE_ATTR, MOUNTS),
    never("fsopen", libc::SYS_fsopen, MOUNTS),
    never("fsconfig", libc::SYS_fsconfig, MOUNTS),
    never("fsmount", libc::SYS_fsmount, MOUNTS),
    never("fspick", libc::SYS_fspick, MOUNTS),
    never("mount_setattr", libc::SYS_mount_setattr, MOUNTS),
    never("setns", libc::SYS_setns, "enters the namespaces of others"),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWUSER), NEW_USER),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWNS), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWPID), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWNET), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWIPC), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWUTS), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWCGROUP), NAMESPACE),
    not("unshare", libc::SYS_unshare, When::Has(0, NEWTIME), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWUSER), NEW_USER),
    not("clone", libc::SYS_clone, When::Has(0, NEWNS), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWPID), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWNET), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWIPC), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWUTS), NAMESPACE),
    not("clone", libc::SYS_clone, When::Has(0, NEWCGROUP), NAMESPACE),
    Entry {
        name: "clone3",
        number: libc::SYS_clone3,
        when: When::Always,
        answer: Answer::NotThere,
        reason: "its flags lie in memory, where no filter sees them; libraries fall back to clone",
    },
    never("io_uring_setup", libc::SYS_io_uring_setup, RING),
    never("io_uring_enter", libc::SYS_io_uring_enter, RING),
    never("io_uring_register", libc::SYS_io_uring_register, RING),
    never("bpf", libc::SYS_bpf, "programs inside the kernel"),
    never("perf_event_open", libc::SYS_perf_event_open, "watches the kernel and others at work"),
    never("userfaultfd", libc::SYS_userfaultfd, "holds the kernel up in the midst of an exploit"),
    never("add_key", libc::SYS_add_key, KEYS),
    never("keyctl", libc::SYS_keyctl, KEYS),
    never("request_key", libc::SYS_request_key, KEYS),
    never("init_module", libc::SYS_init_module, MODULES),
    never("finit_module", libc::SYS_finit_module, MODULES),
    never("delete_module", libc::SYS_delete_module, MODULES),
    never("kexec_load", libc::SYS_kexec_load, KEXEC),
    never("kexec_file_load", libc::SYS_kexec_file_load, KEXEC),
    never("reboot", libc::SYS_reboot, MACHINE),
    never("swapon", libc::SYS_swapon, MACHINE),
    never("swapoff", libc::SYS_swapoff, MACHINE),
    never("acct", libc::SYS_acct, MACHINE),
    never("quotactl", libc::SYS_quotactl, MACHINE),
    never("quotactl_fd", libc::SYS_quotactl_fd, MACHINE),
    never("vhangup", libc::SYS_vhangup, MACHINE),
    never("syslog", libc::SYS_syslog, "the kernel's log tells addresses and neighbours"),
    never("fanotify_init", libc::SYS_fanotify_init, "watches the files of others"),
    never("lookup_dcookie", libc::SYS_lookup_dcookie, "a profiler's remnant"),
    never("nfsservctl", libc::SYS_nfsservctl, "a remnant without a user"),
    never("settimeofday", libc::SYS_settimeofday, CLOCK),
    never("clock_settime", libc::SYS_clock_settime, CLOCK),
    never("clock_adjtime", libc::SYS_clock_adjtime, CLOCK),
    never("adjtimex", libc::SYS_adjtimex, CLOCK),
    never("name_to_handle_at", libc::SYS_name_to_handle_at, HANDLES),
    never("open_by_handle_at", libc::SYS_open_by_handle_at, HANDLES),
    not(
        "personality",
        libc::SYS_personality,
        // 0 is the plain one, all ones asks which it is.
        When::NotIn(0, &[0, ASKING]),
        "switches address randomisation off, and old rules on",
    ),
    // 0 is the caller. A limit of no processor time ends a process as SIGKILL does.
    not("prlimit64", libc::SYS_prlimit64, When::NotIn(0, &[0]), OTHERS),
    // Of one process; of a group or of all of a user's no more.
    not("setpriority", libc::SYS_setpriority, When::NotIn(0, &[PRIO_PROCESS]), OTHERS),
    not("ioprio_set", libc::SYS_ioprio_set, When::NotIn(0, &[IOPRIO_WHO_PROCESS]), OTHERS),
    never("process_mrelease", libc::SYS_process_mrelease, OTHERS),
    never("migrate_pages", libc::SYS_migrate_pages, OTHERS),
    never("move_pages", libc::SYS_move_pages, OTHERS),
    not("ioctl", libc::SYS_ioctl, When::Is(1, TIOCSTI), "types into the terminal for its reader"),
    not("ioctl", libc::SYS_ioctl, When::Is(1, TIOCLINUX), "pastes into the machine's console"),
    not("ioctl", libc::SYS_ioctl, When::Is(1, TIOCCONS), "draws the console's output here"),
    not("ioctl", libc::SYS_ioctl, When::Is(1, TIOCSETD), "loads old code under the terminal"),
    not("socket", libc::SYS_socket, When::NotIn(0, FAMILIES), FAMILY),
    not("socketpair", libc::SYS_socketpair, When::NotIn(0, FAMILIES), FAMILY),
];

#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[Entry] = &[
    never("iopl", libc::SYS_iopl, "the machine's ports"),
    never("ioperm", libc::SYS_ioperm, "the machine's ports"),
    never("modify_ldt", libc::SYS_modify_ldt, "16-bit segments: faults, no users"),
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_MACHINE: &[Entry] = &[];

const LOOKING: &str = "a tool that was misled could take over claude, which holds the login";

/// Where policy does not allow tracing.
const TRACING: &[Entry] = &[
    never("ptrace", libc::SYS_ptrace, LOOKING),
    never("process_vm_readv", libc::SYS_process_vm_readv, LOOKING),
    never("process_vm_writev", libc::SYS_process_vm_writev, LOOKING),
    never("process_madvise", libc::SYS_process_madvise, LOOKING),
    never("pidfd_getfd", libc::SYS_pidfd_getfd, LOOKING),
    never("kcmp", libc::SYS_kcmp, LOOKING),
];

const NEWUSER: u32 = libc::CLONE_NEWUSER.cast_unsigned();
const NEWNS: u32 = libc::CLONE_NEWNS.cast_unsigned();
const NEWPID: u32 = libc::CLONE_NEWPID.cast_unsigned();
const NEWNET: u32 = libc::CLONE_NEWNET.cast_unsigned();
const NEWIPC: u32 = libc::CLONE_NEWIPC.cast_unsigned();
const NEWUTS: u32 = libc::CLONE_NEWUTS.cast_unsigned();
const NEWCGROUP: u32 = libc::CLONE_NEWCGROUP.cast_unsigned();
/// For clone these bits are the signal at the end.
const NEWTIME: u32 = 0x80;
const PRIO_PROCESS: u32 = 0;
const IOPRIO_WHO_PROCESS: u32 = 1;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const TIOCCONS: u32 = 0x541d;
const TIOCSETD: u32 = 0x5423;
const FAMILIES: &[u32] = &[
    libc::AF_UNIX.cast_unsigned(),
    libc::AF_INET.cast_unsigned(),
    libc::AF_INET6.cast_unsigned(),
    libc::AF_NETLINK.cast_unsigned(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_says_what_and_why() {
        for entry in entries(false) {
            assert!(entry.reason.len() > 8, "{entry:?}");
            assert!(!entry.name.is_empty() && (0..1000).contains(&entry.number), "{entry:?}");
        }
    }

    #[test]
    fn a_name_has_one_number_and_no_line_stands_twice() {
        let all: Vec<&Entry> = entries(false).collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_eq!(one.name == other.name, one.number == other.number, "{one:?} {other:?}");
                let both = one.name == other.name && one.when == other.when;
                assert!(!both, "{one:?} twice");
            }
        }
    }

    #[test]
    fn tracing_is_for_those_to_whom_policy_allows_it() {
        let traces = |ptrace| entries(ptrace).any(|entry| entry.name == "ptrace");
        assert!(traces(false) && !traces(true));
        assert!(entries(true).any(|entry| entry.name == "mount"));
    }
}
