//! `launch --close`: closes what comes on descriptor 0, however long that takes (see
//! [`spawnd::undertaker`]). Ends with spawnd, or when it is killed for being stuck.

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spawnd::sys::{descriptors, message};

pub(crate) fn main() -> ExitCode {
    let stdin = std::io::stdin();
    if descriptors::close_from(3).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
        match message::receive(stdin.as_fd(), &mut [0; 8]) {
            Ok(received) if received.len == 0 => return ExitCode::SUCCESS,
            // Dropped here, which closes them: nobody was employed to do it for us.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}
