//! Attacks on the real daemons, as root with real uids: what a hostile frontd can send, what a
//! hostile claude can try from inside its sandbox, what a hostile workspace can bring.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

mod accounts;
mod audit;
mod facts;
mod files;
mod kernel;
mod life;
mod lifecycle;
mod lingering;
mod managers;
mod ownership;
mod packets;
mod peers;
mod proofs;
mod reload;
mod requests;
mod stage;
mod stalled;
mod workspace;
