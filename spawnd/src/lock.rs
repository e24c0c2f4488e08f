//! One process for one conversation of one user: a lock that is held as long as the session's
//! process lives, by systemd's copy while no spawnd runs.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use proto::ids::ConversationId;

use crate::refusal::Refusal;
use crate::sys;

/// The folder of the locks, in which nobody else can write.
pub struct Locks(OwnedFd);

impl Locks {
    pub fn new(folder: OwnedFd) -> Self {
        Self(folder)
    }

    /// # Errors
    /// `still_running` when it is held; else the step that failed.
    pub fn take(&self, uid: u32, conversation: ConversationId) -> Result<OwnedFd, Refusal> {
        let failed = |errno: i32| Refusal::Start { step: "lock", errno };
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let lock = openat(&self.0, name(uid, conversation).as_str(), flags, mode);
        let lock = lock.map_err(|errno| failed(errno as i32))?;
        match sys::descriptors::lock(&lock) {
            Ok(()) => Ok(lock),
            Err(error) => match error.raw_os_error().unwrap_or(0) {
                held if held == Errno::EWOULDBLOCK as i32 => {
                    Err(Refusal::ConversationLocked(conversation))
                }
                errno => Err(failed(errno)),
            },
        }
    }

    /// The next lock of this conversation is another file: a copy that is closed late holds
    /// nobody up.
    pub fn release(&self, uid: u32, conversation: ConversationId, lock: OwnedFd) {
        let name = name(uid, conversation);
        if let Err(errno) = unlinkat(&self.0, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            crate::log::warning(format_args!("lock {} {name}: {errno}", lock.as_raw_fd()));
        }
    }
}

fn name(uid: u32, conversation: ConversationId) -> String {
    format!("{uid}.{conversation}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_conversation_is_held_by_one_until_it_is_released() {
        let path = std::env::temp_dir().join(format!("locks-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let locks = Locks::new(File::open(&path).unwrap().into());
        let conversation = crate::policy::tests::request().conversation;
        let held = locks.take(7, conversation).unwrap();
        // As systemd's copy does.
        let copy = held.try_clone().unwrap();
        let again = locks.take(7, conversation).err().unwrap();
        assert_eq!(again, Refusal::ConversationLocked(conversation));
        assert!(locks.take(8, conversation).is_ok());
        locks.release(7, conversation, held);
        assert!(locks.take(7, conversation).is_ok());
        drop(copy);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
