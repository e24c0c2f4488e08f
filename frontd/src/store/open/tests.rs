use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::run::RunId;
use crate::store::fixture::{KEEP, append, begin, conversation_of, end, key};
use crate::store::{Change, StoreHandle};

/// The ways to a store that is then damaged.
struct Site {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synthesis.db");
        Self { folder, path }
    }

    fn open(&self) -> Result<StoreHandle, StoreError> {
        StoreHandle::open(&self.path, KEEP)
    }

    fn aside(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("synthesis.db.corrupt-{number}"))
    }

    /// More than is checked in full, in runs of one event each.
    async fn fill(&self) -> Vec<RunId> {
        let store = self.open().unwrap();
        let runs: Vec<RunId> = (0..1500).map(|_| RunId::random()).collect();
        for some in runs.chunks(100) {
            let mut changes = Vec::new();
            for run in some {
                let conversation = Change::Conversation(conversation_of(&run.to_string()));
                changes.extend([conversation, begin(*run, "a")]);
                changes.extend([append(*run, 1, &"x".repeat(3500)), end(*run, 1)]);
            }
            store.committed(changes).await.unwrap();
        }
        drop(store);
        let pages = fs::metadata(&self.path).unwrap().len() / 4096;
        assert!(pages > CHECKED_PAGES as u64 + 400, "{pages}");
        runs
    }

    fn damage(&self, pages: impl Iterator<Item = usize>) -> Vec<u8> {
        let mut bytes = fs::read(&self.path).unwrap();
        for page in pages {
            bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
        }
        fs::write(&self.path, &bytes).unwrap();
        bytes
    }
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date() {
    let site = Site::new();
    let old = Connection::open(&site.path).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let sql = "INSERT INTO conversations VALUES
        (?1, 'local', 'd3486ae9-136e-4c5f-bfa2-212385620845', 'alice', '/srv', 10, 11)";
    old.execute(sql, [key("a").as_str()]).unwrap();
    drop(old);
    for _ in 0..2 {
        let store = site.open().unwrap();
        let (conversation, seen) = store.conversation(key("a")).await.unwrap().unwrap();
        assert_eq!((conversation.workspace.as_str(), seen.len()), ("/srv", 0));
        let listed = &store.sessions(Some("local".to_owned()), None, 9).await.unwrap()[0];
        assert_eq!((listed.created, listed.last_used), (10, 11));
        let run = RunId::random();
        store.committed(vec![begin(run, "a"), append(run, 1, "x"), end(run, 1)]).await.unwrap();
    }
    let files = open(&site.path).unwrap().files;
    let mode: i64 = files.writer.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, 2, "it can shrink in steps");
}

#[tokio::test]
async fn nobody_else_can_read_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frontd/synthesis.db");
    let store = StoreHandle::open(&path, KEEP).unwrap();
    store.committed(vec![begin(RunId::random(), "a")]).await.unwrap();
    mark_corrupt(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn a_corrupt_store_is_set_aside_and_never_overwritten() {
    let site = Site::new();
    for (number, junk) in [
        (1, "this is no database, and longer than a header of one is it"),
        (2, "nor this, this is just a text that is as long as it is"),
    ] {
        let junk = junk.repeat(20);
        fs::write(&site.path, &junk).unwrap();
        assert_eq!(open(&site.path).unwrap().set_aside, Some(site.aside(number)));
        assert_eq!(fs::read_to_string(site.aside(number)).unwrap(), junk);
        let store = site.open().unwrap();
        store.committed(vec![begin(RunId::random(), "a")]).await.unwrap();
    }
}

#[tokio::test]
async fn a_small_store_with_a_damaged_page_anywhere_is_set_aside_at_the_start() {
    let site = Site::new();
    let store = site.open().unwrap();
    for user in 0..500 {
        let conversation = conversation_of(&user.to_string());
        store.committed(vec![Change::Conversation(conversation)]).await.unwrap();
    }
    drop(store);
    let last = fs::metadata(&site.path).unwrap().len() as usize / 4096 - 1;
    let bytes = site.damage([last].into_iter());
    assert_eq!(open(&site.path).unwrap().set_aside, Some(site.aside(1)));
    assert_eq!(fs::read(site.aside(1)).unwrap(), bytes);
    assert_eq!(site.open().unwrap().conversation(key("1")).await.unwrap(), None);
}

#[tokio::test]
async fn a_large_store_with_damaged_roots_is_set_aside_at_the_start() {
    let site = Site::new();
    site.fill().await;
    let whole = fs::read(&site.path).unwrap();
    let roots: Vec<usize> = {
        let connection = Connection::open(&site.path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE rootpage > 0";
        let mut statement = connection.prepare(sql).unwrap();
        let found = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        found.map(|root| usize::try_from(root.unwrap()).unwrap() - 1).collect()
    };
    assert!(roots.len() > 12);
    for root in roots {
        fs::write(&site.path, &whole).unwrap();
        let bytes = site.damage([root].into_iter());
        let aside = open(&site.path).unwrap().set_aside.unwrap_or_else(|| panic!("page {root}"));
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        fs::remove_file(aside).unwrap();
    }
}

#[tokio::test]
async fn damage_met_later_stops_the_store_and_sets_it_aside_at_the_next_start() {
    let site = Site::new();
    let runs = site.fill().await;
    // Some events in the middle; neither end of any tree.
    let pages = fs::metadata(&site.path).unwrap().len() as usize / 4096;
    let bytes = site.damage(pages / 2..pages / 2 + 40);
    let store = site.open().unwrap();
    assert!(!store.is_failing());
    let mut corrupt = None;
    for run in &runs {
        let read = store.events(*run, 0).await;
        let row = store.run(*run).await;
        corrupt = corrupt.or(read.err()).or(row.err());
    }
    let corrupt = corrupt.expect("the damage was met");
    assert_eq!(corrupt.cause(), Cause::Corrupt);
    assert!(store.is_failing());
    let refused = store.committed(vec![begin(RunId::random(), "a")]).await.unwrap_err();
    assert!(matches!(*refused, StoreError::Corrupt));
    assert!(matches!(store.run(runs[0]).await, Err(StoreError::Corrupt)));
    drop(store);
    assert_eq!(fs::read(&site.path).unwrap().len(), bytes.len(), "nothing was written");

    let store = site.open().unwrap();
    assert!(!store.is_failing());
    assert_eq!(fs::read(site.aside(1)).unwrap(), bytes);
    store.committed(vec![begin(RunId::random(), "a")]).await.unwrap();
    drop(store);
    // Once.
    assert_eq!(open(&site.path).unwrap().set_aside, None);
}

#[test]
fn a_mark_that_outlived_its_file_harms_no_other() {
    let site = Site::new();
    mark_corrupt(&site.path).unwrap();
    assert_eq!(open(&site.path).unwrap().set_aside, None);
    assert_eq!(fs::read_dir(site.folder.path()).unwrap().count(), 1);
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let site = Site::new();
    let files = open(&site.path).unwrap().files;
    files.writer.pragma_update(None, "user_version", 99).unwrap();
    drop(files);
    let before = fs::read(&site.path).unwrap();
    let refused = open(&site.path).err();
    assert!(matches!(refused, Some(StoreError::Newer { found: 99, known: 2, .. })));
    assert_eq!(fs::read_dir(site.folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read(&site.path).unwrap(), before);
}

#[tokio::test]
async fn a_row_that_is_not_ours_is_an_error_and_no_panic() {
    let site = Site::new();
    let store = site.open().unwrap();
    let run = RunId::random();
    let conversation = Change::Conversation(conversation_of("a"));
    store.committed(vec![conversation, begin(run, "a"), append(run, 1, "x")]).await.unwrap();
    let other = Connection::open(&site.path).unwrap();
    let spoil = |sql: &str| other.execute(sql, []).unwrap();
    for (column, value) in [("conversation", "x"), ("unix_user", "-root"), ("workspace", "a")] {
        spoil("SAVEPOINT s");
        spoil(&format!("UPDATE conversations SET {column} = '{value}'"));
        spoil("RELEASE s");
        let read = store.conversation(key("a")).await;
        assert!(matches!(read, Err(StoreError::Query { .. })), "{column}");
    }
    spoil("UPDATE events SET json = x'7b7d'");
    assert!(store.events(run, 0).await.is_err());
    for change in ["outcome = '{}'", "created = -1", "id = x'00'", "outcome = NULL, finished = -5"]
    {
        spoil(&format!("UPDATE runs SET {change}"));
        assert!(store.unfinished().await.is_err(), "{change}");
    }
    assert!(!store.is_failing(), "one bad row is no corrupt file");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = open(&file.join("synthesis.db")).err().unwrap();
    assert!(refused.to_string().contains("file/synthesis.db"), "{refused}");
}
