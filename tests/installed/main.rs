//! The installation itself: what `make install` and the Debian package lay out, run under a real
//! systemd in a throw-away machine.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

mod attacks;
mod audit;
mod layout;
mod limits;
mod login;
mod package;
mod ports;
mod real;
mod restart;
mod users;
