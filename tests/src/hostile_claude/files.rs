//! Attempts on files: other people's, root's, devices, and too many of one's own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::{Tried, errno};

pub(super) fn read(path: &Path) -> Tried {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|e| errno(&e))?;
    file.take(256).read_to_end(&mut start).map_err(|e| errno(&e))?;
    Ok(json!(String::from_utf8_lossy(&start)))
}

/// An empty folder is as good as none: something else stands in its place.
pub(super) fn list(path: &Path) -> Tried {
    let entries = fs::read_dir(path).map_err(|e| errno(&e))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<Vec<_>>>().map_err(|e| errno(&e))?;
    if names.is_empty() { Err(nix::errno::Errno::ENODATA) } else { Ok(json!(names)) }
}

pub(super) fn wait_for(path: &Path) -> Tried {
    crate::harness::spawnd::until("a word from the test", || path.exists().then_some(()));
    Ok(json!(path))
}

pub(super) fn write(path: &Path) -> Tried {
    let mut file = File::create(path).map_err(|e| errno(&e))?;
    file.write_all(b"was here").map_err(|e| errno(&e))?;
    Ok(json!(path))
}

pub(super) fn open(path: &Path) -> Tried {
    OpenOptions::new().write(true).open(path).map_err(|e| errno(&e))?;
    Ok(json!(path))
}

pub(super) fn remove(path: &Path) -> Tried {
    match fs::symlink_metadata(path).map_err(|e| errno(&e))?.is_dir() {
        true => fs::remove_dir(path),
        false => fs::remove_file(path),
    }
    .map_err(|e| errno(&e))?;
    Ok(json!(path))
}

/// The effective uid that a setuid program gets: a copy of this program says it itself, of others
/// the kernel does. Only root's counts as a success.
pub(super) fn run_setuid(path: &Path) -> Tried {
    let mut command = Command::new(path);
    command.arg("--euid").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| errno(&e))?;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    drop(child.stdin.take());
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(64).read_to_string(&mut said);
    }
    let _ = child.kill();
    let _ = child.wait();
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    let is_root = uids.split_whitespace().skip(1).any(|uid| uid == "0") || said.trim() == "euid 0";
    if is_root { Ok(json!([uids, said])) } else { Err(nix::errno::Errno::EPERM) }
}

/// ENOEXEC: the command could not be run at all.
pub(super) fn run(command: &[String]) -> Tried {
    let (program, arguments) = command.split_first().ok_or(nix::errno::Errno::UnknownErrno)?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|_| nix::errno::Errno::ENOEXEC)?;
    match output.status.code() {
        Some(0) => Ok(json!(String::from_utf8_lossy(&output.stdout))),
        // As env(1) has it.
        Some(126 | 127) => Err(nix::errno::Errno::ENOEXEC),
        Some(_) | None => Err(nix::errno::Errno::EPERM),
    }
}

pub(super) fn make_device(path: &Path) -> Tried {
    // The first disk of a virtual machine, and /dev/mem.
    mknod(path, SFlag::S_IFBLK, Mode::S_IRUSR, makedev(254, 0))
        .or_else(|_| mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 1)))?;
    Ok(json!(path))
}

/// The session's own folder, from the argument that names a file in it.
pub(super) fn session_folder() -> Option<PathBuf> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--mcp-config");
    let file = PathBuf::from(arguments.nth(1)?);
    file.parent().map(Path::to_owned)
}

pub(super) fn own() -> Tried {
    let folder = session_folder().ok_or(nix::errno::Errno::UnknownErrno)?;
    let mcp = fs::read_to_string(folder.join("mcp.json")).map_err(|e| errno(&e))?;
    let names = list(&folder)?;
    Ok(json!({ "folder": folder, "mcp": mcp, "names": names }))
}

pub(super) fn fill_bytes(path: &Path, mebibytes: u64) -> Tried {
    let mut file = File::create(path).map_err(|e| errno(&e))?;
    let block = vec![0xA5_u8; 1 << 20];
    let mut written = 0;
    while written < mebibytes {
        match file.write_all(&block) {
            Ok(()) => written += 1,
            Err(error) => {
                return Ok(json!({ "mebibytes": written, "end": format!("{:?}", errno(&error)) }));
            }
        }
    }
    Ok(json!({ "mebibytes": written, "end": null }))
}

pub(super) fn fill_inodes(path: &Path, files: u64) -> Tried {
    fs::create_dir_all(path).map_err(|e| errno(&e))?;
    for made in 0..files {
        if let Err(error) = File::create(path.join(made.to_string())) {
            return Ok(json!({ "files": made, "end": format!("{:?}", errno(&error)) }));
        }
    }
    Ok(json!({ "files": files, "end": null }))
}

/// A thousand entries in each folder, up to ten folders below one another.
pub(super) fn tree(path: &Path, entries: u64) -> Tried {
    let mut folder = path.to_owned();
    fs::create_dir_all(&folder).map_err(|e| errno(&e))?;
    for number in 0..entries {
        if number % 10_000 == 9_999 {
            folder = path.join(number.to_string());
        } else if number % 1000 == 999 {
            folder.push("d");
        }
        if number % 1000 == 999 {
            fs::create_dir_all(&folder).map_err(|e| errno(&e))?;
        } else {
            File::create(folder.join(number.to_string())).map_err(|e| errno(&e))?;
        }
    }
    Ok(json!(entries))
}

/// Whoever trusts a name below the session's folder is to be led astray: to /etc and back.
pub(super) fn swap(rounds: u32) -> Tried {
    let folder = session_folder().ok_or(nix::errno::Errno::UnknownErrno)?;
    let aside = folder.with_extension("aside");
    let (notify, spare) = (folder.join("notify"), folder.join("spare"));
    let mut moved = 0_u32;
    for _ in 0..rounds {
        let outer = fs::rename(&folder, &aside)
            .and_then(|()| symlink("/etc", &folder))
            .and_then(|()| fs::remove_file(&folder))
            .and_then(|()| fs::rename(&aside, &folder));
        let inner = fs::rename(&notify, &spare)
            .and_then(|()| symlink("/etc/passwd", &notify))
            .and_then(|()| fs::remove_file(&notify))
            .and_then(|()| fs::rename(&spare, &notify));
        let _ = symlink("/etc", folder.join("way"));
        let _ = fs::remove_file(folder.join("way"));
        moved += u32::from(outer.is_ok()) + u32::from(inner.is_ok());
    }
    // How it is left behind.
    let _ = symlink("/etc", folder.join("way-out"));
    let _ = fs::rename(&folder, &aside).and_then(|()| symlink("/etc", &folder));
    Ok(json!({ "moved": moved }))
}
