//! Backups of a store that is in use, and stores that are made of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::DataDir;
use crate::Versions;
use crate::sqlite::unfinished::beside;

/// A data directory with a store that was filled, and its backup.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        let store = open(&place.store());
        fill(&store).await;
        link_hub_outside(&store).await;
        SqliteStore::back_up(&place.store(), &place.backup()).unwrap();
        place
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn backup(&self) -> PathBuf {
        self.directory.path().join("backup.db")
    }

    /// Restores `backup` with this key into the directory `to`.
    fn restore(&self, to: &str, key: u8, occupied: Occupied) -> Result<Restored, RestoreError> {
        let data_dir = DataDir::open(self.directory.path().join(to)).unwrap();
        restore(&self.backup(), &data_dir, key, occupied)
    }
}

fn restore(backup: &Path, data_dir: &DataDir, key: u8, occupied: Occupied) -> Result<Restored, RestoreError> {
    let sealer = Sealer::new(&SealingKey::from_bytes([key; 32]));
    SqliteStore::restore(backup, (data_dir, "store.db"), &sealer, occupied)
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

/// DPS-STORE-30, DPS-STORE-31
#[tokio::test]
async fn a_backup_of_a_store_in_use_becomes_a_store_with_all_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("store.db"), directory.path().join("backup.db"));
    let store = open(&path);
    fill(&store).await;
    let instance = link_hub_outside(&store).await;
    let contents = SqliteStore::back_up(&path, &backup).unwrap();
    let counted = (
        contents.instances,
        contents.individual_enrollments,
        contents.enrollment_groups,
        contents.registrations,
        contents.hub_devices,
    );
    assert_eq!(counted, (1, 1, 2, 2, 1), "{contents:?}");
    assert_eq!(contents.version, schema::newest());
    assert_eq!(contents.bytes, fs::metadata(&backup).unwrap().len());
    assert_eq!(contents.sealing_keys, [SealingKey::from_bytes([1; 32]).id()]);
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(directory.path()), ["backup.db", "store.db", "store.db-shm", "store.db-wal"]);
    // Of this it knows nothing.
    put(&store, enrollment("later", 3)).await;

    let data_dir = DataDir::open(directory.path().join("restored")).unwrap();
    let restored = restore(&backup, &data_dir, 1, Occupied::Refuse).unwrap();
    assert_eq!((&restored.contents, restored.aside), (&contents, None));
    assert_eq!(names(data_dir.path()), ["lock", "store.db"]);
    let store = open(&data_dir.path().join("store.db"));
    let found = store.look_up(&scope(), &device("device-1")).await.unwrap();
    assert_eq!(found.registration, Some(record("Device-1", 1)));
    let entry = found.individual_enrollment.unwrap();
    assert_eq!(shown_enrollment(&entry), shown_enrollment(&enrollment("Device-1", 0xA2)));
    let kept = store.service_instance(&scope()).await.unwrap().unwrap();
    assert_eq!(kept.etag, instance.etag);
    let later = store.look_up(&scope(), &device("later")).await.unwrap();
    assert!(later.individual_enrollment.is_none());
}

/// DPS-STORE-30
#[tokio::test]
async fn a_backup_is_made_of_what_a_crash_has_left_and_leaves_it_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    fill(&store).await;
    let crashed = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    let files = || ["store.db", "store.db-wal"].map(|name| fs::read(crashed.path().join(name)).unwrap());
    let before = files();
    let backup = directory.path().join("backup.db");
    let contents = SqliteStore::back_up(&crashed.path().join("store.db"), &backup).unwrap();
    assert_eq!(contents.registrations, 2);
    assert_eq!(files(), before);
}

/// DPS-STORE-30
#[tokio::test]
async fn a_backup_writes_over_nothing_and_leaves_nothing_of_itself_where_it_fails() {
    let place = Place::new().await;
    let before = fs::read(place.backup()).unwrap();
    let exists = SqliteStore::back_up(&place.store(), &place.backup()).unwrap_err();
    assert!(matches!(exists, BackupError::Exists(_)), "{exists}");
    assert_eq!(fs::read(place.backup()).unwrap(), before);

    let missing = SqliteStore::back_up(&place.directory.path().join("no.db"), &place.backup()).unwrap_err();
    assert!(matches!(missing, BackupError::NoStore(_)), "{missing}");
    let nowhere = place.directory.path().join("nowhere/backup.db");
    let nowhere = SqliteStore::back_up(&place.store(), &nowhere).unwrap_err();
    assert!(nowhere.to_string().contains("nowhere/backup.db: No such file"), "{nowhere}");

    // A page of an index, so that every row can still be read.
    let connection = Connection::open(place.store()).unwrap();
    let page: u32 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'registration_key'", [], |row| row.get(0))
        .unwrap();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    failing_disk::damage_page(&place.store(), page);
    let damaged = SqliteStore::back_up(&place.store(), &place.directory.path().join("other.db")).unwrap_err();
    assert!(matches!(damaged, BackupError::Unsound(_)), "{damaged}");
    assert!(damaged.to_string().contains("the copy is not sound, and neither may be the store"), "{damaged}");
    // SQLite keeps the store's log where nobody else has it open.
    assert_eq!(names(place.directory.path()), ["backup.db", "store.db", "store.db-shm", "store.db-wal"]);
}

/// DPS-STORE-31
#[tokio::test]
async fn a_store_that_is_there_stays_or_is_moved_aside_whole() {
    let place = Place::new().await;
    place.restore("data", 1, Occupied::Refuse).unwrap();
    let data = place.directory.path().join("data");
    // What a crash leaves: the last writes stand in the log alone.
    let store = open(&data.join("store.db"));
    put(&store, enrollment("later", 3)).await;
    let crashed = tempfile::tempdir().unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(data.join(name), crashed.path().join(name)).unwrap();
    }
    let data_dir = DataDir::open(crashed.path()).unwrap();
    let refused = restore(&place.backup(), &data_dir, 1, Occupied::Refuse).unwrap_err();
    assert!(matches!(refused, RestoreError::Occupied(_)), "{refused}");

    let aside = restore(&place.backup(), &data_dir, 1, Occupied::MoveAside).unwrap().aside.unwrap();
    let again = restore(&place.backup(), &data_dir, 1, Occupied::MoveAside).unwrap().aside.unwrap();
    assert_ne!(aside, again);
    assert!(!names(crashed.path()).iter().any(|name| name.starts_with("store.db-")), "no log of another");
    for (path, is_there) in [(aside, true), (crashed.path().join("store.db"), false), (again, false)] {
        let found = open(&path).look_up(&scope(), &device("later")).await.unwrap();
        assert_eq!(found.individual_enrollment.is_some(), is_there, "{}", path.display());
    }
}

/// DPS-STORE-31
#[tokio::test]
async fn a_store_too_damaged_to_be_opened_is_moved_aside_as_it_is() {
    let place = Place::new().await;
    let data = place.directory.path().join("data");
    let data_dir = DataDir::open(&data).unwrap();
    fs::write(data.join("store.db"), "no database at all, and longer than its head would be".repeat(9))
        .unwrap();
    fs::write(data.join("store.db-wal"), "no log either").unwrap();
    let aside = restore(&place.backup(), &data_dir, 1, Occupied::MoveAside).unwrap().aside.unwrap();
    assert!(fs::read_to_string(&aside).unwrap().starts_with("no database"));
    assert!(!beside(&data.join("store.db"), "-wal").exists());
    let store = open(&data.join("store.db"));
    assert!(store.look_up(&scope(), &device("device-1")).await.unwrap().registration.is_some());
}

/// DPS-STORE-31
#[tokio::test]
async fn a_backup_that_could_not_be_used_replaces_nothing() {
    let place = Place::new().await;
    place.restore("data", 1, Occupied::Refuse).unwrap();
    let data = place.directory.path().join("data");
    let before = (names(&data), fs::read(data.join("store.db")).unwrap());
    let check = |expected: &str, key: u8| {
        let refused = place.restore("data", key, Occupied::MoveAside).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected:?} in {refused}");
        assert_eq!((names(&data), fs::read(data.join("store.db")).unwrap()), before, "{refused}");
    };
    let key = |byte| SealingKey::from_bytes([byte; 32]).id();
    check(&format!("sealed with key {}, and the sealing key that was given is {}", key(1), key(2)), 2);

    let good = fs::read(place.backup()).unwrap();
    let change = |statement: &str| {
        fs::write(place.backup(), &good).unwrap();
        Connection::open(place.backup()).unwrap().execute_batch(statement).unwrap();
    };
    change("UPDATE instance SET sealed_secret = CAST(substr(sealed_secret, 1, 40) || x'00' AS BLOB)");
    check("damaged, or moved from another row", 1);
    change("UPDATE linked_hub SET sealed_connection_string = x'090000000000000000'");
    check("sealed in form 9", 1);
    change("PRAGMA user_version = 99");
    check("use a newer program", 1);
    change("PRAGMA application_id = 7");
    check("not one of Harbormaster's", 1);
    fs::write(place.backup(), &good[..good.len() - 8_192]).unwrap();
    check("damaged", 1);
    fs::write(place.backup(), "no database at all").unwrap();
    check("no SQLite database", 1);
    fs::remove_file(place.backup()).unwrap();
    check("there is no backup at", 1);
}

/// DPS-STORE-7
#[tokio::test]
async fn the_version_of_a_store_is_told_and_made_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let newest = schema::newest();
    assert_eq!(SqliteStore::versions(&path).unwrap(), Versions { found: 0, newest });
    assert!(!path.exists());
    assert_eq!(SqliteStore::migrate(&path).unwrap(), Versions { found: 0, newest });
    assert_eq!(SqliteStore::migrate(&path).unwrap(), Versions { found: newest, newest });
    let store = open(&path);
    assert_eq!(SqliteStore::versions(&path).unwrap(), Versions { found: newest, newest }, "while in use");
    store.close();
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(SqliteStore::versions(&path), Err(OpenError::Newer { found: 99, .. })));
}
