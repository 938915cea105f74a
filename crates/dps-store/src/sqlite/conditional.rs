//! Etags and deletions of the three tables that are written on a condition. Spec: DPS-STORE-10.

use dps_core::ports::{Condition, WriteError};
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::Fault;
use crate::condition::permits_deletion;

/// A table whose key is an ID scope and an id, `?1` and `?2` below, both folded.
pub(super) struct Conditional {
    pub(super) select_etag: &'static str,
    pub(super) delete: &'static str,
}

impl Conditional {
    /// The etag of a row, if there is one.
    pub(super) fn etag(
        &self,
        connection: &Connection,
        scope: &str,
        id: &str,
    ) -> Result<Option<String>, Fault> {
        let mut statement = connection.prepare_cached(self.select_etag)?;
        Ok(statement.query_row([scope, id], |row| row.get(0)).optional()?)
    }

    pub(super) fn delete(
        &self,
        connection: &Connection,
        scope: &str,
        id: &str,
        condition: &Condition,
    ) -> Result<Result<(), WriteError>, Fault> {
        if let Err(refused) = permits_deletion(condition, self.etag(connection, scope, id)?.as_deref()) {
            return Ok(Err(refused));
        }
        connection.prepare_cached(self.delete)?.execute([scope, id])?;
        Ok(Ok(()))
    }
}
