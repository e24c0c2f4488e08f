//! `channel`: the voice of one session. Started by claude as an MCP stdio server, it carries
//! messages between frontd and claude; started as `channel hook EVENT`, it hands one hook's body
//! to that server. It obeys frontd and nobody else.
#![forbid(unsafe_code)]

mod alarm;
mod bridge;
mod collector;
mod evidence;
mod fetches;
mod files;
mod handover;
mod hook;
mod log;
mod mcp;
mod outbox;
mod permission;
mod pump;
mod pushes;
mod quiet;
mod serve;
mod session;
mod stdio;
mod testimony;
mod voice;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => serve::run(),
        ["hook", event] => hook::run(event),
        _ => {
            log::log!("usage: channel | channel hook EVENT");
            ExitCode::from(2)
        }
    }
}
