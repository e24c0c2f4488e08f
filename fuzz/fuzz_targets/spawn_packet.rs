//! `cargo +nightly fuzz run spawn_packet`
#![no_main]

#[path = "../inputs.rs"]
#[allow(dead_code, reason = "each target uses its part")]
mod inputs;

use std::sync::LazyLock;

static POLICY: LazyLock<spawnd::policy::Policy> = LazyLock::new(inputs::policy);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::spawn_packet(&POLICY, bytes);
});
