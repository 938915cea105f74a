//! Tables that come to be, and change, while several nodes are about.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::shell;
use crate::Versions;
use crate::contract::fixtures::*;
use crate::postgres::pool::Connections;
use crate::postgres::schema::{self, Migration};
use crate::postgres::{PostgresOpenError, PostgresOptions, PostgresStore, server};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn works_from(works_from: i32, statements: &'static str) -> Migration {
    Migration { statements, works_from }
}

async fn run(
    options: &PostgresOptions,
    migrations: &[Migration],
    patience: Duration,
) -> Result<(), PostgresOpenError> {
    let connections = Connections::new(options, 1).unwrap();
    let mut session = connections.get().await.unwrap();
    schema::run(session.client_mut().unwrap(), &options.schema, migrations, patience).await
}

async fn version(shell: &Client) -> (i32, i32) {
    let row = shell
        .query_one("SELECT version, works_from FROM store WHERE lease_holder IS NULL", &[])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

async fn count(shell: &Client, table: &str) -> i64 {
    shell.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

/// DPS-STORE-16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_may_start_at_once_on_an_empty_database() {
    let options = server::shared().options();
    let mut nodes = JoinSet::new();
    for number in 0..8 {
        let options = options.clone();
        nodes.spawn(async move {
            let node = server::open(&options).await;
            put_group(&node, group(&format!("g-{number}"), 1)).await;
        });
    }
    nodes.join_all().await;
    let shell = shell(&options).await;
    assert_eq!((version(&shell).await, count(&shell, "enrollment_group").await), ((1, 1), 8));
}

/// DPS-STORE-16, DPS-CLI-36
#[tokio::test]
async fn the_version_of_tables_is_told_and_nothing_is_made_by_asking() {
    let options = server::shared().options();
    let newest = schema::newest();
    for _ in 0..2 {
        let versions = PostgresStore::versions(&options).await.unwrap();
        assert_eq!(versions, Versions { found: 0, newest });
    }
    assert_eq!(PostgresStore::migrate(&options).await.unwrap(), Versions { found: 0, newest });
    assert_eq!(PostgresStore::migrate(&options).await.unwrap(), Versions { found: newest, newest });
    assert_eq!(PostgresStore::versions(&options).await.unwrap(), Versions { found: newest, newest });
    let shell = shell(&options).await;
    shell.batch_execute("DROP TABLE store").await.unwrap();
    let refused = PostgresStore::versions(&options).await.unwrap_err();
    assert!(matches!(refused, PostgresOpenError::NotAStore(_)), "{refused}");
}

/// DPS-STORE-16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_migration_runs_once_and_in_order_however_many_nodes_want_it() {
    let options = server::shared().options();
    let all = [
        works_from(1, "CREATE TABLE first (a integer)"),
        works_from(1, "INSERT INTO first VALUES (1); SELECT pg_sleep(0.2)"),
        works_from(1, "INSERT INTO first SELECT a + 1 FROM first"),
    ];
    for (given, expected) in [(1, 0), (3, 2), (3, 2)] {
        let mut nodes = JoinSet::new();
        for _ in 0..8 {
            let options = options.clone();
            nodes.spawn(async move { run(&options, &all[..given], SECONDS(20)).await.unwrap() });
        }
        nodes.join_all().await;
        let shell = shell(&options).await;
        assert_eq!((version(&shell).await.0, count(&shell, "first").await), (given as i32, expected));
    }
}

/// DPS-STORE-16
#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind_and_is_named() {
    let options = server::shared().options();
    let broken = [
        works_from(1, "CREATE TABLE first (a integer)"),
        works_from(1, "CREATE TABLE second (a integer); CREATE TABLE first (a integer)"),
    ];
    let failed = run(&options, &broken, SECONDS(20)).await.unwrap_err();
    assert!(matches!(failed, PostgresOpenError::Migration { version: 2, .. }), "{failed}");
    assert!(failed.to_string().contains("already exists"), "{failed}");
    let shell = shell(&options).await;
    assert_eq!(version(&shell).await, (1, 1));
    run(&options, &[broken[0], works_from(1, "CREATE TABLE second (a integer)")], SECONDS(20)).await.unwrap();
}

/// DPS-STORE-16: devices do not wait behind a migration that waits for one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_finds_a_table_in_use_steps_back_and_tries_again() {
    let options = server::shared().options();
    let all = [
        works_from(1, "CREATE TABLE first (a integer); CREATE TABLE second (a integer)"),
        works_from(1, "ALTER TABLE first ADD COLUMN b integer; ALTER TABLE second ADD COLUMN b integer"),
    ];
    run(&options, &all[..1], SECONDS(20)).await.unwrap();
    let (mut slow, other) = (shell(&options).await, shell(&options).await);
    let in_use = slow.transaction().await.unwrap();
    in_use.batch_execute("LOCK TABLE second IN ROW EXCLUSIVE MODE").await.unwrap();
    let migration = tokio::spawn({
        let options = options.clone();
        async move { run(&options, &all, SECONDS(60)).await }
    });
    // It has the first table, wants the second one, and gives up the first: more than once.
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'second'::regclass";
    for _ in 0..2 {
        while other.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        other.batch_execute("INSERT INTO first VALUES (1)").await.unwrap();
        assert!(!migration.is_finished());
    }
    // Each has what the other wants.
    while other.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let of_both = async {
        in_use.batch_execute("LOCK TABLE first IN ROW EXCLUSIVE MODE").await?;
        in_use.commit().await
    };
    // The server chooses which of the two it ends.
    let _ = of_both.await;
    migration.await.unwrap().unwrap();
    other.batch_execute("SELECT first.b, second.b FROM first, second").await.unwrap();
    assert_eq!(version(&other).await, (2, 1));
}

/// DPS-STORE-16: a lease that was taken when another node had just done the step would else keep the next one waiting for a minute.
#[tokio::test]
async fn a_step_that_another_node_has_taken_is_not_taken_again() {
    let options = server::shared().options();
    run(&options, &[works_from(1, "CREATE TABLE first (a integer)")], SECONDS(20)).await.unwrap();
    let shell = shell(&options).await;
    let holder = uuid::Uuid::from_u128(1);
    shell
        .execute("UPDATE store SET lease_holder = $1, lease_until = now() + interval '1 min'", &[&holder])
        .await
        .unwrap();
    let connections = Connections::new(&options, 1).unwrap();
    let mut session = connections.get().await.unwrap();
    let again = works_from(1, "CREATE TABLE second (a integer)");
    assert!(!schema::step(session.client_mut().unwrap(), again, 1, holder).await.unwrap());
    assert_eq!(
        count(&shell, "pg_tables WHERE schemaname = current_schema() AND tablename = 'second'").await,
        0
    );
}

/// DPS-STORE-16
#[tokio::test]
async fn the_lease_of_a_node_that_died_runs_out() {
    let options = server::shared().options();
    let all =
        [works_from(1, "CREATE TABLE first (a integer)"), works_from(1, "CREATE TABLE second (a integer)")];
    run(&options, &all[..1], SECONDS(20)).await.unwrap();
    let shell = shell(&options).await;
    let lease = |seconds: u32| {
        format!(
            "UPDATE store SET lease_holder = gen_random_uuid(), lease_until = now() + interval '{seconds} s'"
        )
    };
    shell.batch_execute(&lease(60)).await.unwrap();
    let busy = run(&options, &all, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(busy, PostgresOpenError::Busy), "{busy}");
    shell.batch_execute(&lease(1)).await.unwrap();
    run(&options, &all, SECONDS(20)).await.unwrap();
    assert_eq!(version(&shell).await, (2, 1));
}

/// DPS-STORE-16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_lease_changes_nothing() {
    let options = server::shared().options();
    run(&options, &[works_from(1, "CREATE TABLE first (a integer)")], SECONDS(20)).await.unwrap();
    let mut shell = shell(&options).await;
    let holder = uuid::Uuid::from_u128(1);
    shell
        .execute("UPDATE store SET lease_holder = $1, lease_until = now()", &[&uuid::Uuid::from_u128(2)])
        .await
        .unwrap();
    let connections = Connections::new(&options, 1).unwrap();
    let mut session = connections.get().await.unwrap();
    let next = works_from(1, "CREATE TABLE second (a integer)");
    assert!(!schema::step(session.client_mut().unwrap(), next, 2, holder).await.unwrap());
    let transaction = shell.transaction().await.unwrap();
    assert!(transaction.query("SELECT * FROM second", &[]).await.is_err());
}

/// DPS-STORE-16: what a newer program has added is no reason for an older one to stop.
#[tokio::test]
async fn an_older_program_goes_on_beside_a_newer_one_unless_that_says_otherwise() {
    let options = server::shared().options();
    server::open(&options).await;
    let shell = shell(&options).await;
    shell
        .batch_execute("UPDATE store SET version = 7; ALTER TABLE registration ADD COLUMN newer text")
        .await
        .unwrap();
    let store = server::open(&options).await;
    committed(dps_core::ports::Store::commit(&store, first(record("d", 1))).await);
    shell.batch_execute("UPDATE store SET works_from = 6").await.unwrap();
    let refused = PostgresStore::open(&options, server::sealer()).await.err().unwrap();
    assert!(matches!(refused, PostgresOpenError::Newer { found: 7, needed: 6, known: 1 }), "{refused}");
    assert!(refused.to_string().contains("version 7"), "{refused}");
}

/// DPS-STORE-16
#[tokio::test]
async fn tables_of_another_program_are_left_alone() {
    let options = server::shared().options();
    let shell = shell(&options).await;
    let schema = options.schema.as_str();
    shell
        .batch_execute(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.theirs (a integer)"))
        .await
        .unwrap();
    let refused = PostgresStore::open(&options, server::sealer()).await.err().unwrap();
    assert!(matches!(refused, PostgresOpenError::NotAStore(_)), "{refused}");
    assert_eq!(count(&shell, "pg_tables WHERE schemaname = current_schema()").await, 1);
}

/// DPS-STORE-1
#[tokio::test]
async fn every_table_has_the_id_scope_first_in_a_unique_key_or_is_of_all_instances() {
    let options = server::shared().options();
    server::open(&options).await;
    let shell = shell(&options).await;
    let select = "SELECT t.relname, a.attname, obj_description(t.oid)
                  FROM pg_class t JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary
                  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
                  WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind = 'r'";
    let rows = shell.query(select, &[]).await.unwrap();
    assert_eq!(rows.len() as i64, count(&shell, "pg_tables WHERE schemaname = current_schema()").await);
    for row in rows {
        let (table, first, comment): (&str, &str, Option<&str>) = (row.get(0), row.get(1), row.get(2));
        let expected = match table {
            "store" => "only_row",
            "turn" => "name",
            // Its number says what came first; each list is of one ID scope.
            "audit" => "number",
            _ => "id_scope",
        };
        assert_eq!(first, expected, "{table}");
        assert!(comment.is_some(), "{table} has no comment");
    }
}

/// DPS-STORE-14: where the database sorts by a language, keys are compared byte by byte all the same.
#[tokio::test]
async fn every_text_of_a_key_is_compared_byte_by_byte() {
    let options = server::shared().options();
    server::open(&options).await;
    let shell = shell(&options).await;
    let sorts_by_bytes: bool = shell.query_one("SELECT 'B' < 'a'", &[]).await.unwrap().get(0);
    assert!(!sorts_by_bytes, "the test needs a database that sorts otherwise");
    let select = "SELECT i.indexrelid::regclass::text, k.of_column::regcollation::text
                  FROM pg_index i CROSS JOIN LATERAL unnest(i.indcollation) AS k (of_column)
                  JOIN pg_class t ON t.oid = i.indrelid
                  WHERE t.relnamespace = current_schema()::regnamespace AND k.of_column <> 0";
    for row in shell.query(select, &[]).await.unwrap() {
        let (index, collation): (&str, &str) = (row.get(0), row.get(1));
        // The policy's words are compared for equality alone.
        assert!(collation == "\"C\"" || index.ends_with("_policy"), "{index}: {collation}");
    }
}

/// DPS-INST-8: a table that is added later must not be forgotten.
#[tokio::test]
async fn every_table_of_an_instance_is_swept_or_kept_on_purpose() {
    let kept = ["audit", "enrollment_group_version", "ca_certificate_version", "store", "turn"];
    // Deleted with the settings, and at last.
    let deleted_otherwise = ["instance", "linked_hub", "shared_access_policy"];
    let options = server::shared().options();
    server::open(&options).await;
    let select = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    for row in shell(&options).await.query(select, &[]).await.unwrap() {
        let table: &str = row.get(0);
        let is_swept = crate::postgres::sweep::SWEPT.contains(&table);
        assert!(is_swept || kept.contains(&table) || deleted_otherwise.contains(&table), "{table}");
    }
}
