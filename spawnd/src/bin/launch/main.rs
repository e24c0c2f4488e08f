//! launch: the one-way walk from spawnd to a session's claude. It ends in exec or in one record
//! on descriptor 3; it never returns to anybody. What to do is the plan's word (descriptor 4).
//!
//! `launch --sweep FOLDER UID GID` empties an ended session's folder, as its user;
//! `launch --account NAME GROUP…` looks an account up.
#![forbid(unsafe_code)]

mod account;
mod arguments;
mod close;
mod deny;
mod files;
mod identity;
mod landlock;
mod limits;
mod missing;
mod mounts;
mod own;
mod plan;
mod record;
mod seccomp;
mod stop;
mod sweep;
mod terminal;
mod transcript;
mod workspace;
mod world;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use proto::launch::Record;
use spawnd::sys::{descriptors, exec, signals};

use crate::missing::Missing;
use crate::stop::Stop;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        None => {}
        Some(flag) if flag == "--account" => return account::main(std::env::args_os().skip(1)),
        Some(flag) if flag == "--close" => return close::main(),
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
    let mut plan = plan::read(plan_fd)?;
    let mut missing = Missing::new(plan.sandbox.demand);

    // As root, for the follower is still root's: later it could not be given to the user.
    terminal::take(&plan)?;
    // Before anything is looked up: what is judged must be what this namespace shows.
    let no_namespace = mounts::enter_namespace(&plan)?;
    missing.note(no_namespace)?;
    // Before anything is hidden, for the judgement is of the real path and everything above it;
    // with the user's rights: what the user cannot reach is not reached for them.
    let reached = identity::for_files(&plan.identity.clone(), || world::reach(&mut plan))?;
    let program = reached.program.clone();
    // As root, who alone may mount; the workspace is entered by its descriptor.
    if no_namespace.is_none() {
        mounts::build(&plan, reached)?;
    } else {
        files::give_folder(&plan)?;
        reached.workspace.enter(&plan, &reached.workspace.folder)?;
    }
    // As root, for a lower hard limit of ours may have to be raised to the session's.
    limits::set(&plan)?;
    // From here on the session's user, for good.
    identity::assume(&plan.identity)?;
    // After the change of uid, which clears it (prctl(2)).
    limits::end_with_spawnd(plan.lifetime)?;

    // As the user, in the session's own world.
    files::check_executables(&plan, &program)?;
    files::write(&plan)?;
    let resumed = transcript::exists(&plan)?;
    let command = arguments::command(&plan, &program, resumed)?;

    // After the last file of ours, and after no_new_privs, without which neither may be had.
    missing.note(landlock::restrict(&plan)?)?;
    missing.note(seccomp::restrict(&plan)?)?;

    // Last: end of file on the pipe, by the exec, is what makes this record true.
    let record = Record::Exec { resumed, missing: missing.into_parts() };
    record::write(status, &record).map_err(Stop::Record)?;
    // After the last write of ours: a closed pipe would kill instead of answer.
    signals::reset_dispositions();
    limits::unblock_signals()?;
    command.execute()
}
