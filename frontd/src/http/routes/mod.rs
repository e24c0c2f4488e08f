//! One file for each family of routes.

pub mod chat;
pub mod models;
pub mod ops;
pub mod runs;
