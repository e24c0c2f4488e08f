//! recvmsg(2) that loses no descriptor: nix returns none at all when control data was truncated,
//! and those that the kernel had already installed would leak.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use crate::undertaker::Foreign;

/// One datagram or packet as it came.
pub struct Received {
    pub len: usize,
    /// Bytes, or control data, did not fit.
    pub truncated: bool,
    pub fds: Vec<Foreign>,
    /// With SO_PASSCRED: who sent it, by the kernel's word.
    pub sender: Option<Sender>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    pub pid: i32,
    pub uid: u32,
}

/// Room for the 253 descriptors that the kernel passes at most (SCM_MAX_FD) and for credentials.
const CONTROL_WORDS: usize = 160;

/// Receives without blocking; every descriptor in it is owned, CLOEXEC, by the answer.
///
/// # Errors
/// WouldBlock when there is nothing; else what recvmsg(2) answers.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain integers and pointers, for which zero is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at `part` and `control`, which outlive the call and whose lengths
    // it states.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut received = Received {
        len,
        truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        fds: Vec::new(),
        sender: None,
    };
    read_control(&header, &mut received);
    Ok(received)
}

/// The next connection of a listener, CLOEXEC and not blocking.
///
/// # Errors
/// WouldBlock when there is none.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (name, len) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null pointers say that the peer's name is not wanted.
    let number = super::check(unsafe { libc::accept4(listener.as_raw_fd(), name, len, flags) })?;
    // SAFETY: the kernel made this descriptor for us a moment ago.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn read_control(header: &libc::msghdr, received: &mut Received) {
    // SAFETY: the kernel filled the header; its control buffer is alive and aligned for cmsghdr.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it points at a whole cmsghdr inside the control buffer.
        let message = unsafe { *next };
        // SAFETY: the data of a control message follows its header inside the buffer.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: arithmetic on a constant.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let len = message.cmsg_len.saturating_sub(head);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..len / size_of::<RawFd>() {
                    // SAFETY: `index` is within the length that the kernel gave.
                    let place = unsafe { data.cast::<RawFd>().add(index) };
                    // SAFETY: `place` is inside the buffer; unaligned reads are allowed for.
                    let number = unsafe { place.read_unaligned() };
                    // SAFETY: the kernel installed this descriptor for us a moment ago and
                    // nothing else knows its number.
                    let fd = unsafe { OwnedFd::from_raw_fd(number) };
                    received.fds.push(fd.into());
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
                // SAFETY: the length was checked; ucred is plain integers.
                let sender = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                received.sender = Some(Sender { pid: sender.pid, uid: sender.uid });
            }
            _ => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR; `next` came from the same header.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair,
    };
    use std::io::IoSlice;
    use std::os::fd::AsFd as _;

    #[test]
    fn every_descriptor_of_a_flood_is_owned_and_closed() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let flood = vec![write.as_raw_fd(); 253];
        sendmsg::<UnixAddr>(
            theirs.as_raw_fd(),
            &[IoSlice::new(b"x")],
            &[ControlMessage::ScmRights(&flood)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        let received = receive(ours.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!((received.len, received.truncated, received.fds.len()), (1, false, 253));
        drop(received);
        drop(write);
        // End of file proves that no copy of the write end is left.
        assert_eq!(nix::unistd::read(&read, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_packet_over_the_buffer_is_flagged() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        nix::unistd::write(&theirs, b"too long").unwrap();
        assert!(receive(ours.as_fd(), &mut [0; 4]).unwrap().truncated);
    }
}
