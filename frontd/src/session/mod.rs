//! A session: one conversation, at most one claude at a time, its messages one after the other.
//!
//! [`machine`] decides (pure), [`actor`] acts, [`pool`] shares the process slots out among
//! sessions, [`directory`] finds the actor of a key.

pub mod actor;
pub mod diagnosis;
pub mod directory;
pub mod machine;
pub mod message;
pub mod places;
pub mod pool;
pub mod process;
pub mod recall;
pub mod restore;
pub mod testimony;
pub mod turn;
