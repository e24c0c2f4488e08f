//! Other parts that this program plays for the tests, by its first argument.
//!
//! | arguments | part |
//! |---|---|
//! | `--euid` | says its effective uid: a copy is made setuid |
//! | `--hello SOCKET` | a frontd of whoever runs it: prints what spawnd answers to its hello |
//! | `--attend SOCKET` | connects to a stream socket and stays until its input ends |
//! | `--look FILE [SECONDS]` | as the core pattern's program: says that it was run |

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::geteuid;
use serde_json::json;

use super::Tried;

/// `None`: it is a claude.
pub(super) fn play() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next()?;
    let file = arguments.next();
    match (part.as_str(), file) {
        ("--euid", _) => say(&format!("euid {}", geteuid())),
        ("--hello", Some(path)) => say(&hello(Path::new(&path))),
        ("--attend", Some(path)) => attend(&path),
        ("--look", Some(path)) => {
            let _ = fs::write(path, "it was run");
        }
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

fn hello(path: &Path) -> String {
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None) else {
        return "no socket".to_owned();
    };
    if let Err(errno) = UnixAddr::new(path).and_then(|name| connect(socket.as_raw_fd(), &name)) {
        return format!("connect {errno:?}");
    }
    let hello =
        proto::spawn::encode(&proto::spawn::FromFrontd::Hello { version: proto::spawn::VERSION });
    // Refused without a word, the write may already meet a closed socket.
    let _ = nix::unistd::write(&socket, &hello);
    match nix::unistd::read(&socket, &mut [0; 4096]) {
        Ok(0) | Err(_) => "closed".to_owned(),
        Ok(_) => "served".to_owned(),
    }
}

fn attend(path: &str) {
    if let Ok(_stream) = UnixStream::connect(path) {
        say("attending");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}

/// What this process is and sees.
pub(super) fn facts() -> Tried {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let names = |path: &str| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    Ok(json!({
        "status": text("/proc/self/status"),
        "environment": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "folder": std::env::current_dir().ok(),
        "mounts": text("/proc/self/mountinfo"),
        "limits": text("/proc/self/limits"),
        "descriptors": names("/proc/self/fd"),
        "dev": names("/dev"),
        "run": names("/run"),
        "processes": names("/proc"),
    }))
}

#[expect(clippy::print_stdout, reason = "the answer to the test that asks")]
fn say(text: &str) {
    println!("{text}");
}
