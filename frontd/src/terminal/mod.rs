//! A session's terminal as frontd sees it: [`drain`] reads it always, [`screen`] knows what is on
//! it, [`dialogs`] knows which start-up questions may be answered, and how.

pub mod dialogs;
pub mod drain;
pub mod screen;
