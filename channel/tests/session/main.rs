//! The built `channel` between a claude and a frontd that the tests play.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test's helper fails by panicking"
)]

mod bridge;
mod files;
mod hooks;
mod mcp;
mod stage;
