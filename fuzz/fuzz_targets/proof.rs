//! `cargo +nightly fuzz run proof`
#![no_main]

#[path = "../inputs.rs"]
#[allow(dead_code, reason = "each target uses its part")]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::grant(bytes);
    inputs::tokens(bytes);
});
