//! frontd: HTTP in front, claude sessions behind, and between them queues, runs and the bridge.
//!
//! Imports run one way: `http::routes` → `run`, `session` → `bridge`, `spawner` → `proto`.
//! Decisions (`ask`, `identity`, `openclaw`, `session::machine`, `terminal::dialogs`, `render`) are pure.

#![forbid(unsafe_code)]

pub mod alarm;
pub mod app;
pub mod ask;
pub mod audit;
pub mod bridge;
pub mod check_config;
pub mod cli;
pub mod client;
pub mod clients;
pub mod config;
pub mod dev;
pub mod environment;
pub mod foreign;
pub mod http;
pub mod identity;
pub mod landing;
pub mod listeners;
pub mod logging;
pub mod metrics;
pub mod openclaw;
pub mod principal;
pub mod quota;
pub mod reload;
pub mod remote;
pub mod render;
pub mod run;
pub mod serve;
pub mod service;
pub mod session;
pub mod shares;
pub mod spawner;
pub mod store;
#[cfg(feature = "otel")]
pub mod telemetry;
pub mod terminal;
pub mod two_daemons;
pub mod watchdog;
