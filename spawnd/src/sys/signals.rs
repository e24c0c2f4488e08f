//! Signal dispositions as a fresh program expects them.

/// Default for every signal. Ignored ones would cross exec: SIGPIPE, which the Rust runtime
/// ignores, and what our own parent ignored (nohup).
pub fn reset_dispositions() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no code; numbers that cannot be set answer EINVAL.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}
