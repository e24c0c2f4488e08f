//! One file for each family of routes.

pub mod chat;
pub mod messages;
pub mod models;
pub mod ops;
pub mod responses;
pub mod runs;
pub mod sessions;
pub mod ui;
