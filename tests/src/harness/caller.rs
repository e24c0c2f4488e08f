//! Connections to a Unix socket as another user, as the kernel shows them to the listener. Needs
//! root.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;

use tokio::net::UnixStream;

/// Who calls where.
#[derive(Debug, Clone)]
pub struct Caller {
    pub socket: PathBuf,
    pub uid: u32,
}

impl Caller {
    /// # Errors
    /// Those of connect(2), or of the ids.
    ///
    /// # Panics
    /// When no thread can be had.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let Self { socket, uid } = self.clone();
        // The kernel notes the ids of the thread that connects. They are those of this thread alone:
        // it is made for this and ends with it.
        let connecting = std::thread::spawn(move || {
            become_user(uid)?;
            StdUnixStream::connect(socket)
        });
        let stream = connecting.join().expect("it does not panic")?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

/// This thread's effective ids; the libraries' calls would change those of every thread.
fn become_user(uid: u32) -> std::io::Result<()> {
    if uid == 0 {
        return Ok(());
    }
    let keep = libc::c_long::from(-1);
    let id = libc::c_long::from(uid);
    for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
        // SAFETY: takes three numbers and touches no memory of ours.
        if unsafe { libc::syscall(call, keep, id, keep) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
