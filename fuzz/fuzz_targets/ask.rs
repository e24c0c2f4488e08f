//! `cargo +nightly fuzz run ask`
#![no_main]

#[path = "../ask_inputs.rs"]
mod ask_inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ask_inputs::body(bytes);
});
