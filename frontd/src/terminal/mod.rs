//! A session's terminal as frontd sees it: [`drain`] reads it always, [`screen`] knows what is on
//! it, [`dialogs`] knows which start-up questions may be answered, and how, [`redraw`] has an adopted
//! one drawn again.

pub mod dialogs;
pub mod drain;
mod redraw;
pub mod screen;
