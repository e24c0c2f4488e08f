//! Closing what others filled. The last close of a descriptor may take as long as its maker likes:
//! a TCP socket lingers, a file on a foreign file system is flushed, a Unix socket closes what is
//! queued in it. Such descriptors are handed to a child (`launch --close`), whose copy is then the
//! last one; if it gets stuck, another takes its place. A claude once held up a whole daemon so.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair,
};
use nix::unistd::Pid;

use crate::{log, spawn, sys};

/// Children that may be stuck at once; each has taken some two hundred descriptors by then.
const AT_ONCE: usize = 8;
/// What is beyond them stays open: out of descriptors a daemon refuses, held up it is gone.
const KEPT: usize = 1024;

thread_local! {
    /// One for the daemon, which has one thread: whoever drops a [`Foreign`] has no other way to it.
    static UNDERTAKER: RefCell<Undertaker> = RefCell::default();
}

#[derive(Default)]
struct Undertaker {
    /// `launch`, by the file that was opened at start. Without it descriptors are closed here.
    program: Option<OwnedFd>,
    /// Where the present child listens.
    socket: Option<OwnedFd>,
    children: HashSet<Pid>,
    kept: Vec<OwnedFd>,
}

/// A descriptor that others may have filled. Dropping it never blocks.
#[derive(Debug)]
pub struct Foreign(Option<OwnedFd>);

impl From<OwnedFd> for Foreign {
    fn from(fd: OwnedFd) -> Self {
        Self(Some(fd))
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("taken by drop alone").as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            UNDERTAKER.with_borrow_mut(|undertaker| undertaker.bury(fd));
        }
    }
}

/// From here on what is foreign is closed by children of this program.
///
/// # Errors
/// Out of descriptors.
pub fn employ(launch: BorrowedFd<'_>) -> std::io::Result<()> {
    let program = Some(launch.try_clone_to_owned()?);
    UNDERTAKER.with_borrow_mut(|undertaker| undertaker.program = program);
    Ok(())
}

/// Those children; they end with this process.
pub fn pids() -> Vec<Pid> {
    UNDERTAKER.with_borrow(|undertaker| undertaker.children.iter().copied().collect())
}

/// If `pid` was one of them: it is gone.
pub fn ended(pid: Pid) -> bool {
    UNDERTAKER.with_borrow_mut(|undertaker| undertaker.children.remove(&pid))
}

impl Undertaker {
    fn bury(&mut self, fd: OwnedFd) {
        if self.program.is_none() || self.hand_over(&fd) {
            return;
        }
        // It is stuck, or gone: with a fatal signal it closes the rest on its way out.
        for child in &self.children {
            let _ = kill(*child, Signal::SIGKILL);
        }
        self.socket = None;
        if self.children.len() < AT_ONCE {
            match self.start() {
                Ok(()) if self.hand_over(&fd) => return,
                Ok(()) => {}
                Err(error) => log::error(format_args!("launch --close: {error}")),
            }
        }
        if self.kept.len() < KEPT {
            self.kept.push(fd);
        }
    }

    /// In flight it is the child's: our own copy is no longer the last.
    fn hand_over(&self, fd: &OwnedFd) -> bool {
        let Some(socket) = &self.socket else { return false };
        let rights = [fd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let parts = [IoSlice::new(b"x")];
        sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, &rights, flags, None).is_ok()
    }

    fn start(&mut self) -> std::io::Result<()> {
        let Some(program) = &self.program else { return Ok(()) };
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = spawn::beside(program.as_fd(), "--close");
        sys::exec::with(command.stdin(Stdio::from(theirs)), Vec::new());
        self.children.insert(spawn::pid_of(&command.spawn()?));
        self.socket = Some(ours);
        Ok(())
    }
}
