//! A hostile claude and the kernel: system calls that the filter refuses.

use tests::harness::have_root;
use tests::harness::spawnd::Settings;
use tests::hostile_claude::{Attempt, Line, Outcome};

use super::stage::Stage;

/// What the kernel said, by the name of the call.
fn answers(lines: &[Line]) -> Vec<(String, String)> {
    let name = |line: &Line| {
        let Attempt::Call(name) = &line.attempt else { return format!("{:?}", line.attempt) };
        name.clone()
    };
    lines
        .iter()
        .map(|line| (name(line), line.detail.as_str().unwrap_or("allowed").to_owned()))
        .collect()
}

#[test]
fn calls_that_a_session_has_no_business_with_are_refused_by_the_filter() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let (_, report) = stage.attack(&[Attempt::Calls]);
    assert!(report.0.len() > 60);
    let wrong: Vec<_> = answers(&report.0)
        .into_iter()
        .filter(|(name, answer)| match name.as_str() {
            // glibc falls back to clone(2), whose flags a filter can read.
            "clone3" => answer != "ENOSYS",
            name if name.starts_with("x32") => answer != "EPERM" && answer != "ENOSYS",
            _ => answer != "EPERM",
        })
        .collect();
    assert_eq!(wrong, []);
}

#[test]
fn the_door_of_32_bit_programs_is_closed() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    assert_eq!(stage.attempt(Attempt::Int80).outcome, Outcome::Denied);
}

/// Asked of its own process and of the network, as libraries and tools do.
#[test]
fn what_every_program_asks_for_is_answered() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    stage.attack(&[Attempt::UsualCalls]).1.all_succeeded();
}

#[test]
fn typing_into_the_terminal_is_refused_with_high_bits_set_too() {
    if !have_root() {
        return;
    }
    let mut stage = Stage::new(Settings::default());
    let mut attempts = Vec::new();
    // The last puts another line discipline, and its code, under the terminal.
    for request in [0x5412_u64, 0x541C, 0x541D, 0x5423] {
        for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
            attempts.push(Attempt::Ioctl(request | high));
        }
    }
    let (_, report) = stage.attack(&attempts);
    let answers = answers(&report.0);
    assert!(answers.iter().all(|(_, answer)| answer == "EPERM"), "{answers:?}");
}
