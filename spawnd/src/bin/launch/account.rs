//! `launch --account NAME GROUP…`: what the machine's directories know of an account, as one line
//! on descriptor 3. May block, which is why it is a process of its own; spawnd has a deadline.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Group, User, getgrouplist};
use proto::ids::AbsolutePath;
use spawnd::lookup::{Entry, Found};
use spawnd::sys::{descriptors, exec, shadow};

/// Without a login.defs: what shadow's own says.
const PEOPLE: (u32, u32) = (1000, 60_000);

/// `--account NAME GROUP…`.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match answer(arguments) {
        Some(()) => ExitCode::SUCCESS,
        // An answer that is not whole is none, which spawnd tells.
        None => ExitCode::FAILURE,
    }
}

fn answer(arguments: impl Iterator<Item = OsString>) -> Option<()> {
    let answer = descriptors::take_inherited(exec::STATUS).ok()?;
    descriptors::close_from(4).ok()?;
    prctl::set_pdeathsig(Signal::SIGKILL).ok()?;
    let mut names = arguments.skip(1).map(|name| name.into_string().ok());
    let user = names.next()??;
    let names: Vec<String> = names.collect::<Option<_>>()?;
    let mut line = serde_json::to_vec(&found(&user, names)?).ok()?;
    line.push(b'\n');
    std::fs::File::from(answer).write_all(&line).ok()
}

/// `None`: a directory failed to answer, which is not the same as "unknown".
fn found(name: &str, groups: Vec<String>) -> Option<Found> {
    let mut gids = BTreeMap::new();
    for group in groups {
        if let Some(entry) = Group::from_name(&group).ok()? {
            gids.insert(group, entry.gid.as_raw());
        }
    }
    let defs = std::fs::read_to_string("/etc/login.defs").unwrap_or_default();
    let (uid_min, uid_max) = people(&defs);
    let Some(user) = User::from_name(name).ok()? else {
        return Some(Found { entry: None, member_of: Vec::new(), gids, uid_min, uid_max });
    };
    let member_of = getgrouplist(&CString::new(name).ok()?, user.gid).ok()?;
    let home = user.dir.to_str().and_then(|dir| AbsolutePath::new(trimmed(dir)).ok())?;
    let real = std::fs::canonicalize(home.as_path()).ok();
    let real = real.and_then(|path| AbsolutePath::new(path.to_str()?).ok());
    let expires = match shadow::expiry(name) {
        Ok(day) => day,
        // Only root may ask; an ordinary spawnd serves its own user alone.
        Err(_) if !nix::unistd::geteuid().is_root() => None,
        Err(_) => return None,
    };
    let entry = Some(Entry {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        group: Group::from_gid(user.gid).ok()?.map(|group| group.name),
        real_home: real.unwrap_or_else(|| home.clone()),
        home,
        shell: user.shell.to_string_lossy().into_owned(),
        expires,
    });
    Some(Found { entry, member_of: raw(&member_of), gids, uid_min, uid_max })
}

fn trimmed(path: &str) -> &str {
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

fn raw(gids: &[Gid]) -> Vec<u32> {
    gids.iter().map(|gid| gid.as_raw()).collect()
}

/// `UID_MIN` and `UID_MAX` of login.defs(5).
fn people(defs: &str) -> (u32, u32) {
    let value = |key: &str| {
        defs.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(key)).then(|| words.next()?.parse().ok())?
        })
    };
    (value("UID_MIN").unwrap_or(PEOPLE.0), value("UID_MAX").unwrap_or(PEOPLE.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_defs_says_which_uids_are_peoples() {
        assert_eq!(people(""), PEOPLE);
        assert_eq!(
            people("# UID_MIN 1\nUID_MIN\t\t 500\nSYS_UID_MAX 7\nUID_MAX 900 #\n"),
            (500, 900)
        );
        assert_eq!(people("UID_MIN x\n"), PEOPLE);
    }

    #[test]
    fn root_is_found_with_its_group_and_a_stranger_is_not() {
        let groups = vec!["root".to_owned(), "no-such-group".to_owned()];
        let found_root = found("root", groups).unwrap();
        let entry = found_root.entry.unwrap();
        assert_eq!((entry.uid, entry.gid, entry.group.as_deref()), (0, 0, Some("root")));
        assert!(found_root.member_of.contains(&0));
        assert_eq!(found_root.gids.into_iter().collect::<Vec<_>>(), [("root".to_owned(), 0)]);
        assert_eq!(found("no-such-user-here", Vec::new()).unwrap().entry, None);
    }
}
