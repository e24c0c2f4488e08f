//! Messages on their way to claude whose files are not all here yet, in the order in which they
//! came: none overtakes another. Says which piece is wanted next and judges what came. No I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use proto::bridge::{FileRef, Meta};
use proto::ids::{FileId, MessageId};
use proto::limits::{FILE_BYTES, FILE_CHUNK, FILES};

/// frontd has the piece at hand; one that does not come will not come.
pub(crate) const PIECE_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) content: String,
    pub(crate) meta: Meta,
    pub(crate) files: Vec<FileRef>,
}

impl Message {
    /// Are there no more files, and none larger, than a message may have?
    pub(crate) fn is_bounded(&self) -> bool {
        self.files.len() <= FILES && self.files.iter().all(|file| file.bytes <= FILE_BYTES)
    }
}

/// A piece of a file, to be written down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) message: MessageId,
    /// Which of the message's files, from 0.
    pub(crate) index: usize,
    pub(crate) media_type: String,
    /// Does the file begin with it, and end?
    pub(crate) first: bool,
    pub(crate) last: bool,
    pub(crate) data: Vec<u8>,
}

/// What frontd sent is no piece of the file that it announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

#[derive(Default)]
pub(crate) struct Fetches {
    /// The first of them is fetched.
    messages: VecDeque<Message>,
    /// Which of its files, and how much of that is here.
    index: usize,
    offset: u64,
    /// When a piece that was asked for is given up.
    due: Option<Instant>,
}

impl Fetches {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn add(&mut self, message: Message) {
        self.messages.push_back(message);
    }

    /// Takes the first message out if all its files are here.
    pub(crate) fn complete(&mut self) -> Option<Message> {
        let complete =
            self.messages.front().is_some_and(|message| self.index >= message.files.len());
        if complete { self.give_up() } else { None }
    }

    /// Takes the first message out as it is.
    pub(crate) fn give_up(&mut self) -> Option<Message> {
        self.begin();
        self.messages.pop_front()
    }

    pub(crate) fn give_up_all(&mut self) -> VecDeque<Message> {
        self.begin();
        std::mem::take(&mut self.messages)
    }

    /// The piece to ask frontd for now.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<(FileId, u64)> {
        let (_, file) = self.wanted()?;
        let wanted = (file.id.clone(), self.offset);
        self.due = Some(now + PIECE_WITHIN);
        Some(wanted)
    }

    /// Nothing that was asked for comes any more; it is asked for again.
    pub(crate) fn forget_asking(&mut self) {
        self.due = None;
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn wants(&self, id: &FileId) -> bool {
        self.due.is_some() && self.wanted().is_some_and(|(_, file)| file.id == *id)
    }

    /// A piece came. `Ok(None)`: it is not the one that was asked for.
    ///
    /// # Errors
    /// [`Broken`]: the file cannot be had.
    pub(crate) fn take(
        &mut self,
        id: &FileId,
        offset: u64,
        data: &str,
        last: bool,
    ) -> Result<Option<Piece>, Broken> {
        if !self.wants(id) || offset != self.offset {
            return Ok(None);
        }
        let Some((message, file)) = self.wanted() else { return Ok(None) };
        let data = BASE64.decode(data.as_bytes()).map_err(|_| Broken)?;
        let end = self.offset.saturating_add(u64::try_from(data.len()).map_err(|_| Broken)?);
        let fits = data.len() <= FILE_CHUNK && end <= file.bytes && (end == file.bytes) == last;
        if !fits || (data.is_empty() && !last) {
            return Err(Broken);
        }
        Ok(Some(Piece {
            message: message.meta.message_id.clone(),
            index: self.index,
            media_type: file.media_type.clone(),
            first: self.offset == 0,
            last,
            data,
        }))
    }

    /// The piece of this length is written down.
    pub(crate) fn kept(&mut self, length: usize, last: bool) {
        self.due = None;
        if last {
            self.index += 1;
            self.offset = 0;
        } else {
            self.offset = self.offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }

    /// frontd repeats a message; its files may have other names by now. Tells whether what is here
    /// of them is worth nothing any more.
    pub(crate) fn renamed(&mut self, message: &MessageId, files: Vec<FileRef>) -> bool {
        let at = self.messages.iter().position(|waiting| waiting.meta.message_id == *message);
        let Some(waiting) = at.and_then(|at| self.messages.get_mut(at)) else { return false };
        if waiting.files == files {
            return false;
        }
        waiting.files = files;
        if at == Some(0) {
            self.begin();
        }
        at == Some(0)
    }

    fn wanted(&self) -> Option<(&Message, &FileRef)> {
        let message = self.messages.front()?;
        Some((message, message.files.get(self.index)?))
    }

    fn begin(&mut self) {
        (self.index, self.offset, self.due) = (0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: &str, bytes: u64) -> FileRef {
        let media_type = "image/png".to_owned();
        FileRef { id: FileId::new(id).unwrap(), name: "n".to_owned(), media_type, bytes }
    }

    fn message(id: &str, files: Vec<FileRef>) -> Message {
        let message_id = MessageId::new(id).unwrap();
        let meta = Meta { chat_id: "c".to_owned(), message_id, ts: "t".to_owned() };
        Message { content: String::new(), meta, files }
    }

    fn id(text: &str) -> FileId {
        FileId::new(text).unwrap()
    }

    fn fetching(files: Vec<FileRef>) -> Fetches {
        let mut fetches = Fetches::default();
        fetches.add(message("m", files));
        fetches.ask(Instant::now());
        fetches
    }

    #[test]
    fn a_file_is_fetched_piece_by_piece_and_then_the_next() {
        let mut fetches = fetching(vec![file("a", 5), file("b", 0)]);
        let piece = fetches.take(&id("a"), 0, "AAEC", false).unwrap().unwrap();
        assert!(piece.first && !piece.last && piece.index == 0 && piece.data == [0, 1, 2]);
        fetches.kept(3, false);
        assert_eq!(fetches.ask(Instant::now()), Some((id("a"), 3)));
        let piece = fetches.take(&id("a"), 3, "AwQ=", true).unwrap().unwrap();
        assert!(!piece.first && piece.last && piece.data == [3, 4]);
        fetches.kept(2, true);
        assert_eq!(fetches.complete(), None);
        assert_eq!(fetches.ask(Instant::now()), Some((id("b"), 0)));
        let piece = fetches.take(&id("b"), 0, "", true).unwrap().unwrap();
        assert!(piece.first && piece.last && piece.index == 1);
        fetches.kept(0, true);
        assert!(fetches.complete().is_some());
        assert_eq!((fetches.complete(), fetches.ask(Instant::now())), (None, None));
    }

    #[test]
    fn what_was_not_asked_for_is_passed_over() {
        let mut fetches = fetching(vec![file("a", 6)]);
        assert_eq!(fetches.take(&id("b"), 0, "AAEC", false), Ok(None));
        assert_eq!(fetches.take(&id("a"), 3, "AAEC", true), Ok(None));
        fetches.forget_asking();
        assert_eq!(fetches.take(&id("a"), 0, "AAEC", false), Ok(None), "of a lost connection");
        assert_eq!(Fetches::default().take(&id("a"), 0, "AAEC", false), Ok(None));
    }

    #[test]
    fn a_piece_that_does_not_fit_its_file_is_broken() {
        let long = BASE64.encode(&vec![0; FILE_CHUNK + 1]);
        for (bytes, data, last) in [
            (6, "AAE", false),
            (6, "!!!!", false),
            (6, "", false),
            (2, "AAEC", true),
            (2, "AAEC", false),
            (6, "AAEC", true),
            (3, "AAEC", false),
            (u64::MAX, &long, false),
        ] {
            let mut fetches = fetching(vec![file("a", bytes)]);
            assert_eq!(fetches.take(&id("a"), 0, data, last), Err(Broken), "{bytes} {last}");
        }
    }

    #[test]
    fn a_message_without_files_does_not_overtake_one_with() {
        let mut fetches = fetching(vec![file("a", 1)]);
        fetches.add(message("later", Vec::new()));
        assert_eq!(fetches.complete(), None);
        fetches.kept(1, true);
        assert_eq!(fetches.complete().unwrap().meta.message_id.as_str(), "m");
        assert_eq!(fetches.complete().unwrap().meta.message_id.as_str(), "later");
    }

    #[test]
    fn files_under_other_names_begin_anew() {
        let mut fetches = fetching(vec![file("a", 6)]);
        fetches.kept(3, false);
        let m = MessageId::new("m").unwrap();
        assert!(!fetches.renamed(&m, vec![file("a", 6)]), "the same ones");
        assert!(!fetches.renamed(&MessageId::new("x").unwrap(), Vec::new()), "another message");
        assert_eq!(fetches.ask(Instant::now()), Some((id("a"), 3)));
        assert!(fetches.renamed(&m, vec![file("b", 6)]));
        assert_eq!(fetches.ask(Instant::now()), Some((id("b"), 0)));
    }

    #[test]
    fn a_message_may_not_have_too_much() {
        assert!(message("m", vec![file("a", FILE_BYTES); FILES]).is_bounded());
        assert!(!message("m", vec![file("a", 1); FILES + 1]).is_bounded());
        assert!(!message("m", vec![file("a", FILE_BYTES + 1)]).is_bounded());
    }
}
