//! A store in SQLite that becomes one in PostgreSQL: whole, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dps_core::audit::{AuditFilter, Author, Principal};
use dps_core::ports::{Condition, Store, StoreError, WriteOrder};
use dps_proto::ids::InstanceSecret;
use rusqlite::Connection;
use tempfile::TempDir;

use super::everything::{by_port, rows_of_postgres, rows_of_sqlite};
use super::filled::{Certificates, SOURCE_KEY, fill, sealer};
use super::shell;
use crate::contract::fixtures::*;
use crate::postgres::server::{self, Server};
use crate::postgres::{FillError, PostgresOptions, PostgresStore};
use crate::transfer::{Kind, OF_POSTGRES_ALONE, TABLES};
use crate::{Sealed, SealingKey, SourceError, SqliteOptions, SqliteSource, SqliteStore, TableCount, Unsound};

/// Of the store that is made, where it has a key of its own.
const TARGET_KEY: u8 = 2;

/// A filled store in SQLite.
struct Source {
    directory: TempDir,
    certificates: Certificates,
}

impl Source {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = fill(&directory.path().join("store.db")).await;
        Self { directory, certificates }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn open(&self) -> Result<SqliteSource, SourceError> {
        SqliteSource::open(&self.path(), sealer(SOURCE_KEY))
    }

    /// Changes it as no program of ours would.
    fn change(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }

    /// Copies it to the database of these options, whose nodes have this sealing key.
    async fn copy(&self, options: &PostgresOptions, key: u8) -> Result<Vec<TableCount>, FillError> {
        PostgresStore::fill(options, sealer(key), self.open().unwrap(), &|_| {}).await
    }
}

#[track_caller]
fn refused(source: &Source) -> SourceError {
    source.open().err().unwrap()
}

/// DPS-STORE-40, DPS-STORE-42, DPS-STORE-45, DPS-STORE-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_tells_all_that_its_source_tells_with_the_same_sealing_key_and_with_another() {
    let source = Source::new().await;
    let mut copies = Vec::new();
    for key in [SOURCE_KEY, TARGET_KEY] {
        let options = server::shared().options();
        let counts = source.copy(&options, key).await.unwrap();
        assert!(counts.iter().all(|count| count.source == count.target && count.target > 0), "{counts:?}");
        copies.push(PostgresStore::open(&options, sealer(key)).await.unwrap());
    }
    let of_source = SqliteStore::open(&source.path(), SqliteOptions::default(), sealer(SOURCE_KEY)).unwrap();
    let expected = by_port(&of_source, &source.certificates).await;
    assert!(expected.len() > 300, "{}", expected.len());
    for copy in copies {
        let told = by_port(&copy, &source.certificates).await;
        for (told, expected) in told.iter().zip(&expected) {
            assert_eq!(told, expected);
        }
        assert_eq!(told.len(), expected.len());
    }
}

/// DPS-STORE-40: what the port does not tell is the same, too. That no column is empty in all rows makes the comparison worth something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_of_every_row_is_in_the_copy() {
    let source = Source::new().await;
    let options = server::shared().options();
    source.copy(&options, SOURCE_KEY).await.unwrap();
    let shell = shell(&options).await;
    for table in TABLES {
        let (columns, copied) = rows_of_postgres(&shell, table.name).await;
        assert_eq!(copied, rows_of_sqlite(&source.path(), table.name, &columns), "{}", table.name);
        for column in columns {
            let select = format!("SELECT count({column}) FROM {}", table.name);
            let values: i64 = shell.query_one(&select, &[]).await.unwrap().get(0);
            assert!(values > 0, "{}.{column} is NULL in every row", table.name);
        }
    }
}

/// DPS-STORE-40: a table or a column that a later migration makes must not be forgotten.
#[tokio::test]
async fn every_table_and_column_of_both_stores_is_copied_or_left_on_purpose() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    SqliteStore::migrate(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    let select = "SELECT tables.name, columns.name, columns.type
                  FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'";
    let mut statement = connection.prepare(select).unwrap();
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).unwrap();
    let in_sqlite: BTreeMap<(String, String), String> = rows.map(Result::unwrap).collect();

    let options = server::shared().options();
    PostgresStore::migrate(&options).await.unwrap();
    let select = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
                  WHERE table_schema = current_schema()";
    let rows = shell(&options).await.query(select, &[]).await.unwrap();
    let mut in_postgres: BTreeMap<(String, String), String> =
        rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    in_postgres.retain(|(table, _), _| !OF_POSTGRES_ALONE.contains(&table.as_str()));

    let (mut copied_from, mut copied_to) = (BTreeMap::new(), BTreeMap::new());
    for table in TABLES {
        for column in table.columns {
            let (of_sqlite, of_postgres) = match column.kind {
                Kind::Text | Kind::Prose => ("TEXT", "text"),
                Kind::Texts => ("TEXT", "ARRAY"),
                Kind::Bytes | Kind::Secret(_) => ("BLOB", "bytea"),
                Kind::Integer => ("INTEGER", "bigint"),
                Kind::Boolean => ("INTEGER", "boolean"),
                Kind::Uuid => ("BLOB", "uuid"),
            };
            let is_secret = matches!(column.kind, Kind::Secret(_));
            assert_eq!(column.name.starts_with("sealed_"), is_secret, "{}.{}", table.name, column.name);
            let name = |name: &str| (table.name.to_owned(), name.to_owned());
            copied_from.insert(name(column.source), of_sqlite.to_owned());
            copied_to.insert(name(column.name), of_postgres.to_owned());
        }
    }
    assert_eq!(copied_from, in_sqlite);
    assert_eq!(copied_to, in_postgres);
}

/// DPS-STORE-40
#[tokio::test]
async fn what_is_numbered_goes_on_above_what_was_copied() {
    let source = Source::new().await;
    source.change("UPDATE audit SET number = number + 70000; UPDATE instance SET number = number + 40");
    let options = server::shared().options();
    source.copy(&options, SOURCE_KEY).await.unwrap();
    let store = PostgresStore::open(&options, sealer(SOURCE_KEY)).await.unwrap();
    let known = store.id_scopes().await.unwrap();
    let fresh = "0neF4E54".parse().unwrap();
    store.open_instance(&fresh, InstanceSecret::new([7; 32])).await.unwrap();
    assert_eq!(store.id_scopes().await.unwrap(), [known, vec![fresh]].concat());
    let newest = async || {
        let records = store.audit_records(&scope(), &AuditFilter::default(), 1).await.unwrap();
        records.first().unwrap().number
    };
    let before = newest().await;
    assert!(before > 70_000, "{before}");
    let author = Author { principal: Principal::Admin, address: None, tracking_id: None, at: time(9) };
    let order = WriteOrder::by(author, Condition::Always);
    store.put_enrollment_group(&scope(), group("new", 1), order).await.unwrap();
    assert!(newest().await > before);
}

/// DPS-STORE-41, DPS-STORE-42
#[tokio::test]
async fn a_source_that_could_not_be_copied_whole_is_refused_and_left_as_it_is() {
    let source = Source::new().await;
    let good = fs::read(source.path()).unwrap();
    let after = |statements: &str| {
        fs::write(source.path(), &good).unwrap();
        source.change(statements);
        let before = fs::read(source.path()).unwrap();
        let why = refused(&source);
        assert_eq!(fs::read(source.path()).unwrap(), before, "{why}");
        why
    };
    for statements in [
        "ALTER TABLE registration ADD COLUMN newer TEXT",
        "CREATE TABLE newer (id_scope TEXT NOT NULL) STRICT",
    ] {
        let why = after(statements);
        assert!(matches!(&why, SourceError::Unknown { what, .. } if what.contains("newer")), "{why}");
    }
    let older = after("PRAGMA user_version = 10");
    assert!(matches!(older, SourceError::Older { found: 10, .. }), "{older}");
    let newer = after("PRAGMA user_version = 99").to_string();
    assert!(newer.contains("use a newer program"), "{newer}");
    let damaged =
        after("UPDATE instance SET sealed_secret = CAST(substr(sealed_secret, 1, 40) || x'00' AS BLOB)");
    assert!(matches!(damaged, SourceError::Sealed(Sealed::Unreadable(_))), "{damaged}");

    let page: u32 = Connection::open(source.path())
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'registration_key'", [], |row| row.get(0))
        .unwrap();
    let at = (page as usize - 1) * 4_096;
    let damaged = [&good[..at], &[0xFF; 64], &good[at + 64..]].concat();
    fs::write(source.path(), damaged).unwrap();
    let damaged = refused(&source);
    assert!(matches!(damaged, SourceError::Unsound(Unsound::Damaged { .. })), "{damaged}");

    fs::write(source.path(), &good).unwrap();
    let other = SqliteSource::open(&source.path(), sealer(TARGET_KEY)).err().unwrap();
    let key = |key| SealingKey::from_bytes([key; 32]).id();
    assert!(
        matches!(&other, SourceError::Sealed(Sealed::ByAnother { with, given, .. }) if (*with, *given) == (key(SOURCE_KEY), key(TARGET_KEY))),
        "{other}"
    );
    fs::write(source.path(), "").unwrap();
    assert!(matches!(refused(&source), SourceError::NoStore(_)));
    fs::remove_file(source.path()).unwrap();
    assert!(matches!(refused(&source), SourceError::NoStore(_)));
}

/// DPS-STORE-41, DPS-STORE-42: it is found in the middle of the copy.
#[tokio::test]
async fn a_secret_or_a_value_that_cannot_be_read_ends_the_copy_and_nothing_of_it_stays() {
    let source = Source::new().await;
    let good = fs::read(source.path()).unwrap();
    let options = server::shared().options();
    for (statements, expected) in [
        (
            "UPDATE hub_device SET sealed_keys = CAST(substr(sealed_keys, 1, 60) || x'00' AS BLOB) WHERE device_id = 'D-1'",
            "hub-device/0ne000000a1/hub.localhost/D-1 does not open",
        ),
        (
            "UPDATE enrollment_group SET sealed_webhook_url = (SELECT sealed_webhook_url FROM individual_enrollment
                 WHERE sealed_webhook_url IS NOT NULL) WHERE enrollment_group_id = 'full'",
            "enrollment-group/0ne000000a1/full/webhook does not open",
        ),
        ("UPDATE registration SET operation_guid = x'00'", "column operation_guid of the table registration"),
    ] {
        fs::write(source.path(), &good).unwrap();
        source.change(statements);
        for key in [SOURCE_KEY, TARGET_KEY] {
            let refused = source.copy(&options, key).await.unwrap_err();
            let FillError::Source(StoreError::Unreadable(why)) = &refused else { panic!("{refused}") };
            assert!(why.contains(expected), "{why}");
        }
    }
    fs::write(source.path(), &good).unwrap();
    source.copy(&options, SOURCE_KEY).await.unwrap();
}

/// DPS-STORE-43
#[tokio::test]
async fn a_store_that_has_anything_is_not_written_to() {
    let source = Source::new().await;
    let options = server::shared().options();
    let node = PostgresStore::open(&options, sealer(SOURCE_KEY)).await.unwrap();
    node.open_instance(&scope(), InstanceSecret::new([7; 32])).await.unwrap();
    let refused = source.copy(&options, SOURCE_KEY).await.unwrap_err();
    assert!(matches!(&refused, FillError::NotEmpty { table, .. } if **table == *"instance"), "{refused}");
    let secret = node.open_instance(&scope(), InstanceSecret::new([8; 32])).await.unwrap();
    assert_eq!(secret.expose(), &[7; 32]);

    let options = server::shared().options();
    source.copy(&options, SOURCE_KEY).await.unwrap();
    let again = source.copy(&options, SOURCE_KEY).await.unwrap_err();
    assert!(matches!(again, FillError::NotEmpty { .. }), "{again}");
}

/// DPS-STORE-43
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_copies_at_once_one_succeeds() {
    let (one, two) = (Source::new().await, Source::new().await);
    let options = server::shared().options();
    let done = tokio::join!(one.copy(&options, SOURCE_KEY), two.copy(&options, SOURCE_KEY));
    let (kept, refused) = match done {
        (Ok(_), Err(refused)) => (one, refused),
        (Err(refused), Ok(_)) => (two, refused),
        both => panic!("{both:?}"),
    };
    assert!(matches!(refused, FillError::NotEmpty { .. } | FillError::Busy), "{refused}");
    let shell = shell(&options).await;
    let (columns, copied) = rows_of_postgres(&shell, "individual_enrollment").await;
    assert_eq!(copied, rows_of_sqlite(&kept.path(), "individual_enrollment", &columns));
}

/// DPS-STORE-43: a node that saw empty tables would refuse every device.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_store_that_is_being_filled() {
    let source = Source::new().await;
    let options = server::shared().options();
    let hasty = PostgresOptions { statement_timeout: Duration::from_millis(200), ..options.clone() };
    let node = PostgresStore::open(&hasty, sealer(SOURCE_KEY)).await.unwrap();
    let before = node.settings_version().await.unwrap();
    let handle = tokio::runtime::Handle::current();
    let (seen, batches) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    let look = |_| {
        // Not after each, for a look takes until the node loses its patience.
        if batches.fetch_add(1, Ordering::SeqCst) % 6 > 0 {
            return;
        }
        let seen_now = tokio::task::block_in_place(|| {
            handle.block_on(async {
                [
                    node.look_up(&scope(), &device("d-keys")).await.is_ok(),
                    node.service_instances().await.is_ok(),
                    node.is_writable().await.is_ok(),
                    node.open_instance(&scope(), InstanceSecret::new([7; 32])).await.is_ok(),
                ]
            })
        });
        seen.lock().unwrap().insert(seen_now);
    };
    PostgresStore::fill(&options, sealer(SOURCE_KEY), source.open().unwrap(), &look).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([[false; 4]]));
    let found = node.look_up(&scope(), &device("d-keys")).await.unwrap();
    assert!(found.individual_enrollment.is_some());
    assert_ne!(node.settings_version().await.unwrap(), before, "a node that is up reads the settings again");
}

/// DPS-STORE-43
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_cut_off_in_the_middle_is_as_empty_as_before() {
    let server = Server::start(&[]);
    let source = Source::new().await;
    let options = PostgresOptions { connect_timeout: Duration::from_secs(1), ..server.options() };
    let rows = source.open().unwrap().rows();
    for after in [1, rows / 2, rows] {
        let written = AtomicU64::new(0);
        let kill = |so_far| {
            if written.swap(so_far, Ordering::SeqCst) < after && so_far >= after {
                tokio::task::block_in_place(|| server.kill());
            }
        };
        let source = source.open().unwrap();
        let failed = PostgresStore::fill(&options, sealer(SOURCE_KEY), source, &kill).await.unwrap_err();
        assert!(matches!(failed, FillError::Database(_)), "{failed}");
        assert!(written.load(Ordering::SeqCst) >= after);
        tokio::task::block_in_place(|| server.start_again());
        let shell = shell(&options).await;
        for table in TABLES {
            assert_eq!(rows_of_postgres(&shell, table.name).await.1, [""; 0], "{}", table.name);
        }
    }
    source.copy(&options, SOURCE_KEY).await.unwrap();
}

/// DPS-STORE-45
#[tokio::test]
async fn rows_that_did_not_arrive_are_counted_and_undo_the_copy() {
    let source = Source::new().await;
    let options = server::shared().options();
    PostgresStore::migrate(&options).await.unwrap();
    let shell = shell(&options).await;
    let trigger = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE OR REPLACE TRIGGER theirs BEFORE INSERT ON registration FOR EACH ROW EXECUTE FUNCTION theirs()"
        )
    };
    let some = "IF new.registration_id = 'd-7' THEN RETURN NULL; END IF; RETURN new;";
    shell.batch_execute(&trigger(some)).await.unwrap();
    let differs = source.copy(&options, SOURCE_KEY).await.unwrap_err();
    let FillError::Differs(counts) = &differs else { panic!("{differs}") };
    let differing: Vec<_> = counts.iter().filter(|count| count.source != count.target).collect();
    assert!(
        matches!(differing[..], [TableCount { table: "registration", source, target }] if source - target == 1)
    );
    assert!(differs.to_string().contains("registration "), "{differs}");

    shell.batch_execute(&trigger("RAISE EXCEPTION 'not on this day';")).await.unwrap();
    let refused = source.copy(&options, SOURCE_KEY).await.unwrap_err();
    assert!(refused.to_string().contains("not on this day"), "{refused}");
    let rows: i64 = shell.query_one("SELECT count(*) FROM instance", &[]).await.unwrap().get(0);
    assert_eq!(rows, 0);
}

/// DPS-STORE-44
#[tokio::test]
async fn a_source_is_read_no_further_than_it_is_taken() {
    let source = Source::new().await;
    source.change(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO audit (id_scope, at, action, subject_kind, subject, spelling)
         SELECT '0ne000000a1', 1, 'created', 'enrollment', 'd-' || i, 'd-' || i FROM n",
    );
    let audit = TABLES.iter().find(|table| table.name == "audit").unwrap();
    let opened = source.open().unwrap();
    let taken = |wanted: usize| {
        let mut batches = Vec::new();
        let take = &mut |batch: crate::transfer::Batch| {
            batches.push(batch.rows().len());
            batches.len() < wanted
        };
        opened.read(audit, &sealer(SOURCE_KEY), take).unwrap();
        batches
    };
    let (all, first) = (taken(usize::MAX), taken(1));
    assert!(all.len() > 10 && all.iter().sum::<usize>() > 20_000, "{all:?}");
    assert_eq!(first, all[..1]);
}
