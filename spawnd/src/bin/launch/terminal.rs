//! The follower becomes the controlling terminal of a new session, the user's own.

use std::os::fd::AsFd as _;

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown, setsid};
use proto::launch::Plan;
use spawnd::sys;

use crate::stop::Stop;

/// # Errors
/// The step that failed.
pub(crate) fn take(plan: &Plan) -> Result<(), Stop> {
    let stdin = std::io::stdin();
    // A leader of a session without a terminal is who may acquire one (credentials(7)).
    setsid().map_err(Stop::Session)?;
    sys::terminal::make_controlling(stdin.as_fd()).map_err(Stop::Terminal)?;
    let failed = |errno: nix::Error| Stop::Terminal(errno.into());
    if plan.identity.drop_root {
        let uid = Some(Uid::from_raw(plan.identity.uid));
        fchown(&stdin, uid, Some(Gid::from_raw(plan.identity.gid))).map_err(failed)?;
    }
    // No write(1) or mesg(1) of others, whatever devpts is mounted with.
    fchmod(&stdin, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let size = plan.terminal;
    sys::terminal::resize(stdin.as_fd(), size.rows(), size.columns()).map_err(Stop::Terminal)
}
