//! Rows of `shared_access_policy`. Spec: DPS-INST-2, DPS-INST-6.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Transaction};
use dps_core::access::SharedAccessPolicy;
use dps_core::ports::StoreError;
use dps_proto::ids::{IdScope, PolicyName};

use super::columns::Columns;
use super::fault::Fault;
use super::table::{Rows, Value};
use super::transaction::{execute, query};
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
pub(super) async fn replace(
    transaction: &Transaction<'_>,
    scope: &IdScope,
    policies: &[SharedAccessPolicy],
    sealed_keys: &[Vec<u8>],
) -> Result<(), Fault> {
    delete_all(transaction, scope).await?;
    let insert =
        "INSERT INTO shared_access_policy (id_scope, policy, spelling, position, rights, sealed_keys)
                  VALUES ($1, $2, $3, $4, $5, $6)";
    for ((position, policy), keys) in (0_u32..).zip(policies).zip(sealed_keys) {
        let row = [
            scope.folded().into(),
            policy.name.folded().into(),
            policy.name.as_str().into(),
            position.into(),
            Value::Texts(policy.rights.iter().map(|right| right.as_str().into()).collect()),
            keys.as_slice().into(),
        ];
        execute(transaction, insert, &Rows::params_of(&row)).await?;
    }
    Ok(())
}

pub(super) async fn delete_all(transaction: &Transaction<'_>, scope: &IdScope) -> Result<(), Fault> {
    execute(transaction, "DELETE FROM shared_access_policy WHERE id_scope = $1", &[&scope.folded()]).await?;
    Ok(())
}

/// Those of the instance of that ID scope, or of all, by folded ID scope, in their order.
pub(super) async fn list(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: Option<&IdScope>,
) -> Result<HashMap<Box<str>, Vec<SharedAccessPolicy>>, Fault> {
    let select = "SELECT id_scope, spelling, rights, sealed_keys FROM shared_access_policy
                  WHERE id_scope = coalesce($1, id_scope) ORDER BY id_scope, position";
    let mut policies: HashMap<Box<str>, Vec<SharedAccessPolicy>> = HashMap::new();
    for row in query(on, select, &[&scope.map(IdScope::folded)]).await? {
        let mut columns = Columns::of(&row);
        let scope: IdScope = columns.parsed()?;
        let name: PolicyName = columns.parsed()?;
        let rights = columns.all_parsed()?;
        let sealed: &[u8] = columns.value()?;
        let keys = open_keys(sealer, &row_key(&scope, &name), sealed)?;
        policies.entry(scope.folded().into()).or_default().push(SharedAccessPolicy { name, keys, rights });
    }
    Ok(policies)
}

fn row_key(scope: &IdScope, name: &PolicyName) -> String {
    format!("shared-access-policy/{}/{}", scope.folded(), name.folded())
}
