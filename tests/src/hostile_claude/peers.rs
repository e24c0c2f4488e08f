//! Attempts on other processes and on sockets.

use std::fs::File;
use std::io::{IoSlice, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_to,
    sendmsg, socket,
};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Tried, errno, files, sys};

pub(super) fn trace(pid: i32) -> Tried {
    sys::attach(pid)?;
    Ok(json!(pid))
}

pub(super) fn kill(pid: i32, number: i32) -> Tried {
    // 0 only asks whether one may.
    let signal = match number {
        0 => None,
        number => Some(signal::Signal::try_from(number)?),
    };
    let other_way = |_| {
        let arguments = [usize::try_from(pid).unwrap_or(0), 0, 0, 0, 0, 0];
        let file = usize::try_from(sys::call(libc::SYS_pidfd_open, arguments)?).unwrap_or(0);
        let number = usize::try_from(number).unwrap_or(0);
        sys::call(libc::SYS_pidfd_send_signal, [file, number, 0, 0, 0, 0]).map(drop)
    };
    signal::kill(Pid::from_raw(pid), signal).or_else(other_way)?;
    Ok(json!(pid))
}

/// A limit on its processor time of nothing: SIGKILL, by the kernel.
pub(super) fn starve(pid: i32) -> Tried {
    let limit = [0_u64; 2];
    let resource = usize::try_from(libc::RLIMIT_CPU).unwrap_or(0);
    let pid = usize::try_from(pid).map_err(|_| Errno::UnknownErrno)?;
    sys::call(libc::SYS_prlimit64, [pid, resource, limit.as_ptr() as usize, 0, 0, 0])?;
    Ok(json!(pid))
}

pub(super) fn proc(pid: i32, name: &str) -> Tried {
    let path = format!("/proc/{pid}/{name}");
    if std::fs::metadata(&path).is_ok_and(|found| found.is_dir()) {
        return files::list(Path::new(&path));
    }
    let mut file = File::open(path).map_err(|e| errno(&e))?;
    let mut start = [0; 64];
    // Of `mem` nothing stands at 0: to have it open is what counts.
    let got = file.read(&mut start).unwrap_or(0);
    Ok(json!(String::from_utf8_lossy(&start[..got])))
}

pub(super) fn connect(path: &Path) -> Tried {
    to(&UnixAddr::new(path)?)
}

pub(super) fn connect_abstract(name: &str) -> Tried {
    to(&UnixAddr::new_abstract(name.as_bytes())?)
}

fn to(address: &UnixAddr) -> Tried {
    let mut last = Errno::UnknownErrno;
    for kind in [SockType::Stream, SockType::SeqPacket, SockType::Datagram] {
        let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_NONBLOCK, None)?;
        match connect_to(socket.as_raw_fd(), address) {
            Ok(()) | Err(Errno::EAGAIN) => return Ok(json!(format!("{kind:?}"))),
            // Of the right type or not: what another type said tells more.
            Err(Errno::EPROTOTYPE) => {}
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// How many datagrams were taken; none at all is a denial. They come from a child that lives on,
/// as channel does: of the session's own process spawnd believes nothing.
pub(super) fn notify(path: Option<&Path>, text: &str, fds: usize, times: u32) -> Tried {
    let own = own_notify();
    let path = path.or(own.as_deref()).ok_or(Errno::UnknownErrno)?;
    let address = UnixAddr::new(path)?;
    let (read, write) = nix::unistd::pipe()?;
    sys::child(|| {
        let answer = match send(&address, text, fds, times) {
            Ok(taken) => json!({ "taken": taken }),
            Err(errno) => json!(errno as i32),
        };
        let _ = nix::unistd::write(&write, answer.to_string().as_bytes());
        drop(write);
        super::life::live_on()
    })?;
    let mut answer = [0; 256];
    let len = nix::unistd::read(&read, &mut answer)?;
    let answer: Value = serde_json::from_slice(&answer[..len]).map_err(|_| Errno::UnknownErrno)?;
    match answer.as_i64() {
        Some(number) => Err(Errno::from_raw(i32::try_from(number).unwrap_or(0))),
        None => Ok(answer),
    }
}

fn send(address: &UnixAddr, text: &str, fds: usize, times: u32) -> nix::Result<u32> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_NONBLOCK, None)?;
    let null = File::open("/dev/null").map_err(|e| errno(&e))?;
    let rights = vec![null.as_raw_fd(); fds];
    let message = [ControlMessage::ScmRights(&rights)];
    let message = if fds == 0 { &[][..] } else { &message[..] };
    let (mut taken, mut last) = (0_u32, Errno::UnknownErrno);
    for _ in 0..times {
        let parts = [IoSlice::new(text.as_bytes())];
        let fd = socket.as_raw_fd();
        match sendmsg(fd, &parts, message, MsgFlags::empty(), Some(address)) {
            Ok(_) => taken += 1,
            Err(errno) => last = errno,
        }
    }
    if taken == 0 { Err(last) } else { Ok(taken) }
}

/// Where this session says READY=1: it stands in the MCP file that channel gets.
fn own_notify() -> Option<PathBuf> {
    let file = files::session_folder()?.join("mcp.json");
    let mcp: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let path = mcp["mcpServers"]["synthesis"]["env"]["NOTIFY_SOCKET"].as_str()?;
    Some(PathBuf::from(path))
}
