//! Rows of `instance`.

use dps_core::ports::StoreError;
use dps_proto::ids::{IdScope, InstanceSecret};
use rusqlite::{Connection, OptionalExtension as _};

use super::columns::Columns;
use super::fault::Fault;
use crate::sealing::Sealer;

/// The sealed secret of an instance, which `fresh` becomes if the instance is new.
pub(super) fn open(connection: &Connection, scope: &IdScope, fresh: &[u8]) -> Result<Vec<u8>, Fault> {
    let select = "SELECT sealed_secret FROM instance WHERE id_scope = ?1";
    let known =
        connection.prepare_cached(select)?.query_row([scope.folded()], |row| row.get(0)).optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    let insert = "INSERT INTO instance (id_scope, id_scope_spelling, sealed_secret) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(insert)?.execute((scope.folded(), scope.as_str(), fresh))?;
    Ok(fresh.to_vec())
}

/// In the order of their creation.
pub(super) fn id_scopes(connection: &Connection) -> Result<Vec<IdScope>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT id_scope_spelling FROM instance ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut scopes = Vec::new();
    while let Some(row) = rows.next()? {
        scopes.push(Columns::of(row).parsed()?);
    }
    Ok(scopes)
}

pub(super) fn seal_secret(
    sealer: &Sealer,
    scope: &IdScope,
    secret: &InstanceSecret,
) -> Result<Vec<u8>, StoreError> {
    sealer.seal(&row_key(scope), secret.expose())
}

pub(super) fn open_secret(
    sealer: &Sealer,
    scope: &IdScope,
    sealed: &[u8],
) -> Result<InstanceSecret, StoreError> {
    let row_key = row_key(scope);
    let secret = sealer.open(&row_key, sealed)?;
    let bytes = <[u8; 32]>::try_from(secret.as_slice());
    bytes
        .map(InstanceSecret::new)
        .map_err(|_| StoreError::Unreadable(format!("the secret of {row_key} has no 32 bytes")))
}

fn row_key(scope: &IdScope) -> String {
    format!("instance/{}", scope.folded())
}
