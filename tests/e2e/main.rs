//! The whole path, from an HTTP request to claude's answer and back: with the fake claude, with
//! the real CLI, and with the official clients.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

mod admin;
mod attachments;
mod audit;
mod bad_input;
mod bridge;
mod clients;
mod disconnect;
mod ephemeral;
mod heads;
mod held;
mod history;
mod instructions;
mod kill_matrix;
mod lifecycle;
mod metrics;
mod narrative;
mod principals;
mod queue;
mod real_cli;
mod real_session;
mod reload;
mod responses;
mod restart;
mod restart_runs;
mod retries;
mod runs;
mod schema;
mod sessions;
mod sessions_api;
mod start;
mod stop;
mod store;
mod streams;
mod turns;
mod ui_chat;
mod witness;
