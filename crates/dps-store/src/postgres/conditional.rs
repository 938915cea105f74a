//! Etags and deletions of the tables that are written on a condition. Spec: DPS-STORE-10.

use deadpool_postgres::Transaction;
use dps_core::ports::{Condition, WriteError};

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{execute, query_opt};
use crate::condition::permits_deletion;

/// A table whose key is an ID scope and an id, `$1` and `$2` below, both folded.
pub(super) struct Conditional {
    /// Selects the etag and locks the row.
    pub(super) lock_etag: &'static str,
    pub(super) delete: &'static str,
}

impl Conditional {
    /// The etag of a row, if there is one, which nobody else changes before the transaction has ended.
    pub(super) async fn lock(
        &self,
        transaction: &Transaction<'_>,
        scope: &str,
        id: &str,
    ) -> Result<Option<String>, Fault> {
        let row = query_opt(transaction, self.lock_etag, &[&scope, &id]).await?;
        row.map(|row| Columns::of(&row).value()).transpose()
    }

    pub(super) async fn delete(
        &self,
        transaction: &Transaction<'_>,
        (scope, id): (&str, &str),
        condition: &Condition,
    ) -> Result<Result<(), WriteError>, Fault> {
        let stored = self.lock(transaction, scope, id).await?;
        if let Err(refused) = permits_deletion(condition, stored.as_deref()) {
            return Ok(Err(refused));
        }
        execute(transaction, self.delete, &[&scope, &id]).await?;
        Ok(Ok(()))
    }
}
