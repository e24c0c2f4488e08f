//! The plan, as spawnd sealed it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;

use proto::launch::{Plan, VERSION};

use crate::stop::Stop;

/// A dozen paths of 4 KiB and the passed-on variables.
const LIMIT: u64 = 1024 * 1024;

/// # Errors
/// When the plan is not one of this very build: both binaries are installed together.
pub(crate) fn read(plan: OwnedFd) -> Result<Plan, Stop> {
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
