//! launch: the one-way walk from spawnd to a session's claude. It ends in exec or in one record
//! on descriptor 3; it never returns to anybody. What to do is the plan's word (descriptor 4).
//!
//! `launch --sweep FOLDER UID GID` empties an ended session's folder, as its user;
//! `launch --account NAME GROUP…` looks an account up.
#![forbid(unsafe_code)]

mod account;
mod arguments;
mod files;
mod identity;
mod limits;
mod plan;
mod record;
mod stop;
mod sweep;
mod terminal;
mod transcript;
mod workspace;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use proto::launch::Record;
use spawnd::sys::{descriptors, exec, signals};

use crate::stop::Stop;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        None => {}
        Some(flag) if flag == "--account" => return account::main(std::env::args_os().skip(1)),
        Some(_) => return sweep::main(std::env::args_os().skip(1)),
    }
    let Ok(status) = descriptors::take_inherited(exec::STATUS) else {
        eprintln!("launch is started by spawnd");
        return ExitCode::from(2);
    };
    let Err(stop) = walk(&status);
    // Nobody is left to tell when spawnd is gone.
    let _ = record::write(&status, &stop.record());
    ExitCode::FAILURE
}

fn walk(status: &OwnedFd) -> Result<Infallible, Stop> {
    // First, while what is inherited can be listed: 0, 1, 2, the status pipe and the plan.
    let plan_fd = descriptors::take_inherited(exec::PLAN).map_err(Stop::Descriptors)?;
    descriptors::close_from(5).map_err(Stop::Descriptors)?;
    // Before any right is given up: nothing of a plan from another build may be obeyed.
    let plan = plan::read(plan_fd)?;

    // As root, for the follower is still root's: later it could not be given to the user.
    terminal::take(&plan)?;
    // As root, for a lower hard limit of ours may have to be raised to the session's.
    limits::set(&plan)?;
    // From here on the session's user, for good.
    identity::assume(&plan.identity)?;
    // After the change of uid, which clears it (prctl(2)).
    limits::end_with_spawnd(plan.lifetime)?;

    // As the user: what the user cannot reach is not reached for them.
    workspace::enter(&plan)?;
    files::check_executables(&plan)?;
    files::write(&plan)?;
    let resumed = transcript::exists(&plan)?;
    let command = arguments::command(&plan, resumed)?;

    // Last: end of file on the pipe, by the exec, is what makes this record true.
    record::write(status, &Record::Exec { resumed, missing: Vec::new() }).map_err(Stop::Record)?;
    // After the last write of ours: a closed pipe would kill instead of answer.
    signals::reset_dispositions();
    limits::unblock_signals()?;
    command.execute()
}
