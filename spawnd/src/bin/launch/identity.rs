//! From root to the session's user, in the only order that works, and the proof that there is no
//! way back (setuid(2), capabilities(7); compare `permanently_set_uid` of OpenSSH).

use caps::CapSet;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{
    Gid, Uid, getgroups, setegid, seteuid, setfsgid, setfsuid, setgid, setgroups, setresgid,
    setresuid, setuid,
};
use proto::launch::Identity;

use crate::stop::Stop;

/// Becomes the user for good.
///
/// # Errors
/// The step that failed, or what could not be proved. Nothing may be done for the session then.
pub(crate) fn assume(identity: &Identity) -> Result<(), Stop> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    if uid.is_root() {
        return Err(Stop::RootPlanned);
    }
    if identity.drop_root {
        let failed = |what| move |errno: Errno| Stop::Identity { what, errno };
        // Groups first: only root may set them.
        let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        setgroups(&groups).map_err(failed("groups"))?;
        setresgid(gid, gid, gid).map_err(failed("group id"))?;
        // Before the uid: afterwards CAP_SETPCAP is gone.
        caps::clear(None, CapSet::Bounding)?;
        setresuid(uid, uid, uid).map_err(failed("user id"))?;
    }
    // An ordinary caller may have been given some, ambient ones included, which exec keeps.
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    caps::clear(None, CapSet::Inheritable)?;
    // From here on no exec, of a set-user-id program either, gives a right.
    prctl::set_no_new_privs().map_err(Stop::NoNewPrivs)?;
    prove_no_way_back(gid)?;
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|_| Stop::Unproved("/proc/self/status cannot be read"))?;
    prove(&status, identity)
}

/// Does `work` with the user's rights to files, while root's other rights stay: what the user
/// cannot reach is not reached for them (setfsuid(2), which says nothing of a failure).
///
/// # Errors
/// Those of `work`; or it could not be proved that the file-system ids are the user's, or
/// afterwards root's again.
pub(crate) fn for_files<T>(
    identity: &Identity,
    work: impl FnOnce() -> Result<T, Stop>,
) -> Result<T, Stop> {
    if !identity.drop_root {
        return work();
    }
    let failed = |errno| Stop::Identity { what: "groups", errno };
    let own = getgroups().map_err(failed)?;
    let theirs: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&theirs).map_err(failed)?;
    take_file_ids(Uid::from_raw(identity.uid), Gid::from_raw(identity.gid))?;
    let result = work();
    take_file_ids(Uid::from_raw(0), Gid::from_raw(0))?;
    setgroups(&own).map_err(failed)?;
    result
}

fn take_file_ids(uid: Uid, gid: Gid) -> Result<(), Stop> {
    setfsgid(gid);
    setfsuid(uid);
    // An id that is none changes nothing: the answer is what holds now.
    let (no_uid, no_gid) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    if (setfsuid(no_uid), setfsgid(no_gid)) == (uid, gid) {
        Ok(())
    } else {
        Err(Stop::Unproved("file-system ids"))
    }
}

fn prove_no_way_back(gid: Gid) -> Result<(), Stop> {
    let root = Uid::from_raw(0);
    let attempts = [
        ("setuid", setuid(root)),
        ("seteuid", seteuid(root)),
        ("setresuid", setresuid(root, root, root)),
    ];
    let no_group = Gid::from_raw(0);
    // Who has group 0 already cannot fail to get it.
    let groups = if gid == no_group {
        [("", Err(Errno::EPERM)), ("", Err(Errno::EPERM))]
    } else {
        [("setgid", setgid(no_group)), ("setegid", setegid(no_group))]
    };
    match attempts.into_iter().chain(groups).find(|(_, result)| result.is_ok()) {
        Some((way, _)) => Err(Stop::RootRegained(way)),
        None => Ok(()),
    }
}

/// Reads back what the kernel says of this process (proc_pid_status(5)). What it does not say is
/// not proved.
fn prove(status: &str, identity: &Identity) -> Result<(), Stop> {
    let field = |name: &'static str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .ok_or(Stop::Unproved(name))
    };
    let numbers = |name| -> Result<Vec<u32>, Stop> {
        let numbers = field(name)?.split_ascii_whitespace().map(str::parse);
        numbers.collect::<Result<_, _>>().map_err(|_| Stop::Unproved(name))
    };
    let hold = |name, holds: bool| if holds { Ok(()) } else { Err(Stop::Unproved(name)) };

    // Real, effective, saved and file-system id.
    hold("Uid", numbers("Uid")? == [identity.uid; 4])?;
    hold("Gid", numbers("Gid")? == [identity.gid; 4])?;
    hold("NoNewPrivs", field("NoNewPrivs")? == "1")?;
    let mut sets = vec!["CapInh", "CapPrm", "CapEff", "CapAmb"];
    if identity.drop_root {
        let (mut found, mut wanted) = (numbers("Groups")?, identity.groups.clone());
        found.sort_unstable();
        wanted.sort_unstable();
        hold("Groups", found == wanted)?;
        sets.push("CapBnd");
    }
    sets.into_iter().try_for_each(|set| hold(set, field(set)?.bytes().all(|b| b == b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::UnixUser;

    const DROPPED: &str = "Name:\tlaunch\nUid:\t99\t99\t99\t99\nGid:\t98\t98\t98\t98\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    fn identity() -> Identity {
        Identity {
            user: UnixUser::new("al").unwrap(),
            uid: 99,
            gid: 98,
            groups: Vec::new(),
            shell: "/bin/sh".to_owned(),
            drop_root: true,
        }
    }

    #[test]
    fn a_complete_drop_is_proved() {
        assert!(prove(DROPPED, &identity()).is_ok());
    }

    #[test]
    fn whatever_is_left_or_unsaid_stops_the_walk() {
        for (from, to) in [
            ("Uid:\t99\t99\t99", "Uid:\t99\t99\t0"),
            ("Gid:\t98\t98\t98\t98", "Gid:\t98\t98\t98"),
            ("Groups:\t ", "Groups:\t27"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000200000"),
            ("CapAmb:\t0000000000000000\n", ""),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ] {
            let status = DROPPED.replace(from, to);
            assert_ne!(status, DROPPED);
            assert!(matches!(prove(&status, &identity()), Err(Stop::Unproved(_))), "{to:?}");
        }
    }

    #[test]
    fn uid_0_is_refused_whoever_planned_it() {
        let root = Identity { uid: 0, drop_root: false, ..identity() };
        assert!(matches!(assume(&root), Err(Stop::RootPlanned)));
    }
}
