//! frontd: HTTP in front, claude sessions behind, and between them queues, runs and the bridge.
//!
//! Imports run one way: `http::routes` → `run`, `session` → `bridge`, `spawner` → `proto`.
//! Decisions (`ask`, `identity`, `openclaw`, `session::machine`, `terminal::dialogs`, `render`) are pure.

#![forbid(unsafe_code)]

pub mod alarm;
pub mod app;
pub mod ask;
pub mod bridge;
pub mod check_config;
pub mod cli;
pub mod config;
pub mod dev;
pub mod environment;
pub mod http;
pub mod identity;
pub mod landing;
pub mod logging;
pub mod openclaw;
pub mod principal;
pub mod render;
pub mod run;
pub mod serve;
pub mod session;
pub mod spawner;
pub mod store;
pub mod terminal;
pub mod two_daemons;
