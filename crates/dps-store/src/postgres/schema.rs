//! The shape of the tables and how it came to be. Spec: DPS-STORE-7, DPS-STORE-16, DPS-NODE-20.
//!
//! Any number of nodes may start at once: who brings the tables to a newer version holds a lease, a row with a name and a time, and the
//! others wait. A lease whose holder has died runs out. Each migration is a transaction that begins with a look at the lease, under a lock
//! on its row, and ends with the new version: whoever lost the lease meanwhile changes nothing.
//!
//! Nodes of the version before go on while a migration runs and after it, until each of them is replaced. So a migration adds: tables,
//! columns that may be NULL or have a default, indexes. What an older program would do wrong, because it does not know of it, comes with a
//! higher [`Migration::works_from`], and with a word in the changelog: older nodes are stopped first then. Columns that no program of a
//! version that may run reads are dropped later.

use std::time::Duration;

use deadpool_postgres::{Client, Transaction};
use tokio::time::{Instant, sleep};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::fault::text_of;
use super::options::{PostgresOpenError, SchemaName};

/// In order; the row of `store` says how many of them a database has had. One that was released never changes.
const MIGRATIONS: &[Migration] =
    &[Migration { statements: include_str!("migrations/0001_first.sql"), works_from: 1 }];

/// How long a lease lasts; it is renewed with each migration, which may take no longer.
const LEASE: Duration = Duration::from_secs(60);
/// How long it is waited before somebody else's lease is looked at again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a migration waits for a table that nodes of the version before use. All that they ask of it comes after the migration then.
const LOCKED_WITHIN: Duration = Duration::from_secs(1);
/// How long nodes have the tables for themselves before the migration tries again.
const CONTENDED_PAUSE: Duration = Duration::from_secs(1);

/// One step to a newer version.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    pub(super) statements: &'static str,
    /// The oldest version of a program that works with the tables after it.
    pub(super) works_from: i32,
}

/// Brings the tables to the newest version, or waits until another node has. Tables of another program, or of a version that this one
/// cannot work with, are refused and left as they are.
pub(super) async fn migrate(
    client: &mut Client,
    schema: &SchemaName,
    patience: Duration,
) -> Result<(), PostgresOpenError> {
    run(client, schema, MIGRATIONS, patience).await
}

pub(super) async fn run(
    client: &mut Client,
    schema: &SchemaName,
    migrations: &[Migration],
    patience: Duration,
) -> Result<(), PostgresOpenError> {
    let deadline = Instant::now() + patience;
    let holder = lease_holder(client).await?;
    make_lease(client, schema).await?;
    loop {
        let version = version(client, migrations.len()).await?;
        if version as usize >= migrations.len() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(PostgresOpenError::Busy);
        }
        if !take_lease(client, holder).await? {
            sleep(PAUSE).await;
            continue;
        }
        let next = migrations[version as usize];
        match step(client, next, version + 1, holder).await {
            Ok(true) => {}
            // Another node had taken this step between the look at the version and the lease.
            Ok(false) => give_lease_back(client, holder).await?,
            Err(error) if is_contended(&error) => {
                give_lease_back(client, holder).await?;
                tracing::info!(
                    migration = version + 1,
                    reason = %text_of(&error),
                    "other nodes are using the tables; the migration is tried again"
                );
                sleep(CONTENDED_PAUSE).await;
            }
            Err(error) => {
                give_lease_back(client, holder).await?;
                return Err(PostgresOpenError::Migration { version: version + 1, why: text_of(&error) });
            }
        }
    }
}

/// The version that this program brings tables to.
pub(super) fn newest() -> usize {
    MIGRATIONS.len()
}

/// The version of the tables, 0 where there are none.
pub(super) async fn found(client: &Client, schema: &SchemaName) -> Result<usize, PostgresOpenError> {
    let there = look(client, schema).await?;
    match there {
        There { has_store: true, .. } => Ok(version(client, newest()).await?.try_into().unwrap_or(0)),
        There { has_tables: true, .. } => Err(PostgresOpenError::NotAStore(schema.clone())),
        _ => Ok(0),
    }
}

/// What is in the schema.
struct There {
    has_schema: bool,
    has_store: bool,
    has_tables: bool,
}

async fn look(client: &Client, schema: &SchemaName) -> Result<There, PostgresOpenError> {
    let found = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.store') IS NOT NULL,
                        EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace($1))";
    let row = client.query_one(found, &[&schema.as_str()]).await.map_err(|error| unreachable(&error))?;
    Ok(There { has_schema: row.get(0), has_store: row.get(1), has_tables: row.get(2) })
}

/// Makes schema and lease where they are not there. Of several nodes that do so at once, some are told that it exists.
async fn make_lease(client: &Client, schema: &SchemaName) -> Result<(), PostgresOpenError> {
    let name = schema.as_str();
    let There { has_schema, has_store, has_tables } = look(client, schema).await?;
    if has_store {
        return Ok(());
    }
    if has_tables {
        return Err(PostgresOpenError::NotAStore(schema.clone()));
    }
    // Who may use a schema need not have the right to make one.
    let make_schema = if has_schema { String::new() } else { format!("CREATE SCHEMA IF NOT EXISTS {name};") };
    let statements = format!(
        "{make_schema}
         CREATE TABLE IF NOT EXISTS {name}.store (
             only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
             version      integer NOT NULL, -- how many migrations it has had
             works_from   integer NOT NULL, -- the oldest version of a program that works with it
             lease_holder uuid,             -- who brings it to a newer version
             lease_until  timestamptz       -- by the clock of the server
         );
         INSERT INTO {name}.store (version, works_from) VALUES (0, 0) ON CONFLICT DO NOTHING;
         COMMENT ON TABLE {name}.store IS 'The version of these tables, and which node is changing it'"
    );
    match client.batch_execute(&statements).await {
        Ok(()) => Ok(()),
        // Made by another node in the meantime.
        Err(error) if is_there_already(&error) => Box::pin(make_lease(client, schema)).await,
        Err(error) => Err(unreachable(&error)),
    }
}

fn is_there_already(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_TABLE | &SqlState::DUPLICATE_SCHEMA)
    )
}

async fn version(client: &Client, known: usize) -> Result<i32, PostgresOpenError> {
    let select = "SELECT version, works_from FROM store";
    let row = client.query_one(select, &[]).await.map_err(|error| unreachable(&error))?;
    let (found, needed): (i32, i32) = (row.get(0), row.get(1));
    let known = i32::try_from(known).unwrap_or(i32::MAX);
    if needed > known { Err(PostgresOpenError::Newer { found, needed, known }) } else { Ok(found) }
}

/// A name for this connection alone.
async fn lease_holder(client: &Client) -> Result<Uuid, PostgresOpenError> {
    let row = client.query_one("SELECT gen_random_uuid()", &[]).await.map_err(|error| unreachable(&error))?;
    Ok(row.get(0))
}

/// Whether the lease is this node's now. One that is being used, its row being locked, is not waited for.
async fn take_lease(client: &Client, holder: Uuid) -> Result<bool, PostgresOpenError> {
    let update = "UPDATE store SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
                  WHERE only_row = (SELECT only_row FROM store
                                    WHERE lease_until IS NULL OR lease_until < now() OR lease_holder = $1
                                    FOR UPDATE SKIP LOCKED)";
    let taken = client.execute(update, &[&holder, &LEASE.as_secs_f64()]).await;
    Ok(taken.map_err(|error| unreachable(&error))? == 1)
}

async fn give_lease_back(client: &Client, holder: Uuid) -> Result<(), PostgresOpenError> {
    let update = "UPDATE store SET lease_holder = NULL, lease_until = NULL WHERE lease_holder = $1";
    client.execute(update, &[&holder]).await.map_err(|error| unreachable(&error))?;
    Ok(())
}

/// Whether nodes that go on had a table, or each of the two had one that the other wanted. Nothing has changed.
fn is_contended(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// One migration, and the lease given back; whether it was done. It is not where the lease is not this node's any more, or another
/// node has done it.
pub(super) async fn step(
    client: &mut Client,
    migration: Migration,
    version: i32,
    holder: Uuid,
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    // It may take longer than other statements do.
    let (lease, locked_within) = (LEASE.as_millis(), LOCKED_WITHIN.as_millis());
    let limits = format!("SET LOCAL statement_timeout TO {lease}; SET LOCAL lock_timeout TO {locked_within}");
    transaction.batch_execute(&limits).await?;
    if !is_held(&transaction, holder, version).await? {
        return Ok(false);
    }
    transaction.batch_execute(migration.statements).await?;
    let update = "UPDATE store SET version = $1, works_from = greatest(works_from, $2), lease_holder = NULL, lease_until = NULL";
    transaction.execute(update, &[&version, &migration.works_from]).await?;
    transaction.commit().await?;
    tracing::info!(migration = version, "the tables of the store were brought to a newer version");
    Ok(true)
}

/// Whether the lease is still this node's, and this migration the next one; nobody takes it before the transaction has ended.
async fn is_held(transaction: &Transaction<'_>, holder: Uuid, version: i32) -> Result<bool, Error> {
    let select = "SELECT 1 FROM store WHERE lease_holder = $1 AND version = $2 - 1 FOR UPDATE";
    Ok(transaction.query_opt(select, &[&holder, &version]).await?.is_some())
}

fn unreachable(error: &Error) -> PostgresOpenError {
    PostgresOpenError::Unreachable(text_of(error))
}
