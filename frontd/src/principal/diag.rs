//! One TCP socket looked up in the kernel by its two ends (sock_diag(7)): what the tables in /proc
//! tell after a walk over every socket of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The header and an `inet_diag_req_v2`; an answer has the same length, and an `inet_diag_msg`.
const LENGTH: usize = 72;
const HEADER: usize = 16;
/// In the answer: after four bytes the socket's ends, and at its end uid and inode.
const ENDS: usize = HEADER + 4;
const UID: usize = HEADER + 64;
const INODE: usize = HEADER + 68;

/// The uid that holds the socket from `local` to `remote`. `None` when the kernel does not say:
/// there is no such socket, nobody holds it any more, or it cannot be asked.
pub(super) fn owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkSockDiag;
    let kernel = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol).ok()?;
    send(kernel.as_raw_fd(), &request(local, remote)?, MsgFlags::empty()).ok()?;
    // It has answered before `send` returned.
    let mut answer = [0; 512];
    let count = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
    read(answer.get(..count)?, local, remote)
}

fn request(local: SocketAddr, remote: SocketAddr) -> Option<[u8; LENGTH]> {
    let family = match (local.ip().to_canonical(), remote.ip().to_canonical()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let mut request = Vec::with_capacity(LENGTH);
    request.extend(u32::try_from(LENGTH).ok()?.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port: one question, one answer.
    request.extend([0; 8]);
    request.extend([family, IPPROTO_TCP, 0, 0]);
    // All states.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for end in [local, remote] {
        let mut bytes = [0; 16];
        match end.ip().to_canonical() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        request.extend(bytes);
    }
    // Any interface, no cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    request.try_into().ok()
}

/// The kernel answers with a listening socket where none has both ends: it is no answer.
fn read(answer: &[u8], local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let number = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = answer.get(4..6)?;
    if kind != SOCK_DIAG_BY_FAMILY.to_ne_bytes() {
        return None;
    }
    let family = *answer.get(HEADER)?;
    let end = |port: usize, ip: usize| {
        let port = answer.get(ENDS + port..ENDS + port + 2)?.try_into().ok()?;
        let ip: [u8; 16] = answer.get(ENDS + ip..ENDS + ip + 16)?.try_into().ok()?;
        let ip = match family {
            AF_INET => Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).into(),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(),
            _ => return None,
        };
        Some((ip, u16::from_be_bytes(port)))
    };
    let ends = (end(0, 4)?, end(2, 20)?);
    if ends != (super::canonical(local), super::canonical(remote)) {
        return None;
    }
    // A socket that nobody holds any more has uid 0 and inode 0: it is no word of root's.
    (number(INODE)? != 0).then(|| number(UID)).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own_uid() -> Option<u32> {
        Some(nix::unistd::getuid().as_raw())
    }

    #[test]
    fn a_connections_owner_is_known() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(owner(local, remote), own_uid(), "{address}");
            assert_eq!(owner(remote, local), None, "not accepted: nobody holds it");
            let accepted = listener.accept().unwrap();
            assert_eq!(owner(remote, local), own_uid());
            drop(accepted);
        }
    }

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mapped = |address: SocketAddr| {
            let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
            SocketAddr::from((ip.to_ipv6_mapped(), address.port()))
        };
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(owner(mapped(local), mapped(remote)), own_uid());
    }

    #[test]
    fn a_listener_on_the_port_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(owner(listener.local_addr().unwrap(), elsewhere), None);
    }

    #[test]
    fn short_and_foreign_answers_are_none() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let request = request(address, address).unwrap();
        for length in 0..request.len() {
            assert_eq!(read(&request[..length], address, address), None);
        }
    }
}
