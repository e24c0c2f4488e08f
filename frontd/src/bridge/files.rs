//! Files of a message, piece by piece, for the channel of the session whose message it is.

use bytes::Bytes;
use data_encoding::BASE64;
use proto::bridge::FromFrontd;
use proto::ids::FileId;
use proto::limits::FILE_CHUNK;

use crate::app::App;
use crate::run::RunId;
use crate::session::directory::Door;

/// What the bridge calls a file of a run's message.
pub fn id(run: RunId, index: usize) -> FileId {
    FileId::new(format!("{}-{index}", run.message_id())).expect("digits and a number")
}

fn parse(id: &FileId) -> Option<(RunId, usize)> {
    let (run, index) = id.as_str().split_once('-')?;
    let message = proto::ids::MessageId::new(run).ok()?;
    Some((RunId::of_message(&message)?, index.parse().ok()?))
}

/// The file that a channel is reading, so that each piece of it is not a read of all of it.
#[derive(Default)]
pub struct Files {
    open: Option<(FileId, Bytes)>,
}

impl Files {
    /// The answer to `file_get`.
    pub async fn piece(&mut self, id: FileId, offset: u64, door: &Door, app: &App) -> FromFrontd {
        let Some(data) = self.open(&id, door, app).await else {
            return FromFrontd::NoFile { id };
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start > data.len() {
            return FromFrontd::NoFile { id };
        }
        let end = start.saturating_add(FILE_CHUNK).min(data.len());
        let last = end == data.len();
        if last {
            self.open = None;
        }
        FromFrontd::File { id, offset, data: BASE64.encode(&data[start..end]), last }
    }

    async fn open(&mut self, id: &FileId, door: &Door, app: &App) -> Option<Bytes> {
        if let Some((open, data)) = &self.open
            && open == id
        {
            return Some(data.clone());
        }
        let (run, index) = parse(id)?;
        // Another session's file does not exist for this one.
        app.runs.find(run).filter(|run| run.key() == &door.key)?;
        let data = app.store.file(run, index).await.ok()??.data;
        self.open = Some((id.clone(), data.clone()));
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_id_names_its_run_and_place() {
        let run = RunId::random();
        assert_eq!(parse(&id(run, 7)), Some((run, 7)));
        for wrong in ["a-1", "-1", "0", &format!("{}-x", run.message_id())] {
            assert_eq!(FileId::new(wrong).ok().and_then(|id| parse(&id)), None, "{wrong}");
        }
    }
}
