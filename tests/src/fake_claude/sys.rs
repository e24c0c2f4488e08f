//! The fake claude's only unsafe: signal handlers that write to a pipe, and the terminal's size.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Write end of the pipe that the handler writes to; set before the handler is installed.
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(number: libc::c_int) {
    let byte = [u8::try_from(number).unwrap_or(0)];
    // SAFETY: write(2) is async-signal-safe (signal-safety(7)); `byte` lives through the call;
    // the descriptor was leaked on purpose and is never closed.
    let _ = unsafe { libc::write(WAKE.load(Ordering::SeqCst), byte.as_ptr().cast(), 1) };
}

/// Gives the read end of a pipe into which each of these signals writes its number.
///
/// # Errors
/// When the pipe or a handler cannot be had.
pub(super) fn signal_pipe(signals: &[Signal]) -> io::Result<OwnedFd> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    WAKE.store(write.into_raw_fd(), Ordering::SeqCst);
    let action =
        SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in signals {
        // SAFETY: the handler calls nothing but write(2), and no other code here sets handlers.
        unsafe { sigaction(*signal, &action) }?;
    }
    Ok(read)
}

/// Rows and columns of a terminal; 24 by 80 when it does not say.
pub(super) fn terminal_size(terminal: BorrowedFd<'_>) -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` (ioctl_tty(2)), which `size` is; the descriptor is
    // open for the borrow.
    let done =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if done == 0 && size.ws_row > 0 && size.ws_col > 0 {
        (usize::from(size.ws_row), usize::from(size.ws_col))
    } else {
        (24, 80)
    }
}
