//! Attempts on the kernel: system calls that a session has no business with. The arguments are
//! such that the kernel itself would allow the call, or name another error than EPERM: only a
//! filter says EPERM (or ENOSYS) to them.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid, setgid, setgroups, setresuid, setuid};
use serde_json::json;

use super::{Tried, sys};

/// An address that is nobody's.
const NOWHERE: usize = 8;
const NONE: usize = usize::MAX;
const X32: libc::c_long = 0x4000_0000;
/// Not in the libc crate yet.
const OPEN_TREE_ATTR: libc::c_long = 467;
/// A process that is none: the kernel's own answer would be ESRCH.
const NOBODY: usize = 0x7fff_fff0;

struct Entry {
    name: &'static str,
    number: libc::c_long,
    arguments: [usize; 6],
}

const fn entry(name: &'static str, number: libc::c_long, arguments: [usize; 6]) -> Entry {
    Entry { name, number, arguments }
}

const fn family(name: &'static str, family: usize) -> Entry {
    entry(name, libc::SYS_socket, [family, libc::SOCK_DGRAM as usize, 0, 0, 0, 0])
}

/// `clone` and `ptrace` end in a child of their own. Modules and another kernel are root's alone,
/// who says EPERM to them is not known.
const TABLE: &[Entry] = &[
    entry("mount", libc::SYS_mount, [NOWHERE, NOWHERE, NOWHERE, 0, NOWHERE, 0]),
    entry("umount2", libc::SYS_umount2, [NOWHERE, 0x100, 0, 0, 0, 0]),
    entry("open_tree", libc::SYS_open_tree, [NONE, NOWHERE, 0, 0, 0, 0]),
    entry("move_mount", libc::SYS_move_mount, [NONE, NOWHERE, NONE, NOWHERE, 0, 0]),
    entry("fsopen", libc::SYS_fsopen, [NOWHERE, NONE, 0, 0, 0, 0]),
    entry("fsconfig", libc::SYS_fsconfig, [NONE, 99, 0, 0, 0, 0]),
    entry("fsmount", libc::SYS_fsmount, [NONE, NONE, 0, 0, 0, 0]),
    entry("fspick", libc::SYS_fspick, [NONE, NOWHERE, NONE, 0, 0, 0]),
    entry("mount_setattr", libc::SYS_mount_setattr, [NONE, NOWHERE, NONE, NOWHERE, 0, 0]),
    entry("pivot_root", libc::SYS_pivot_root, [NOWHERE, NOWHERE, 0, 0, 0, 0]),
    entry("chroot", libc::SYS_chroot, [NOWHERE, 0, 0, 0, 0, 0]),
    entry("setns", libc::SYS_setns, [NONE, 0, 0, 0, 0, 0]),
    entry("unshare_user", libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]),
    entry("unshare_mount", libc::SYS_unshare, [libc::CLONE_NEWNS as usize, 0, 0, 0, 0, 0]),
    entry("unshare_net", libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0, 0, 0, 0]),
    entry("unshare_pid", libc::SYS_unshare, [libc::CLONE_NEWPID as usize, 0, 0, 0, 0, 0]),
    entry("unshare_ipc", libc::SYS_unshare, [libc::CLONE_NEWIPC as usize, 0, 0, 0, 0, 0]),
    entry("unshare_uts", libc::SYS_unshare, [libc::CLONE_NEWUTS as usize, 0, 0, 0, 0, 0]),
    entry("unshare_cgroup", libc::SYS_unshare, [libc::CLONE_NEWCGROUP as usize, 0, 0, 0, 0, 0]),
    entry("clone_user", libc::SYS_clone, [libc::CLONE_NEWUSER as usize | 17, 0, 0, 0, 0, 0]),
    entry(
        "clone_user_net",
        libc::SYS_clone,
        [(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) as usize | 17, 0, 0, 0, 0, 0],
    ),
    entry(
        "clone_user_high_bits",
        libc::SYS_clone,
        [libc::CLONE_NEWUSER as usize | 17 | 1 << 40, 0, 0, 0, 0, 0],
    ),
    entry("clone3", libc::SYS_clone3, [NOWHERE, 0, 0, 0, 0, 0]),
    entry("io_uring_setup", libc::SYS_io_uring_setup, [1, NOWHERE, 0, 0, 0, 0]),
    entry("io_uring_enter", libc::SYS_io_uring_enter, [NONE, 0, 0, 0, 0, 0]),
    entry("io_uring_register", libc::SYS_io_uring_register, [NONE, 0, 0, 0, 0, 0]),
    entry("bpf", libc::SYS_bpf, [0, NOWHERE, 64, 0, 0, 0]),
    entry("perf_event_open", libc::SYS_perf_event_open, [NOWHERE, 0, NONE, NONE, 0, 0]),
    entry("keyctl", libc::SYS_keyctl, [0, NONE - 2, 1, 0, 0, 0]),
    entry("add_key", libc::SYS_add_key, [NOWHERE, NOWHERE, 0, 0, 0, 0]),
    entry("request_key", libc::SYS_request_key, [NOWHERE, NOWHERE, 0, 0, 0, 0]),
    entry("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]),
    entry("ptrace_traceme", libc::SYS_ptrace, [0, 0, 0, 0, 0, 0]),
    entry("process_vm_readv", libc::SYS_process_vm_readv, [1, NOWHERE, 1, NOWHERE, 1, 0]),
    entry("process_vm_writev", libc::SYS_process_vm_writev, [1, NOWHERE, 1, NOWHERE, 1, 0]),
    entry("open_tree_attr", OPEN_TREE_ATTR, [NONE, NOWHERE, 0, NOWHERE, 0, 0]),
    entry("kexec_load", libc::SYS_kexec_load, [0, 0, NOWHERE, NONE, 0, 0]),
    entry("finit_module", libc::SYS_finit_module, [NONE, NOWHERE, 0, 0, 0, 0]),
    entry(
        "name_to_handle_at",
        libc::SYS_name_to_handle_at,
        [NONE, NOWHERE, NOWHERE, NOWHERE, 0, 0],
    ),
    entry("open_by_handle_at", libc::SYS_open_by_handle_at, [NONE, NOWHERE, 0, 0, 0, 0]),
    entry("personality", libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as usize, 0, 0, 0, 0, 0]),
    // SYSLOG_ACTION_SIZE_BUFFER, which is anybody's unless the machine says otherwise.
    entry("syslog", libc::SYS_syslog, [10, 0, 0, 0, 0, 0]),
    entry("pidfd_getfd", libc::SYS_pidfd_getfd, [NONE, 0, 0, 0, 0, 0]),
    entry("process_madvise", libc::SYS_process_madvise, [NONE, NOWHERE, 1, 0, 0, 0]),
    entry("process_mrelease", libc::SYS_process_mrelease, [NONE, 0, 0, 0, 0, 0]),
    entry("move_pages", libc::SYS_move_pages, [NOBODY, 0, NOWHERE, 0, 0, 0]),
    entry("migrate_pages", libc::SYS_migrate_pages, [NOBODY, 0, 0, 0, 0, 0]),
    entry("prlimit64_other", libc::SYS_prlimit64, [NOBODY, 0, 0, 0, 0, 0]),
    entry("prlimit64_high_bits", libc::SYS_prlimit64, [NOBODY | 1 << 40, 0, 0, 0, 0, 0]),
    entry("setpriority_group", libc::SYS_setpriority, [1, NOBODY, 0, 0, 0, 0]),
    entry("setpriority_user", libc::SYS_setpriority, [2, 0, 0, 0, 0, 0]),
    entry("ioprio_set_group", libc::SYS_ioprio_set, [2, NOBODY, 0, 0, 0, 0]),
    entry("ioprio_set_user", libc::SYS_ioprio_set, [3, 0, 0, 0, 0, 0]),
    family("socket_packet", 17),
    family("socket_can", 29),
    family("socket_tipc", 30),
    family("socket_bluetooth", 31),
    family("socket_alg", 38),
    family("socket_vsock", 40),
    family("socket_xdp", 44),
    family("socket_high_bits", 30 | 1 << 32),
    entry("socketpair_tipc", libc::SYS_socketpair, [30, 1, 0, NOWHERE, 0, 0]),
    entry("x32_getpid", X32 | 39, [0; 6]),
    entry("x32_unshare_user", X32 | 272, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]),
    entry("x32_ioctl", X32 | 514, [0, 0x5412, NOWHERE, 0, 0, 0]),
];

pub(super) fn names() -> Vec<&'static str> {
    TABLE.iter().map(|entry| entry.name).collect()
}

/// In a child, for some change whoever makes them, and a filter may kill.
pub(super) fn call(name: &str) -> Tried {
    let entry = TABLE.iter().find(|entry| entry.name == name).ok_or(Errno::UnknownErrno)?;
    in_a_child(|| sys::call(entry.number, entry.arguments))
}

/// By the same doors that are shut for other uses.
pub(super) fn usual_calls() -> Tried {
    let own = [0; 6];
    for (number, arguments) in [
        (libc::SYS_prlimit64, own),
        (libc::SYS_setpriority, [0, 0, 5, 0, 0, 0]),
        (libc::SYS_ioprio_set, [1, 0, 0, 0, 0, 0]),
        (libc::SYS_personality, own),
        (libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        (libc::SYS_socket, [1, 1, 0, 0, 0, 0]),
        (libc::SYS_socket, [2, 2, 0, 0, 0, 0]),
        (libc::SYS_socket, [10, 2, 0, 0, 0, 0]),
        (libc::SYS_socket, [16, 3, 0, 0, 0, 0]),
    ] {
        in_a_child(|| sys::call(number, arguments))?;
    }
    Ok(json!("all"))
}

pub(super) fn int80() -> Tried {
    in_a_child(sys::getpid_by_int80)
}

/// The answer comes back as an exit status: 0 for success, else the errno.
fn in_a_child(act: impl FnOnce() -> Result<i64, Errno>) -> Tried {
    use nix::sys::wait::{WaitStatus, waitpid};
    let child = sys::child(move || match act() {
        Ok(_) => sys::end(0),
        Err(errno) => sys::end(errno as i32),
    })?;
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(json!("allowed")),
        WaitStatus::Exited(_, number) => Err(Errno::from_raw(number)),
        // Killed by the filter: denied as well.
        WaitStatus::Signaled(..) => Err(Errno::EPERM),
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(..)
        | WaitStatus::Continued(..)
        | WaitStatus::StillAlive => Err(Errno::UnknownErrno),
    }
}

/// On the session's own terminal.
pub(super) fn ioctl(request: u64) -> Tried {
    let request = usize::try_from(request).map_err(|_| Errno::UnknownErrno)?;
    let byte = b"x";
    let result = sys::call(libc::SYS_ioctl, [0, request, byte.as_ptr() as usize, 0, 0, 0])?;
    Ok(json!(result))
}

pub(super) fn regain_root() -> Tried {
    let root = Uid::from_raw(0);
    let ways = [
        ("setuid", setuid(root)),
        ("seteuid", seteuid(root)),
        ("setresuid", setresuid(root, root, root)),
        ("setgid", setgid(Gid::from_raw(0))),
        ("setegid", setegid(Gid::from_raw(0))),
        ("setgroups", setgroups(&[Gid::from_raw(0)])),
        ("capset", sys::take_all_capabilities()),
    ];
    let open: Vec<&str> =
        ways.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| *name).collect();
    if open.is_empty() && !geteuid().is_root() { Err(Errno::EPERM) } else { Ok(json!(open)) }
}
