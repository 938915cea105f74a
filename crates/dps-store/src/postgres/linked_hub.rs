//! Rows of `linked_hub`. Spec: DPS-INST-2, DPS-HUB-10.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Transaction};
use dps_core::instance_settings::HubSettings;
use dps_core::ports::StoreError;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{HubName, IdScope};

use super::columns::Columns;
use super::fault::Fault;
use super::table::{Rows, Value};
use super::transaction::{execute, query};
use crate::sealing::Sealer;
use crate::words::Word as _;

/// The sealed connection string of each that has one. Spec: DPS-STORE-6.
pub(super) fn seal(
    sealer: &Sealer,
    scope: &IdScope,
    hubs: &[HubSettings],
) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let seal = |hub: &HubSettings| {
        let text = hub.connection_string.as_ref().map(ServiceConnectionString::expose);
        text.map(|text| sealer.seal(&row_key(scope, &hub.name), text.as_bytes())).transpose()
    };
    hubs.iter().map(seal).collect()
}

/// Makes them those of the instance, in this order; `connection_strings` is what [`seal`] gave for them.
pub(super) async fn replace(
    transaction: &Transaction<'_>,
    scope: &IdScope,
    hubs: &[HubSettings],
    connection_strings: &[Option<Vec<u8>>],
) -> Result<(), Fault> {
    delete_all(transaction, scope).await?;
    let insert = "INSERT INTO linked_hub (
             id_scope, hub, hub_spelling, position, kind, allocation_weight, applies_policy, networks, is_draining,
             sealed_connection_string)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    for ((position, hub), connection_string) in (0_u32..).zip(hubs).zip(connection_strings) {
        let networks = hub.networks.iter().map(|network| network.to_string().into()).collect();
        let row = [
            scope.folded().into(),
            hub.name.folded().into(),
            hub.name.as_str().into(),
            position.into(),
            hub.kind.word().into(),
            hub.allocation_weight.into(),
            hub.applies_allocation_policy.into(),
            Value::Texts(networks),
            hub.is_draining.into(),
            connection_string.as_deref().into(),
        ];
        execute(transaction, insert, &Rows::params_of(&row)).await?;
    }
    Ok(())
}

pub(super) async fn delete_all(transaction: &Transaction<'_>, scope: &IdScope) -> Result<(), Fault> {
    execute(transaction, "DELETE FROM linked_hub WHERE id_scope = $1", &[&scope.folded()]).await?;
    Ok(())
}

/// Those of the instance of that ID scope, or of all, by folded ID scope, in their order.
pub(super) async fn list(
    on: &impl GenericClient,
    sealer: &Sealer,
    scope: Option<&IdScope>,
) -> Result<HashMap<Box<str>, Vec<HubSettings>>, Fault> {
    let select =
        "SELECT id_scope, hub_spelling, kind, allocation_weight, applies_policy, networks, is_draining,
                         sealed_connection_string
                  FROM linked_hub WHERE id_scope = coalesce($1, id_scope) ORDER BY id_scope, position";
    let mut hubs: HashMap<Box<str>, Vec<HubSettings>> = HashMap::new();
    for row in query(on, select, &[&scope.map(IdScope::folded)]).await? {
        let mut columns = Columns::of(&row);
        let scope: IdScope = columns.parsed()?;
        let name: HubName = columns.parsed()?;
        let hub = HubSettings {
            kind: columns.word()?,
            allocation_weight: columns.number()?,
            applies_allocation_policy: columns.value()?,
            networks: columns.all_parsed()?,
            is_draining: columns.value()?,
            connection_string: read_connection_string(&mut columns, sealer, &row_key(&scope, &name))?,
            name,
        };
        hubs.entry(scope.folded().into()).or_default().push(hub);
    }
    Ok(hubs)
}

fn read_connection_string(
    columns: &mut Columns<'_>,
    sealer: &Sealer,
    row_key: &str,
) -> Result<Option<ServiceConnectionString>, Fault> {
    let Some(sealed) = columns.value::<Option<&[u8]>>()? else { return Ok(None) };
    let opened = sealer.open(row_key, sealed)?;
    let read = std::str::from_utf8(&opened).ok().and_then(|text| text.parse().ok());
    let unreadable = || Fault::unreadable(format!("the secret of {row_key} is no connection string"));
    read.map(Some).ok_or_else(unreadable)
}

fn row_key(scope: &IdScope, hub: &HubName) -> String {
    format!("linked-hub/{}/{}", scope.folded(), hub.folded())
}
