//! The plan, as spawnd sealed it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;

use proto::launch::{Plan, VERSION};
use spawnd::sealed::is_sealed;

use crate::stop::Stop;

/// A dozen paths of 4 KiB and the passed-on variables.
const LIMIT: u64 = 1024 * 1024;

/// # Errors
/// When the plan is not one of this very build: both binaries are installed together.
pub(crate) fn read(plan: OwnedFd) -> Result<Plan, Stop> {
    if !is_sealed(&plan) {
        return Err(Stop::PlanUnsealed);
    }
    let mut file = File::from(plan);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(Stop::PlanRead)?;
    file.take(LIMIT).read_to_end(&mut bytes).map_err(Stop::PlanRead)?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|_| Stop::PlanDecode)?;
    if plan.version != VERSION || plan.build != env!("CARGO_PKG_VERSION") {
        return Err(Stop::PlanVersion { version: plan.version, build: plan.build });
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;
    use spawnd::sealed::sealed;

    #[test]
    fn a_plan_of_this_build_is_read() {
        let mut written = plan();
        written.build = env!("CARGO_PKG_VERSION").to_owned();
        assert!(read(sealed("plan", &written).unwrap()).ok() == Some(written));
    }

    #[test]
    fn a_plan_of_another_version_or_build_is_refused() {
        let mut older = plan();
        older.build = env!("CARGO_PKG_VERSION").to_owned();
        older.version = VERSION - 1;
        let mut other = plan();
        other.build = "0.0.0-other".to_owned();
        for refused in [older, other] {
            let read = read(sealed("plan", &refused).unwrap());
            assert!(matches!(read, Err(Stop::PlanVersion { .. })));
        }
    }

    #[test]
    fn a_plan_that_could_still_be_changed_is_refused() {
        let mut written = plan();
        written.build = env!("CARGO_PKG_VERSION").to_owned();
        let file = tempfile(&serde_json::to_vec(&written).unwrap());
        assert!(matches!(read(file), Err(Stop::PlanUnsealed)));
    }

    fn tempfile(bytes: &[u8]) -> OwnedFd {
        use std::io::Write as _;
        let flags = nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(nix::sys::memfd::memfd_create("plan", flags).unwrap());
        file.write_all(bytes).unwrap();
        file.into()
    }
}
