//! The claude that tries to get out.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tests::hostile_claude::main()
}
