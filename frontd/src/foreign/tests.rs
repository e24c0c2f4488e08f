use std::io::{ErrorKind, Read as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::*;

/// Longer than anything here takes on a busy machine.
const LINGER: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

/// A connection whose other end reads nothing, full, whose close waits for [`LINGER`]; and what
/// must stay open for that.
fn lingering() -> (OwnedFd, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65_536]).is_ok() {}
    set_socket_linger(&stream, Some(LINGER)).unwrap();
    (stream.into(), listener)
}

fn send(to: &UnixStream, descriptor: &impl AsFd, flags: SendFlags) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[IoSlice::new(b"x")], &mut ancillary, flags)
}

/// A kernel without SO_PASSRIGHTS: what may be sent is sent.
fn old_kernel() -> (UnixStream, Socket) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    (theirs, Socket::with(ours, false).unwrap())
}

fn is_breach(read: &io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidData)
}

/// The threads have closed everything, and waited for nothing.
async fn assert_closed(began: Instant) {
    let mut held = closing::held();
    tokio::time::timeout(SOON, held.wait_for(|held| *held == 0)).await.unwrap().unwrap();
    assert!(began.elapsed() < LINGER, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_descriptor_among_the_bytes_ends_the_stream_and_nobody_waits_for_its_close() {
    // Out of band, a plain read would drop it.
    for flags in [SendFlags::empty(), SendFlags::OOB] {
        let (mut theirs, socket) = old_kernel();
        let (descriptor, _other) = lingering();
        theirs.write_all(b"first").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(socket.read(&mut buffer).unwrap(), 5);
        send(&theirs, &descriptor, flags).unwrap();
        let began = Instant::now();
        drop(descriptor);
        // As often as one likes: it is not taken.
        for _ in 0..2 {
            assert!(is_breach(&socket.read(&mut buffer)), "{flags:?}");
        }
        drop(socket);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_closed(began).await;
        assert_eq!(theirs.read(&mut buffer).unwrap_or(0), 0, "the peer hears the end");
    }
}

#[tokio::test]
async fn a_descriptor_that_nobody_read_is_closed_elsewhere() {
    for flags in [SendFlags::empty(), SendFlags::OOB] {
        let (mut theirs, socket) = old_kernel();
        let (descriptor, _other) = lingering();
        theirs.write_all(&[b'x'; 20_000]).unwrap();
        assert_eq!(socket.read(&mut [0; 7]).unwrap(), 7);
        send(&theirs, &descriptor, flags).unwrap();
        let began = Instant::now();
        drop((descriptor, theirs));
        drop(socket);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_closed(began).await;
    }
}

#[tokio::test]
async fn what_is_in_a_socket_that_came_is_taken_out_too() {
    let (theirs, socket) = old_kernel();
    let (descriptor, _other) = lingering();
    let (inner, within) = UnixStream::pair().unwrap();
    send(&inner, &descriptor, SendFlags::empty()).unwrap();
    send(&theirs, &within, SendFlags::empty()).unwrap();
    let began = Instant::now();
    drop((descriptor, within, inner));
    drop(socket);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_closed(began).await;
}

#[test]
fn where_the_kernel_can_it_lets_no_descriptor_in_and_no_look_is_needed() {
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    theirs.write_all(b"before").unwrap();
    let socket = Socket::new(ours).unwrap();
    if !socket.refused {
        eprintln!("skipped: this kernel has no SO_PASSRIGHTS");
        return;
    }
    assert!(!socket.sealed.load(Ordering::Relaxed), "something may have come before");
    assert_eq!(socket.read(&mut [0; 64]).unwrap(), 6);
    assert!(socket.sealed.load(Ordering::Relaxed));
    assert_eq!(send(&theirs, &file, SendFlags::empty()), Err(rustix::io::Errno::PERM));
    theirs.write_all(b"after").unwrap();
    assert_eq!(socket.read(&mut [0; 64]).unwrap(), 5);
}

#[test]
fn what_came_before_the_kernel_was_asked_to_refuse_is_still_seen() {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    send(&theirs, &file, SendFlags::empty()).unwrap();
    let socket = Socket::new(ours).unwrap();
    assert!(is_breach(&socket.read(&mut [0; 64])));
}
