//! A run: one message of a person and everything that came of it, as a numbered list of events.
//! The run belongs to its session; an HTTP response is one reader of its log.

pub mod event;
pub mod failure;
pub mod id;
pub mod log;
pub mod reader;
pub mod registry;

pub use event::{Event, FileNote, Json, Logged, Outcome, Status, UserMessage};
pub use failure::{Failure, FailureKind};
pub use id::RunId;
pub use log::Run;
pub use reader::{ReadError, Reader};
pub use registry::{Begun, Keyed, Runs};
