//! The hostile claude's only unsafe: system calls with arguments that no wrapper would let pass.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork};

/// Any system call with any arguments. Only such calls are made as change nothing of this
/// process's memory: every address is invalid, or points at what lives through the call.
pub(super) fn call(number: libc::c_long, a: [usize; 6]) -> Result<i64, Errno> {
    // SAFETY: see above; a wrong address is answered EFAULT by the kernel.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// A child that runs `act` and nothing else.
pub(super) fn child<T>(act: impl FnOnce() -> T) -> Result<Pid, Errno> {
    // SAFETY: this program has one thread, so that the child may do whatever its parent could.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            act();
            end(0);
            unreachable!("_exit does not return")
        }
    }
}

/// Ends this process at once.
pub(super) fn end(code: i32) {
    // SAFETY: _exit(2) takes any status and does not return.
    unsafe { libc::_exit(code) }
}

pub(super) fn handle(signal: Signal, handler: SigHandler) -> Result<(), Errno> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler is SIG_IGN or SIG_DFL, so no code of ours runs in it.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Attaches to a process, by either way, and lets it go again.
pub(super) fn attach(pid: i32) -> Result<(), Errno> {
    let pid = usize::try_from(pid).map_err(|_| Errno::UnknownErrno)?;
    let seize = usize::try_from(libc::PTRACE_SEIZE).map_err(|_| Errno::UnknownErrno)?;
    let attach = usize::try_from(libc::PTRACE_ATTACH).map_err(|_| Errno::UnknownErrno)?;
    call(libc::SYS_ptrace, [seize, pid, 0, 0, 0, 0])
        .or_else(|_| call(libc::SYS_ptrace, [attach, pid, 0, 0, 0, 0]))?;
    Ok(())
}

/// capset(2) of every capability in every set.
pub(super) fn take_all_capabilities() -> Result<(), Errno> {
    // _LINUX_CAPABILITY_VERSION_3, then effective, permitted and inheritable twice.
    let header = [0x2008_0522_u32, 0];
    let data = [u32::MAX; 6];
    let arguments = [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0];
    call(libc::SYS_capset, arguments)?;
    Ok(())
}

/// getpid(2) as a 32-bit program calls it: other numbers, another door.
#[cfg(target_arch = "x86_64")]
pub(super) fn getpid_by_int80() -> Result<i64, Errno> {
    let mut result: i32 = 20;
    // SAFETY: interrupt 0x80 reads its number from eax and answers there; getpid takes no
    // argument and touches no memory. The kernel clears r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(result.into()) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn getpid_by_int80() -> Result<i64, Errno> {
    Err(Errno::ENOSYS)
}
