//! Is this request the one that came before, sent again?

/// Whether the new text `new` asks for the run whose text was `of`: OpenClaw writes a turn that it
/// sends again anew, the official clients count (`x-stainless-retry-count`).
pub fn repeats(new: &str, of: &str, stainless_retry: u32) -> bool {
    stainless_retry > 0 && new == of
}
