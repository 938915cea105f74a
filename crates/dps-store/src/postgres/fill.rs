//! A store in SQLite becomes one here. Spec: DPS-STORE-40 to DPS-STORE-45.
//!
//! All of it is one transaction, which holds every table from its beginning on. PostgreSQL has no limit for what a transaction writes,
//! and undoes one by forgetting it, so that this costs millions of rows nothing; and it needs no mark by which a node would know of
//! tables that are not whole yet, which nodes of older versions would not heed. Whatever ends it early, the end of this process, of the
//! connection or of the server, leaves the tables as empty as they were.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use dps_core::ports::StoreError;
use tokio::sync::mpsc;
use tokio_postgres::Error;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::fault::text_of;
use super::options::{PostgresOpenError, PostgresOptions};
use super::pool::Connections;
use super::table::Value;
use super::{PostgresStore, schema};
use crate::SqliteSource;
use crate::sealing::Sealer;
use crate::transfer::{BATCHES_AHEAD, Batch, Cell, CopiedTable, Kind, TABLES, TableCount};

/// How long the tables are waited for, which others may be using.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
/// How long the server may be silent, and this process between two tables. Much is written at once, and disks are slow then.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a store was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] PostgresOpenError),
    /// There is something in it.
    #[error("the schema {schema} is not empty: there are rows in its table {table}")]
    NotEmpty {
        /// Where the tables are.
        schema: Box<str>,
        /// The first that has rows.
        table: Box<str>,
    },
    /// Others hold its tables.
    #[error("the tables are in use: by another copy, or by nodes that are at work on them")]
    Busy,
    /// A row of the source cannot be read. Nothing was kept.
    #[error("what is to be copied cannot be read: {0}")]
    Source(StoreError),
    /// The server refused, or the connection to it broke. Nothing was kept.
    #[error("the database did not take the copy: {0}")]
    Database(String),
    /// As many rows were not there as in the source. Nothing was kept.
    #[error("there are not as many rows as in what was copied: {}", differences(.0))]
    Differs(Vec<TableCount>),
    /// The connection broke after the server had been told to keep everything: it has, or it has kept nothing.
    #[error(
        "the connection broke while the copy was being committed, so that all of it is there or nothing: {0}"
    )]
    Unconfirmed(String),
}

fn differences(counts: &[TableCount]) -> String {
    let of_one = |TableCount { table, source, target }: &TableCount| format!("{table} {target} of {source}");
    let differing = counts.iter().filter(|count| count.source != count.target);
    differing.map(of_one).collect::<Vec<_>>().join(", ")
}

/// A failure of the server or of the connection, before the end.
fn database(error: Error) -> FillError {
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => FillError::Busy,
        _ => FillError::Database(text_of(&error)),
    }
}

impl PostgresStore {
    /// Makes the tables, or brings them to the newest version, and fills them with all that `source` has, its secrets sealed by
    /// `sealer`. No row may be there, and nobody reads or writes one until this has ended. `told` is given how many rows were written
    /// so far, again and again. It needs a Tokio runtime. What it gives was counted, in both, before it was kept.
    ///
    /// # Errors
    /// The tables are as they were, but for [`FillError::Unconfirmed`].
    pub async fn fill(
        options: &PostgresOptions,
        sealer: Sealer,
        source: SqliteSource,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<TableCount>, FillError> {
        let statement_timeout = options.statement_timeout.max(SILENCE);
        let options = PostgresOptions { statement_timeout, ..options.clone() };
        let connections = Connections::new(&options, 1)?;
        let mut session = connections.get_first().await?;
        let client = session.client_mut().map_err(PostgresOpenError::unreachable)?;
        schema::migrate(client, &options.schema, options.migration_timeout).await?;
        // Dropped before its end, it is undone.
        let transaction = client.transaction().await.map_err(database)?;
        lock(&transaction).await?;
        if let Some(table) = first_with_rows(&transaction).await? {
            return Err(FillError::NotEmpty { schema: options.schema.as_str().into(), table });
        }
        let counts = write_all(&transaction, source, Arc::new(sealer), told).await?;
        if counts.iter().any(|count| count.source != count.target) {
            return Err(FillError::Differs(counts));
        }
        match transaction.commit().await {
            Ok(()) => Ok(counts),
            Err(refused) if refused.as_db_error().is_some() => Err(database(refused)),
            Err(unknown) => Err(FillError::Unconfirmed(text_of(&unknown))),
        }
    }
}

/// Lets nobody read or write a row before the transaction has ended: a node that saw empty tables would refuse all devices, and write
/// rows of its own. The version of the tables can be read, so that who comes later learns what it waits for, and stays as it is.
/// Spec: DPS-STORE-43.
async fn lock(transaction: &Transaction<'_>) -> Result<(), FillError> {
    let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let statements = format!(
        "SET LOCAL statement_timeout TO 0;
         SET LOCAL lock_timeout TO {};
         SET LOCAL enable_seqscan TO on;
         LOCK TABLE store IN SHARE MODE;
         LOCK TABLE turn, {} IN ACCESS EXCLUSIVE MODE",
        LOCK_WITHIN.as_millis(),
        tables.join(", ")
    );
    transaction.batch_execute(&statements).await.map_err(database)
}

async fn first_with_rows(transaction: &Transaction<'_>) -> Result<Option<Box<str>>, FillError> {
    let of_one = |table: &CopiedTable| {
        let name = table.name;
        format!("SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})")
    };
    let select = TABLES.iter().map(of_one).collect::<Vec<_>>().join(" UNION ALL ");
    let row = transaction.query_opt(&format!("{select} LIMIT 1"), &[]).await.map_err(database)?;
    Ok(row.map(|row| row.get::<_, &str>(0).into()))
}

/// Writes every row, sees to what is numbered, and counts what is there then. Spec: DPS-STORE-40, DPS-STORE-45.
async fn write_all(
    transaction: &Transaction<'_>,
    mut source: SqliteSource,
    sealer: Arc<Sealer>,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Vec<TableCount>, FillError> {
    let mut written = 0;
    for table in TABLES {
        source = write(transaction, table, source, &sealer, &mut |rows| {
            written += rows;
            told(written);
        })
        .await?;
    }
    go_on_above(transaction).await?;
    let mut counts = Vec::with_capacity(TABLES.len());
    for (table, rows) in source.rows_by_table() {
        let count = format!("SELECT count(*) FROM {}", table.name);
        let row = transaction.query_one(&count, &[]).await.map_err(database)?;
        let target = row.get::<_, i64>(0).unsigned_abs();
        counts.push(TableCount { table: table.name, source: rows, target });
    }
    Ok(counts)
}

/// Writes all rows of a table, as they are read; gives the source back. Reading is work for a thread of its own, and is held up while
/// the server takes its time. Spec: DPS-STORE-44.
async fn write(
    transaction: &Transaction<'_>,
    table: &'static CopiedTable,
    source: SqliteSource,
    sealer: &Arc<Sealer>,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<SqliteSource, FillError> {
    let (give, mut batches) = mpsc::channel::<Batch>(BATCHES_AHEAD);
    let sealer = Arc::clone(sealer);
    let reading = tokio::task::spawn_blocking(move || {
        let done = source.read(table, &sealer, &mut |batch| give.blocking_send(batch).is_ok());
        (source, done)
    });
    let sink = transaction.copy_in::<_, Bytes>(&copy_statement(table)).await.map_err(database)?;
    let types: Vec<Type> = table.columns.iter().map(|column| type_of(column.kind)).collect();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let mut is_taken = true;
    while let Some(batch) = batches.recv().await {
        for row in batch.rows() {
            is_taken &= writer.as_mut().write_raw(row.iter().map(value)).await.is_ok();
        }
        if !is_taken {
            break;
        }
        told(batch.rows().len() as u64);
    }
    drop(batches);
    let (source, done) = reading
        .await
        .map_err(|_| FillError::Source(StoreError::Unreadable("its reader ended".to_owned())))?;
    // Before the server is told that these were all.
    done.map_err(FillError::Source)?;
    // Where a row was not taken, it says why.
    writer.finish().await.map_err(database)?;
    if is_taken { Ok(source) } else { Err(FillError::Database("PostgreSQL took not every row".to_owned())) }
}

fn copy_statement(table: &CopiedTable) -> String {
    let columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, columns.join(", "))
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Text | Kind::Prose => Type::TEXT,
        Kind::Texts => Type::TEXT_ARRAY,
        Kind::Bytes | Kind::Secret(_) => Type::BYTEA,
        Kind::Integer => Type::INT8,
        Kind::Boolean => Type::BOOL,
        Kind::Uuid => Type::UUID,
    }
}

fn value(cell: &Cell) -> Value<'_> {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Texts(texts) => Value::Texts(texts.iter().map(|text| text.as_str().into()).collect()),
        Cell::Bytes(bytes) => bytes.as_slice().into(),
        Cell::Integer(number) => (*number).into(),
        Cell::Boolean(is_so) => (*is_so).into(),
        Cell::Uuid(uuid) => (*uuid).into(),
    }
}

/// Has new instances and audit records numbered above those that were copied, and nodes that are up look at the settings anew.
async fn go_on_above(transaction: &Transaction<'_>) -> Result<(), FillError> {
    for table in ["instance", "audit"] {
        let set = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'number'), max(number)) FROM {table} HAVING max(number) > 0"
        );
        transaction.query_opt(&set, &[]).await.map_err(database)?;
    }
    let turn = "UPDATE turn SET taken = taken + 1 WHERE name = 'instances'";
    transaction.execute(turn, &[]).await.map_err(database)?;
    Ok(())
}
