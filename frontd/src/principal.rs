//! Who asks. Without tokens, only loopback peers whose socket belongs to the serving user (or
//! root) are served; the kernel's socket tables say whose it is.

mod diag;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The uid that owns the peer's end of a loopback TCP connection.
///
/// # Errors
/// When the socket tables cannot be read. `Ok(None)` when no table has the socket.
pub fn peer_uid(own: SocketAddr, peer: SocketAddr) -> std::io::Result<Option<u32>> {
    if !peer.ip().to_canonical().is_loopback() {
        return Ok(None);
    }
    // A question that costs the same however many sockets there are; the tables are for kernels and
    // sandboxes without it, and for whoever has gone already.
    if let Some(uid) = diag::owner(peer, own) {
        return Ok(Some(uid));
    }
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let reader = match std::fs::File::open(table) {
            Ok(file) => BufReader::with_capacity(64 << 10, file),
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in reader.lines() {
            if let Some(uid) = owner(&line?, peer, own) {
                return Ok(Some(uid));
            }
        }
    }
    Ok(None)
}

/// The uid of a table's line, if it is the socket from `local` to `remote`.
fn owner(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let found = (address(fields.next()?)?, address(fields.next()?)?);
    let wanted = (canonical(local), canonical(remote));
    if found != wanted {
        return None;
    }
    let uid = fields.nth(4)?.parse().ok()?;
    // A socket that nobody holds any more (closed, in TIME_WAIT) is shown with uid 0 and inode 0:
    // it is no word of root's.
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(uid)
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// `0100007F:49A4` or 32 digits and a port: each group of eight digits is one word as the machine
/// holds it in memory.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for start in (0..host.len()).step_by(8) {
        let word = u32::from_str_radix(host.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_names_its_owner() {
        let line = "   3: 0100007F:A0F4 0100007F:49D4 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0";
        let peer = SocketAddr::from(([127, 0, 0, 1], 0xA0F4));
        let own = SocketAddr::from(([127, 0, 0, 1], 0x49D4));
        assert_eq!(owner(line, peer, own), Some(1000));
        assert_eq!(owner(line, own, peer), None);
        assert_eq!(owner("", peer, own), None);
        assert_eq!(owner("0: zz:1 0100007F:49D4", peer, own), None);
    }

    #[test]
    fn our_own_connection_is_found_in_the_kernels_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let uid = peer_uid(server.local_addr().unwrap(), peer).unwrap();
        assert_eq!(uid, Some(nix::unistd::getuid().as_raw()));
        drop(client);
    }

    #[test]
    fn a_connection_that_its_peer_has_closed_belongs_to_nobody() {
        let line = "   3: 0100007F:A0F4 0100007F:49D4 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0";
        let peer = SocketAddr::from(([127, 0, 0, 1], 0xA0F4));
        let own = SocketAddr::from(([127, 0, 0, 1], 0x49D4));
        assert_eq!(owner(line, peer, own), None);

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        drop(client);
        assert_eq!(peer_uid(server.local_addr().unwrap(), peer).unwrap(), None);
    }

    #[test]
    fn a_peer_from_elsewhere_has_no_owner() {
        let own = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(peer_uid(own, peer).unwrap(), None);
    }
}
