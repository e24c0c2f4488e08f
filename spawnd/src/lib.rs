//! The half of Synthesis that starts processes. One thread, one poll(2) loop, nothing that blocks
//! on a user's behalf.
//!
//! What may be done stands in spawnd.toml ([`config`], [`settle`], [`reading`]), which must be [`trust`]worthy.
//! A packet comes in at [`server`], whose one table is the whole privileged surface. At the [`gate`]
//! a [`token`] or a peer's socket ([`proof`]) becomes a [`grant`]. A `spawn` with it waits for the
//! [`lookup`] of its account, is judged by [`policy`], a pure function from request and facts to
//! plan, and done by [`spawn`], which starts `launch` with that plan; [`status`] reads what became of it. [`notify`] hears that a session is
//! ready, [`reap`] that it ended and sees to it that nothing of it is left ([`scope`], or [`family`]
//! where there is no systemd). What must outlive this process lies in systemd's hands ([`store`],
//! [`recovery`]).
//! [`daemon`] is the loop between them, [`news`] what it sleeps on, [`session`] the table they share.
#![deny(unsafe_code)]

pub mod audit;
pub mod cgroup;
pub mod command_line;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod doors;
pub mod family;
pub mod folder;
pub mod gate;
pub mod grant;
pub mod homes;
pub mod lock;
pub mod log;
pub mod lookup;
pub mod news;
pub mod notify;
pub mod pace;
pub mod policy;
pub mod prepare;
pub mod process;
pub mod proof;
pub mod reading;
pub mod reap;
pub mod recovery;
pub mod refusal;
pub mod reload;
pub mod scope;
pub mod sealed;
pub mod server;
pub mod session;
pub mod settle;
pub mod spawn;
pub mod startup;
pub mod status;
pub mod stderr;
pub mod store;
pub mod sweep;
#[allow(unsafe_code)]
pub mod sys;
pub mod token;
pub mod trust;
pub mod undertaker;
pub mod witness;
