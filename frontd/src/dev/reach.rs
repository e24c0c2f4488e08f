//! May another user reach and run this file? Started as root, the build tree may lie below root's
//! closed home; then what claude's user must execute is copied to the state folder.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The first executable of that name on PATH.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    })
}

/// `file` itself if everyone can execute it, else a copy in `bin`, made when it is not there yet.
///
/// # Errors
/// When the file cannot be read or copied.
pub(super) fn reachable(file: &Path, bin: &Path) -> anyhow::Result<PathBuf> {
    // A file that is not there is told to the one who asks for a session.
    let Ok(real) = file.canonicalize() else { return Ok(file.to_path_buf()) };
    let found = fs::metadata(&real).with_context(|| format!("look at {}", real.display()))?;
    if found.mode() & 0o005 == 0o005 && for_everyone(&real).is_ok() {
        return Ok(file.to_path_buf());
    }
    let name = file.file_name().context("an executable has a name")?;
    let copy = bin.join(name);
    let same = fs::metadata(&copy).is_ok_and(|copy| {
        copy.len() == found.len() && copy.mtime() >= found.mtime() && copy.mode() & 0o777 == 0o755
    });
    if !same {
        // Beside the target and renamed, so that a running copy is never written to.
        let fresh = bin.join(format!(".{}.new", name.display()));
        fs::copy(&real, &fresh).with_context(|| format!("copy {}", real.display()))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
        fs::rename(&fresh, &copy)?;
    }
    Ok(copy)
}

/// # Errors
/// Names the folder on the way that not everyone may pass.
pub(super) fn for_everyone(path: &Path) -> anyhow::Result<()> {
    for folder in path.ancestors().skip(1) {
        let mode = fs::metadata(folder).with_context(|| folder.display().to_string())?.mode();
        if mode & 0o001 == 0 {
            bail!("{} is closed to other users", folder.display());
        }
    }
    Ok(())
}

/// Root changes modes and owners below this folder: nobody else may be able to put a link there.
///
/// # Errors
/// Names the folder that another user owns or may write to.
pub(super) fn only_root_can_change(folder: &Path) -> anyhow::Result<()> {
    for part in folder.ancestors() {
        let found = fs::symlink_metadata(part).with_context(|| part.display().to_string())?;
        let sticky = found.mode() & 0o1000 != 0;
        if found.uid() != 0 || !found.is_dir() || (found.mode() & 0o022 != 0 && !sticky) {
            bail!("{} can be changed by others than root", part.display());
        }
    }
    Ok(())
}
