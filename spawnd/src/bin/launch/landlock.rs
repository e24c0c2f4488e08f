//! Landlock: the user's own rules over the mounts. It holds where the mount namespace is missing,
//! and it keeps signals and abstract sockets inside the session, which no mount can.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, Scope, path_beneath_rules,
};
use proto::launch::Plan;

use crate::missing::Part;
use crate::stop::Stop;

/// The newest that the crate knows; what the kernel lacks of it is left out.
const NEWEST: ABI = ABI::V9;
/// The first with both scopes.
const SCOPES: ABI = ABI::V6;

/// For good, and for everything that the session starts. Says what the kernel lacks.
///
/// # Errors
/// [`Stop::Landlock`].
pub(crate) fn restrict(plan: &Plan) -> Result<Option<Part>, Stop> {
    let status = rules(plan)?;
    Ok(lacking(&status))
}

fn rules(plan: &Plan) -> Result<LandlockStatus, RulesetError> {
    let everything = AccessFs::from_all(NEWEST);
    let devices = AccessFs::from_read(NEWEST) | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut writable: Vec<&Path> = [&plan.home, &plan.folder]
        .into_iter()
        .chain(&plan.config_dir)
        .map(|path| path.as_path())
        .collect();
    // The workspace as it was entered: by now its name may lead elsewhere.
    writable.extend([".", "/tmp", "/var/tmp", "/dev/shm"].map(Path::new));
    let bridge = plan.bridge.socket.as_path();
    // A rule for a path that is not there is left out.
    let restricted = Ruleset::default()
        .handle_access(everything)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(writable, everything))?
        .add_rules(path_beneath_rules(["/dev"], devices))?
        .add_rules(path_beneath_rules(bridge.parent(), AccessFs::ResolveUnix))?
        .restrict_self()?;
    Ok(restricted.landlock)
}

fn lacking(status: &LandlockStatus) -> Option<Part> {
    match status {
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
            Some(Part::Needed("Landlock"))
        }
        LandlockStatus::Available { effective_abi, .. } if *effective_abi < SCOPES => {
            Some(Part::Wanted("Landlock scopes (Linux 6.12)"))
        }
        LandlockStatus::Available { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let with = |effective_abi| LandlockStatus::Available { effective_abi, kernel_abi: None };
        assert_eq!(lacking(&LandlockStatus::NotImplemented), Some(Part::Needed("Landlock")));
        assert_eq!(lacking(&LandlockStatus::NotEnabled), Some(Part::Needed("Landlock")));
        assert_eq!(lacking(&with(ABI::V5)), Some(Part::Wanted("Landlock scopes (Linux 6.12)")));
        assert_eq!(lacking(&with(ABI::V6)), None);
        assert_eq!(lacking(&with(NEWEST)), None);
    }
}
