//! Rows of `shared_access_policy`. Spec: DPS-INST-2, DPS-INST-6.

use dps_core::access::{Right, SharedAccessPolicy};
use dps_core::ports::StoreError;
use dps_proto::ids::{IdScope, PolicyName};
use rusqlite::{Connection, params};

use super::columns::Columns;
use super::fault::Fault;
use crate::sealed_keys::{open_keys, seal_keys};
use crate::sealing::Sealer;

/// The sealed keys of each.
pub(super) fn seal(
    sealer: &Sealer,
    scope: &IdScope,
    policies: &[SharedAccessPolicy],
) -> Result<Vec<Vec<u8>>, StoreError> {
    policies.iter().map(|policy| seal_keys(sealer, &row_key(scope, &policy.name), &policy.keys)).collect()
}

/// Makes them those of the instance, in this order; `sealed_keys` is what [`seal`] gave for them.
pub(super) fn replace(
    connection: &Connection,
    scope: &IdScope,
    policies: &[SharedAccessPolicy],
    sealed_keys: &[Vec<u8>],
) -> Result<(), Fault> {
    delete_all(connection, scope)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO shared_access_policy (id_scope, policy, spelling, position, rights, sealed_keys)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for ((position, policy), keys) in (0_u32..).zip(policies).zip(sealed_keys) {
        let rights: Vec<&str> = policy.rights.iter().map(|right| right.as_str()).collect();
        insert.execute(params![
            scope.folded(),
            policy.name.folded(),
            policy.name.as_str(),
            position,
            serde_json::Value::from(rights).to_string(),
            keys,
        ])?;
    }
    Ok(())
}

pub(super) fn delete_all(connection: &Connection, scope: &IdScope) -> Result<(), Fault> {
    let delete = "DELETE FROM shared_access_policy WHERE id_scope = ?1";
    connection.prepare_cached(delete)?.execute([scope.folded()])?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<Vec<SharedAccessPolicy>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT spelling, rights, sealed_keys FROM shared_access_policy WHERE id_scope = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([scope.folded()])?;
    let mut policies = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let name: PolicyName = columns.parsed()?;
        let rights = read_rights(&mut columns)?;
        let sealed: Vec<u8> = columns.value()?;
        let keys = open_keys(sealer, &row_key(scope, &name), &sealed)?;
        policies.push(SharedAccessPolicy { name, keys, rights });
    }
    Ok(policies)
}

fn read_rights(columns: &mut Columns<'_>) -> Result<Vec<Right>, Fault> {
    let text: String = columns.value()?;
    let words: Vec<String> = serde_json::from_str(&text).map_err(|why| columns.unreadable(why))?;
    words.iter().map(|word| word.parse().map_err(|why| columns.unreadable(why))).collect()
}

fn row_key(scope: &IdScope, name: &PolicyName) -> String {
    format!("shared-access-policy/{}/{}", scope.folded(), name.folded())
}
