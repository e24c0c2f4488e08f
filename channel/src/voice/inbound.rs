//! From frontd to claude: a message's files first, then the message itself, once.

use std::time::Instant;

use proto::bridge::{Event, FromChannel};
use proto::ids::FileId;

use super::words::Action;
use super::{Link, Standing, Voice, encode};
use crate::fetches::Message;
use crate::outbox::Weight;
use crate::pushes::{Admission, Fate};

impl Voice {
    pub(super) fn inbound(&mut self, now: Instant, message: Message, out: &mut Vec<Action>) {
        let id = message.meta.message_id.clone();
        match self.pushes.admit(&id, self.fetches.len()) {
            Admission::Repeated => {
                out.push(Action::Note("frontd repeated a message; it is known already"));
                match self.pushes.fate(&id) {
                    Fate::Open => {}
                    Fate::Received => self.received(id.clone(), out),
                    Fate::Missed => self.missed(id.clone(), out),
                }
                if self.fetches.renamed(&id, message.files) {
                    out.push(Action::Discard(id));
                    self.fetch(now, out);
                }
            }
            Admission::Full => self.miss(message, out),
            Admission::New if !message.is_bounded() => self.miss(message, out),
            Admission::New => {
                self.fetches.add(message);
                // One that is being fetched will bring those behind it along.
                if self.fetches.len() == 1 {
                    self.fetch(now, out);
                }
            }
        }
    }

    /// Hands on what is complete and asks for what is not.
    pub(super) fn fetch(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(message) = self.fetches.complete() {
            match self.standing {
                Standing::Registered => self.push(now, message, out),
                // The CLI drops what comes before it listens, without a word.
                Standing::Starting => self.pushes.hold(message),
                Standing::Skipped { .. } => self.miss(message, out),
            }
        }
        if self.link == Link::Up
            && let Some((id, offset)) = self.fetches.ask(now)
        {
            out.push(Action::Send(encode(&FromChannel::FileGet { id, offset })));
        }
    }

    pub(super) fn push(&mut self, now: Instant, message: Message, out: &mut Vec<Action>) {
        if self.pushes.last().is_none() {
            // Its second attempt, maybe: the channel of the process before died and could not say
            // what claude had of it.
            out.push(Action::Seek(message));
        } else {
            self.show(now, message, out);
        }
    }

    /// The conversation was searched for the first message of this process.
    pub(super) fn sought(
        &mut self,
        now: Instant,
        message: Message,
        found: bool,
        out: &mut Vec<Action>,
    ) {
        if found {
            out.push(Action::Note("a message was in the conversation already; it is not pushed"));
            out.push(Action::Discard(message.meta.message_id.clone()));
            self.received(message.meta.message_id, out);
            // Nobody works on it any more.
            self.tell(&Event::Idle {}, Weight::TurnEnd, out);
        } else {
            self.show(now, message, out);
        }
    }

    fn show(&mut self, now: Instant, message: Message, out: &mut Vec<Action>) {
        let Message { content, meta, files } = message;
        let alone = self.pushes.opened(meta.message_id.clone(), now);
        out.push(Action::StopWatching);
        out.push(Action::Push { content, meta, files, alone });
    }

    pub(super) fn file(
        &mut self,
        now: Instant,
        id: &FileId,
        offset: u64,
        data: &str,
        last: bool,
        out: &mut Vec<Action>,
    ) {
        match self.fetches.take(id, offset, data, last) {
            Ok(Some(piece)) => out.push(Action::Keep(piece)),
            Ok(None) => {}
            Err(_broken) => self.give_up_files(now, "a file is not what frontd announced", out),
        }
    }

    pub(super) fn no_file(&mut self, now: Instant, id: &FileId, out: &mut Vec<Action>) {
        if self.fetches.wants(id) {
            self.give_up_files(now, "frontd does not have a message's file", out);
        }
    }

    /// A piece was to be written down.
    pub(super) fn file_kept(
        &mut self,
        now: Instant,
        length: usize,
        last: bool,
        kept: bool,
        out: &mut Vec<Action>,
    ) {
        if kept {
            self.fetches.kept(length, last);
            self.fetch(now, out);
        } else {
            self.give_up_files(now, "a message's file cannot be written", out);
        }
    }

    /// Without its files a message is not what the person said: claude does not get it.
    pub(super) fn give_up_files(&mut self, now: Instant, why: &'static str, out: &mut Vec<Action>) {
        out.push(Action::Note(why));
        if let Some(message) = self.fetches.give_up() {
            self.miss(message, out);
        }
        self.fetch(now, out);
    }

    pub(super) fn miss(&mut self, message: Message, out: &mut Vec<Action>) {
        let message_id = message.meta.message_id;
        if !message.files.is_empty() {
            out.push(Action::Discard(message_id.clone()));
        }
        self.missed(message_id, out);
    }
}
