//! What frontd has not acknowledged yet: events in order, each with its place, bounded in number
//! and bytes. No I/O.
//!
//! Two weights share the room. Ordinary events (replies, tool hooks, usage) are refused while the
//! last [`RESERVED_FRAMES`] and [`RESERVED_BYTES`] are left; those belong to vital ones (receipts,
//! ends of turns), so that claude's chatter during an outage cannot hide that a turn ended. When
//! even that is used up, the newest end of a turn waits in a slot of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::bridge::Event;
use proto::ids::Seq;
use proto::limits::{BRIDGE_FRAME, OUTBOX_BYTES, OUTBOX_FRAMES};

/// Room for some hundred receipts and ends of turns: hours of an outage.
const RESERVED_FRAMES: usize = 256;
/// Room for the two longest ends of turns.
const RESERVED_BYTES: usize = 2 * BRIDGE_FRAME;

/// The longest envelope: `{"type":"event","seq":18446744073709551615,"event":}`.
const ENVELOPE: usize = 52;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Ordinary,
    Vital,
    /// Vital, and the session would stay busy without it.
    TurnEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too much is waiting for frontd.
    Full,
    /// One frame cannot hold it.
    TooLong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    event: Arc<str>,
}

impl Entry {
    /// The frame as [`proto::bridge::FromChannel::Event`] has it.
    pub(crate) fn frame(&self) -> String {
        format!(r#"{{"type":"event","seq":{},"event":{}}}"#, self.seq.0, self.event)
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last place that was given out.
    last: Seq,
    /// An end of a turn that found no room at all; the newest one wins.
    owed: Option<Arc<str>>,
}

impl Outbox {
    /// Gives `event` the next place. `Ok(None)`: it is owed and gets its place when there is room.
    ///
    /// # Errors
    /// [`Refused`]; nothing was kept.
    pub(crate) fn push(&mut self, event: &Event, weight: Weight) -> Result<Option<Entry>, Refused> {
        let text: Arc<str> = serde_json::to_string(event)
            .expect("wire types have string keys and no failing Serialize")
            .into();
        if text.len() + ENVELOPE > BRIDGE_FRAME {
            return Err(Refused::TooLong);
        }
        let (frames, bytes) = match weight {
            Weight::Ordinary => (OUTBOX_FRAMES - RESERVED_FRAMES, OUTBOX_BYTES - RESERVED_BYTES),
            Weight::Vital | Weight::TurnEnd => (OUTBOX_FRAMES, OUTBOX_BYTES),
        };
        let fits = self.entries.len() < frames && self.bytes + text.len() <= bytes;
        match weight {
            // Nothing may overtake an owed end of a turn.
            Weight::Ordinary | Weight::Vital if !fits || self.owed.is_some() => Err(Refused::Full),
            Weight::TurnEnd if !fits || self.owed.is_some() => {
                self.owed = Some(text);
                Ok(None)
            }
            Weight::Ordinary | Weight::Vital | Weight::TurnEnd => Ok(Some(self.append(text))),
        }
    }

    /// frontd holds everything up to `held`. Gives an owed event that has room now.
    pub(crate) fn prune(&mut self, held: Seq) -> Option<Entry> {
        while let Some(entry) = self.entries.front().filter(|entry| entry.seq <= held) {
            self.bytes -= entry.event.len();
            self.entries.pop_front();
        }
        let room = |text: &Arc<str>| {
            self.entries.len() < OUTBOX_FRAMES && self.bytes + text.len() <= OUTBOX_BYTES
        };
        let owed = self.owed.take_if(|text| room(text))?;
        Some(self.append(owed))
    }

    /// frontd holds places that this process never gave out: an earlier process used the same
    /// secret. Moves everything behind them, or frontd would take it for repetition. Tells by how
    /// much.
    pub(crate) fn continue_after(&mut self, received: Seq) -> u64 {
        if received <= self.last {
            return 0;
        }
        let before = self.entries.front().map_or(self.last.0, |entry| entry.seq.0 - 1);
        let shift = received.0 - before;
        for entry in &mut self.entries {
            entry.seq.0 += shift;
        }
        self.last.0 += shift;
        shift
    }

    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    fn append(&mut self, event: Arc<str>) -> Entry {
        self.last.0 += 1;
        self.bytes += event.len();
        let entry = Entry { seq: self.last, event };
        self.entries.push_back(entry.clone());
        entry
    }
}
