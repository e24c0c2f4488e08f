//! Every type that crosses a process boundary of Synthesis, and nothing else: no I/O, no clock.
//!
//! ```text
//!  frontd                     spawnd                launch => claude            channel
//!    | hello ------------------> |                                                |
//!    | <----------------- hello  |                                                |
//!    | request spawn ----------> | -- plan (memfd) --> |                          |
//!    |                           | <-- record (fd 3) --|                          |
//!    | <- answer started + pty   |                                                |
//!    | <=========== terminal, by the pty leader =====> |                          |
//!    | <-------------------------------------------------------------- hello ---- |
//!    | ---- hello_ack ----------------------------------------------------------> |
//!    | <-------------------------------------------------------- registered ----- |
//!    | <- event ready {pid}      | <------------------------------- READY=1 ----- |
//!    | ---- inbound ------------------------------------------------------------> |
//!    | <------------------------------- event {seq, received | reply | hook …} -- |
//!    | ---- ack {seq} ----------------------------------------------------------> |
//!    | <- event exited {cause}   |                                                |
//! ```
//!
//! [`spawn`] is the left wire, [`bridge`] the right one, [`launch`] the plan and its record,
//! [`hook`] what the CLI tells its hooks, [`journal`] how both daemons write their audit records.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod hook;
pub mod ids;
pub mod journal;
pub mod launch;
pub mod limits;
pub mod spawn;
