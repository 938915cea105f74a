//! What a store in SQLite and one in PostgreSQL have in common, table by table, so that one becomes the other. Spec: DPS-STORE-40.
//!
//! [`table`] names every column of both and what its values are; [`crate::SqliteSource`] reads rows by it, and
//! [`crate::PostgresStore::fill`] writes them. Rows go from one to the other in batches of bounded size, over a channel that holds few.

mod batch;
mod cell;
mod table;

pub(crate) use batch::{BATCHES_AHEAD, Batch};
pub(crate) use cell::Cell;
#[cfg(test)]
pub(crate) use table::OF_POSTGRES_ALONE;
pub(crate) use table::{Column, CopiedTable, Kind, Secret, TABLES};

/// How many rows of a table there are on either side. Spec: DPS-STORE-45.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableCount {
    /// Its name, which is the same in both.
    pub table: &'static str,
    /// Rows in SQLite.
    pub source: u64,
    /// Rows in PostgreSQL.
    pub target: u64,
}
