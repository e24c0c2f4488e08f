//! Reading launch's record from the status pipe, and what it means.
//!
//! launch writes one line before it executes claude, and descriptor 3 closes with that exec: end
//! of file after `exec` is success. A second record means that the exec itself failed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use proto::launch::Record;
use proto::spawn::RefusalCode;

use crate::refusal::Refusal;

/// Two records with a path each.
const LIMIT: usize = 16 * 1024;

pub struct Status {
    pipe: OwnedFd,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// launch still walks.
    Walking,
    Ended(Result<Started, Refusal>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub resumed: bool,
    /// Parts of a best-effort sandbox that this session has to do without.
    pub missing: Vec<String>,
}

impl AsFd for Status {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Status {
    /// `pipe` does not block.
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe, bytes: Vec::new() }
    }

    /// Reads what there is.
    pub fn read(&mut self) -> Progress {
        let mut part = [0; 4096];
        loop {
            match nix::unistd::read(&self.pipe, &mut part) {
                Ok(0) => return Progress::Ended(verdict(&self.bytes)),
                Ok(len) => self.bytes.extend(part.iter().take(len)),
                Err(Errno::EAGAIN) => return Progress::Walking,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let errno = errno as i32;
                    return Progress::Ended(Err(Refusal::Start { step: "status pipe", errno }));
                }
            }
            if self.bytes.len() > LIMIT {
                return Progress::Ended(Err(Refusal::LaunchGarbled));
            }
        }
    }
}

/// What the whole of the records says.
fn verdict(bytes: &[u8]) -> Result<Started, Refusal> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let records: Result<Vec<Record>, _> = lines.map(serde_json::from_slice).collect();
    match records.map_err(|_| Refusal::LaunchGarbled)?.as_slice() {
        [] => Err(Refusal::LaunchSilent),
        [Record::Exec { resumed, missing }] => {
            Ok(Started { resumed: *resumed, missing: missing.clone() })
        }
        [Record::Exec { .. }, Record::Failed { step, errno }] => Err(exec_failed(step, *errno)),
        [Record::Refused { code, message }] => {
            Err(Refusal::Launch { code: *code, message: message.clone() })
        }
        [Record::Failed { step, errno }] => {
            Err(Refusal::LaunchStep { step: step.clone(), errno: *errno })
        }
        _ => Err(Refusal::LaunchGarbled),
    }
}

/// An executable that went away, or cannot be run by the user, is for the operator to mend.
fn exec_failed(step: &str, errno: i32) -> Refusal {
    let cause = Errno::from_raw(errno);
    if matches!(cause, Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC | Errno::ENOTDIR) {
        let message = format!("claude cannot be executed: {}", cause.desc());
        Refusal::Launch { code: RefusalCode::ClaudeMissing, message }
    } else {
        Refusal::LaunchStep { step: step.to_owned(), errno }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(serde_json::to_vec(record).unwrap());
            bytes.push(b'\n');
        }
        bytes
    }

    fn failed(errno: Errno) -> Record {
        Record::Failed { step: "exec".to_owned(), errno: errno as i32 }
    }

    #[test]
    fn exec_and_end_of_file_is_success() {
        let bytes = lines(&[Record::Exec { resumed: true, missing: Vec::new() }]);
        assert_eq!(verdict(&bytes), Ok(Started { resumed: true, missing: Vec::new() }));
    }

    #[test]
    fn end_of_file_without_a_record_is_a_failed_start() {
        assert_eq!(verdict(b""), Err(Refusal::LaunchSilent));
    }

    #[test]
    fn a_failed_exec_after_the_record_is_claude_missing_or_a_failed_step() {
        let exec = Record::Exec { resumed: false, missing: Vec::new() };
        let code = |errno| verdict(&lines(&[exec.clone(), failed(errno)])).err().unwrap().code();
        assert_eq!(code(Errno::ENOENT), RefusalCode::ClaudeMissing);
        assert_eq!(code(Errno::EACCES), RefusalCode::ClaudeMissing);
        assert_eq!(code(Errno::ENOMEM), RefusalCode::StartFailed);
    }

    #[test]
    fn records_in_another_order_or_broken_are_garbled() {
        let exec = Record::Exec { resumed: false, missing: Vec::new() };
        for bytes in [
            lines(&[exec.clone(), exec.clone()]),
            lines(&[failed(Errno::EPERM), exec]),
            b"{\"exec\":{\"resumed\":true,\"missing\":[],\"x\":1}}".to_vec(),
            b"\xff".to_vec(),
        ] {
            assert_eq!(verdict(&bytes), Err(Refusal::LaunchGarbled));
        }
    }

    #[test]
    fn an_endless_record_is_cut_off() {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut status = Status::new(read);
        let progress = loop {
            nix::unistd::write(&write, &[b'x'; 4096]).unwrap();
            match status.read() {
                Progress::Walking => {}
                ended @ Progress::Ended(_) => break ended,
            }
        };
        assert_eq!(progress, Progress::Ended(Err(Refusal::LaunchGarbled)));
    }
}
