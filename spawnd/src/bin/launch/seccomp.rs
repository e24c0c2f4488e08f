//! The system calls that a session does without, from the list in [`deny`], as filters.
//!
//! [`deny`]: crate::deny

use std::collections::BTreeMap;

use proto::launch::Plan;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

use crate::deny::{self, Answer, Entry, When};
use crate::missing::Part;
use crate::stop::Stop;

/// For good, and for everything that the session starts. Says if the kernel has no filters.
///
/// # Errors
/// [`Stop::Seccomp`].
pub(crate) fn restrict(plan: &Plan) -> Result<Option<Part>, Stop> {
    for program in programs(plan.sandbox.ptrace)? {
        match apply_filter(&program) {
            Err(Error::Seccomp(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                return Ok(Some(Part::Needed("seccomp")));
            }
            other => other?,
        }
    }
    Ok(None)
}

/// One for each answer: a filter has but one. The kernel asks all of them and the strictest
/// answer holds; a call of a foreign architecture (int 0x80) kills.
fn programs(ptrace: bool) -> Result<Vec<BpfProgram>, Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut programs = Vec::new();
    if cfg!(target_arch = "x86_64") {
        programs.push(foreign_numbers());
    }
    for answer in [Answer::NotPermitted, Answer::NotThere] {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for entry in deny::entries(ptrace).filter(|entry| entry.answer == answer) {
            rules.entry(entry.number).or_default().extend(rule(entry)?);
        }
        let errno = match answer {
            Answer::NotPermitted => libc::EPERM,
            Answer::NotThere => libc::ENOSYS,
        };
        let errno = SeccompAction::Errno(errno.cast_unsigned());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?;
        programs.push(BpfProgram::try_from(filter)?);
    }
    Ok(programs)
}

/// Arguments are compared on their low 32 bits: the kernel reads no more of them either.
fn rule(entry: &Entry) -> Result<Option<SeccompRule>, Error> {
    let condition = |argument, operator, value: u32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
    };
    let conditions = match entry.when {
        When::Always => return Ok(None),
        When::Is(argument, value) => vec![condition(argument, SeccompCmpOp::Eq, value)?],
        When::Has(argument, bit) => {
            vec![condition(argument, SeccompCmpOp::MaskedEq(bit.into()), bit)?]
        }
        When::NotIn(argument, values) => {
            let other = |value: &u32| condition(argument, SeccompCmpOp::Ne, *value);
            values.iter().map(other).collect::<Result<_, _>>()?
        }
    };
    Ok(Some(SeccompRule::new(conditions)?))
}

/// x32 calls run under the same architecture as ours, with a bit in the number that no entry of
/// a list has: all of them are refused.
fn foreign_numbers() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        // The number stands first in seccomp_data.
        line(LOAD, 0, 0),
        line(AT_LEAST, 1, X32),
        line(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        line(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
    ]
}
