//! The files of messages, where claude can read them: in a folder of this channel's own below
//! TMPDIR, for its user alone. No name of theirs comes from outside; what a client calls a file is
//! told beside its path. The oldest go when there is much; all go with the channel.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use proto::bridge::FileRef;
use proto::ids::MessageId;
use proto::limits::{FILE_NAME, MEDIA_TYPE};

use crate::fetches::Piece;
use crate::testimony::shorten;

/// Bytes of earlier messages' files that are kept: three of the largest, as claude may be asked
/// about what came before.
const KEPT: u64 = 60 * 1024 * 1024;
/// Messages whose files are kept: small files must not gather for ever either.
const MESSAGES: usize = 256;

pub(crate) struct Files {
    /// Below this the folder is made when the first file comes.
    below: PathBuf,
    folder: Option<PathBuf>,
    messages: VecDeque<Kept>,
    /// Messages with files so far: the first part of their files' names.
    number: u64,
    bytes: u64,
    writing: Option<File>,
}

struct Kept {
    message: MessageId,
    number: u64,
    paths: Vec<PathBuf>,
    bytes: u64,
}

impl Files {
    pub(crate) fn new(below: PathBuf) -> Self {
        let messages = VecDeque::new();
        Self { below, folder: None, messages, number: 0, bytes: 0, writing: None }
    }

    /// Writes a piece behind what is there of its file.
    ///
    /// # Errors
    /// Of the system; the message's files are then worth nothing.
    pub(crate) fn keep(&mut self, piece: &Piece) -> io::Result<()> {
        if piece.first {
            let (path, file) = self.create(piece)?;
            self.kept(&piece.message).paths.push(path);
            self.writing = Some(file);
        }
        let file = self.writing.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&piece.data)?;
        let length = u64::try_from(piece.data.len()).unwrap_or(u64::MAX);
        self.kept(&piece.message).bytes += length;
        self.bytes += length;
        if piece.last {
            self.writing = None;
        }
        while (self.bytes > KEPT || self.messages.len() > MESSAGES) && self.messages.len() > 1 {
            self.forget_oldest();
        }
        Ok(())
    }

    /// The attributes that tell claude of the message's files.
    pub(crate) fn attributes(
        &self,
        message: &MessageId,
        files: &[FileRef],
    ) -> Vec<(String, String)> {
        let Some(kept) = self.messages.iter().find(|kept| kept.message == *message) else {
            return Vec::new();
        };
        let mut attributes = Vec::with_capacity(files.len() * 3);
        for (number, (path, file)) in (1..).zip(kept.paths.iter().zip(files)) {
            attributes.push((format!("file_{number}"), path.display().to_string()));
            attributes.push((format!("file_{number}_name"), shown_name(&file.name)));
            attributes.push((format!("file_{number}_type"), shown_type(&file.media_type)));
        }
        attributes
    }

    /// Deletes what is here of a message's files.
    pub(crate) fn forget(&mut self, message: &MessageId) {
        if let Some(at) = self.messages.iter().position(|kept| kept.message == *message)
            && let Some(kept) = self.messages.remove(at)
        {
            self.writing = None;
            self.delete(&kept);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(kept) = self.messages.pop_front() {
            self.delete(&kept);
        }
    }

    fn delete(&mut self, kept: &Kept) {
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        for path in &kept.paths {
            // claude may have moved it.
            let _gone = std::fs::remove_file(path);
        }
    }

    fn kept(&mut self, message: &MessageId) -> &mut Kept {
        if self.messages.back().is_none_or(|kept| kept.message != *message) {
            self.number += 1;
            let (message, number) = (message.clone(), self.number);
            self.messages.push_back(Kept { message, number, paths: Vec::new(), bytes: 0 });
        }
        self.messages.back_mut().expect("one was just put there")
    }

    fn create(&mut self, piece: &Piece) -> io::Result<(PathBuf, File)> {
        let number = self.kept(&piece.message).number;
        let extension = extension(&piece.media_type);
        let name = format!("{number}-{}.{extension}", piece.index + 1);
        let path = self.folder()?.join(name);
        let mut options = OpenOptions::new();
        // Never through a link, never over anything.
        options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&path)?;
        Ok((path, file))
    }

    fn folder(&mut self) -> io::Result<&Path> {
        if self.folder.is_none() {
            self.folder = Some(make_folder(&self.below)?);
        }
        self.folder.as_deref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _gone = std::fs::remove_dir_all(folder);
        }
    }
}

/// A new folder, of a name that nobody can have taken before.
fn make_folder(below: &Path) -> io::Result<PathBuf> {
    let random = getrandom::u64().map_err(|_| io::ErrorKind::Other)?;
    let folder = below.join(format!("synthesis-files-{random:016x}"));
    // Fails if there is anything of that name, a link included.
    DirBuilder::new().mode(0o700).create(&folder)?;
    // The process's umask takes away the right to enter it.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits());
    options.open(&folder)?.set_permissions(PermissionsExt::from_mode(0o700))?;
    Ok(folder)
}

/// claude's Read tool goes by the extension.
fn extension(media_type: &str) -> &'static str {
    match media_type.split(';').next().unwrap_or_default().trim() {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "application/pdf" => "pdf",
        "application/json" => "json",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/markdown" => "md",
        text if text.starts_with("text/") => "txt",
        _ => "bin",
    }
}

/// The client's name of a file as one plain word: no path, nothing that a terminal or a reader
/// could take for something else.
fn shown_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|char| !char.is_control() && !turns(*char)).collect();
    let plain = shorten(plain.trim().to_owned(), FILE_NAME);
    if plain.is_empty() { "file".to_owned() } else { plain }
}

/// Characters that change the direction in which text is read.
fn turns(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shown_type(media_type: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/.+-_".contains(&byte);
    let plain = media_type.split(';').next().unwrap_or_default().trim();
    if !plain.is_empty() && plain.len() <= MEDIA_TYPE && plain.bytes().all(fits) {
        plain.to_owned()
    } else {
        "application/octet-stream".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::FileId;

    fn piece(message: &str, index: usize, first: bool, last: bool, data: &[u8]) -> Piece {
        let message = MessageId::new(message).unwrap();
        let media_type = "image/png".to_owned();
        Piece { message, index, media_type, first, last, data: data.to_vec() }
    }

    fn refs(name: &str) -> FileRef {
        let media_type = "image/png".to_owned();
        FileRef { id: FileId::new("f").unwrap(), name: name.to_owned(), media_type, bytes: 1 }
    }

    fn paths(files: &Files, message: &str, count: usize) -> Vec<PathBuf> {
        let message = MessageId::new(message).unwrap();
        let refs = vec![refs("n"); count];
        let attributes = files.attributes(&message, &refs);
        attributes.iter().step_by(3).map(|(_, path)| PathBuf::from(path)).collect()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn pieces_make_a_file_that_only_its_user_can_read() {
        let below = tempfile::tempdir().unwrap();
        let mut files = Files::new(below.path().to_owned());
        files.keep(&piece("m", 0, true, false, b"he")).unwrap();
        files.keep(&piece("m", 0, false, true, b"llo")).unwrap();
        files.keep(&piece("m", 1, true, true, b"")).unwrap();
        let paths = paths(&files, "m", 2);
        assert_eq!(std::fs::read(&paths[0]).unwrap(), b"hello");
        assert_eq!(std::fs::read(&paths[1]).unwrap(), b"");
        assert_eq!(paths[0].file_name().unwrap(), "1-1.png");
        assert_eq!((mode(&paths[0]), mode(paths[0].parent().unwrap())), (0o600, 0o700));
        drop(files);
        assert_eq!(std::fs::read_dir(below.path()).unwrap().count(), 0, "gone with the channel");
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_a_file() {
        let below = tempfile::tempdir().unwrap();
        let mut files = Files::new(below.path().to_owned());
        files.keep(&piece("m", 0, true, true, b"x")).unwrap();
        let folder = paths(&files, "m", 1)[0].parent().unwrap().to_owned();
        let victim = below.path().join("victim");
        std::fs::write(&victim, "safe").unwrap();
        std::os::unix::fs::symlink(&victim, folder.join("2-1.png")).unwrap();
        std::fs::write(folder.join("3-1.png"), "mine").unwrap();
        assert!(files.keep(&piece("n", 0, true, true, b"evil")).is_err());
        assert!(files.keep(&piece("o", 0, true, true, b"evil")).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"safe");
        assert_eq!(std::fs::read(folder.join("3-1.png")).unwrap(), b"mine");
    }

    #[test]
    fn the_oldest_messages_files_go_when_there_is_too_much() {
        let below = tempfile::tempdir().unwrap();
        let mut files = Files::new(below.path().to_owned());
        let big = vec![0; usize::try_from(KEPT / 2).unwrap()];
        for message in ["a", "b"] {
            files.keep(&piece(message, 0, true, true, &big)).unwrap();
        }
        let first = paths(&files, "a", 1).remove(0);
        assert!(first.exists(), "as much as may be kept");
        files.keep(&piece("c", 0, true, true, b"x")).unwrap();
        assert!(!first.exists() && paths(&files, "a", 1).is_empty());
        assert!(paths(&files, "b", 1)[0].exists() && paths(&files, "c", 1)[0].exists());
        for index in 1..4 {
            files.keep(&piece("c", index, true, true, &big)).unwrap();
        }
        assert_eq!(paths(&files, "c", 4).iter().filter(|path| path.exists()).count(), 4);
    }

    #[test]
    fn what_is_forgotten_is_deleted_and_may_come_again() {
        let below = tempfile::tempdir().unwrap();
        let mut files = Files::new(below.path().to_owned());
        let message = MessageId::new("m").unwrap();
        files.keep(&piece("m", 0, true, false, b"half")).unwrap();
        let half = paths(&files, "m", 1).remove(0);
        files.forget(&message);
        assert!(!half.exists());
        assert!(files.keep(&piece("m", 0, false, true, b"rest")).is_err(), "of nothing");
        files.forget(&message);
        files.keep(&piece("m", 0, true, true, b"whole")).unwrap();
        assert_eq!(std::fs::read(&paths(&files, "m", 1)[0]).unwrap(), b"whole");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let mut files = Files::new(PathBuf::from("/nonexistent"));
        assert!(files.keep(&piece("m", 0, true, true, b"x")).is_err());
        assert!(files.attributes(&MessageId::new("m").unwrap(), &[refs("n")]).is_empty());
    }

    #[test]
    fn names_and_types_are_plain() {
        for (name, shown) in [
            ("cat.png", "cat.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\ü.txt", "ü.txt"),
            ("a\u{202e}gnp.exe\n\u{1b}[2J", "agnp.exe[2J"),
            ("/", "file"),
            ("", "file"),
            (" \t ", "file"),
        ] {
            assert_eq!(shown_name(name), shown, "{name:?}");
        }
        assert_eq!(shown_name(&"ü".repeat(200)).len(), 254);
        assert_eq!(shown_type("Text/Plain; charset=x"), "Text/Plain");
        for odd in ["", "a b", "x\"y", "é/é", &"x".repeat(300)] {
            assert_eq!(shown_type(odd), "application/octet-stream", "{odd}");
        }
        assert_eq!(extension("image/png; x=../../evil"), "png");
        assert_eq!(extension("text/x-rust"), "txt");
        assert_eq!(extension("application/x-sh"), "bin");
    }
}
