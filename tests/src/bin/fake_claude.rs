//! `fake-claude`: see [`tests::fake_claude`].
#![forbid(unsafe_code)]

fn main() {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    std::process::exit(tests::fake_claude::run(&arguments));
}
