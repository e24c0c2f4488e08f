//! `mock-model [--port N]`: the mock Messages API as a process of its own. Prints
//! `ready http://ADDRESS` when it serves.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tests::mock_model::MockModel;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(0),
        ["--port", port] => port.parse(),
        _ => "".parse::<u16>(),
    };
    let Ok(port) = port else {
        eprintln!("usage: mock-model [--port N]");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(async {
        match MockModel::start_on(port).await {
            Ok(mock) => {
                announce(&mock.url());
                mock.wait().await;
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    })
}

#[allow(clippy::print_stdout, reason = "the line is what a starter waits for")]
fn announce(url: &str) {
    println!("ready {url}");
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("mock-model: {error}");
    ExitCode::FAILURE
}
