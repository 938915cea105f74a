//! A disk that is full, gives back other bytes, or may not be written.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use super::*;

/// Writes over the head of a page, which are numbered from 1. Nobody has the database open.
pub(super) fn damage_page(path: &Path, page: u32) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(u64::from(page - 1) * 4_096)).unwrap();
    file.write_all(&[0xFF; 64]).unwrap();
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(asked: Result<T, StoreError>, path: &Path, expected: &str) {
    let Err(StoreError::Unavailable(why)) = asked else { panic!("{asked:?}") };
    let begins = format!("{}: {expected}", path.display());
    assert!(why.starts_with(&begins), "{begins:?} in {why}");
}

/// DPS-STORE-32
#[tokio::test]
async fn a_full_disk_is_told_with_the_file_and_does_not_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    let limit = |pages: u32| {
        move |connection: &Connection| {
            Ok(connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
        }
    };
    // SQLite takes the pages there are for the least; the first write that needs another one meets a full disk.
    store.writer.write(limit(1)).await.unwrap();
    let mut stored = 0;
    let refused = loop {
        let write = first(record(&format!("more-{stored}"), 1));
        match store.commit(write).await {
            Ok(_) => stored += 1,
            Err(why) => break why,
        }
        assert!(stored < 1_000, "the disk is never full");
    };
    unavailable::<()>(Err(refused), &path, "the disk is full: make room");
    let found = store.look_up(&scope(), &device(&format!("more-{stored}"))).await.unwrap();
    assert_eq!(found.registration, None, "what was refused was not written");
    store.writer.write(limit(1_000_000)).await.unwrap();
    committed(store.commit(first(record(&format!("more-{stored}"), 1))).await);
}

/// DPS-STORE-33
#[tokio::test]
async fn a_damaged_page_is_unreadable_and_the_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    fill(&store).await;
    store.close();
    let connection = Connection::open(&path).unwrap();
    let select = "SELECT rootpage FROM sqlite_schema WHERE name = 'registration'";
    let page: u32 = connection.query_row(select, [], |row| row.get(0)).unwrap();
    drop(connection);
    damage_page(&path, page);

    let store = open(&path);
    unreadable(store.look_up(&scope(), &device("device-1")).await, "store.db: a page of it is damaged");
    let write = store.commit(first(record("device-1", 1))).await;
    unreadable(write, "store.db: a page of it is damaged");
    assert_eq!(store.id_scopes().await.unwrap(), [scope()]);
    put(&store, enrollment("another", 1)).await;
}

/// DPS-STORE-34
#[test]
fn a_database_that_may_not_be_written_or_is_damaged_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    open(&path).close();
    let good = fs::read(&path).unwrap();
    damage_page(&path, 1);
    assert!(matches!(open::open(&path, &SqliteOptions::default()), Err(OpenError::Damaged)));
    fs::write(&path, good).unwrap();
    // The one who may do everything may write it all the same: a file system that nobody may write is tried by `serve`.
    let connection = Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    assert!(matches!(open::must_be_writable(&connection), Err(OpenError::ReadOnly)));
}

/// DPS-STORE-35
#[tokio::test]
async fn who_reads_for_long_does_not_hold_up_writes_however_large_the_log_grows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let options = SqliteOptions { synchronous: Synchronous::Off, ..SqliteOptions::default() };
    let sealer = Sealer::new(&SealingKey::from_bytes([1; 32]));
    let store = SqliteStore::open(&path, options, sealer).unwrap();
    fill(&store).await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM registration").unwrap();
    let large = |connection: &Connection| {
        Ok(connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS filler (bytes BLOB) STRICT; INSERT INTO filler VALUES (zeroblob(80000000))",
        )?)
    };
    store.writer.write(large).await.unwrap();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    // Several times as long as the checkpointer waits between two tries.
    while began.elapsed() < Duration::from_secs(2) {
        let write = Instant::now();
        store.is_writable().await.unwrap();
        longest = longest.max(write.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "a write took {longest:?}");
}
