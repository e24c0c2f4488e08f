//! The whole path, from an HTTP request to claude's answer and back: with the fake claude, with
//! the real CLI, and with the official clients.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

mod bad_input;
mod bridge;
mod clients;
mod lifecycle;
mod real_cli;
mod restart;
mod sessions;
mod start;
mod turns;
