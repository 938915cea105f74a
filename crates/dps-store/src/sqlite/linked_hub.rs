//! Rows of `linked_hub`. Spec: DPS-INST-2, DPS-HUB-10.

use dps_core::instance_settings::HubSettings;
use dps_core::ports::StoreError;
use dps_proto::connection_string::ServiceConnectionString;
use dps_proto::ids::{HubName, IdScope};
use ipnet::IpNet;
use rusqlite::{Connection, params};

use super::columns::Columns;
use super::fault::Fault;
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
pub(super) fn replace(
    connection: &Connection,
    scope: &IdScope,
    hubs: &[HubSettings],
    connection_strings: &[Option<Vec<u8>>],
) -> Result<(), Fault> {
    delete_all(connection, scope)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO linked_hub (
             id_scope, hub, hub_spelling, position, kind, allocation_weight, applies_policy, networks, is_draining,
             sealed_connection_string)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for ((position, hub), connection_string) in (0_u32..).zip(hubs).zip(connection_strings) {
        insert.execute(params![
            scope.folded(),
            hub.name.folded(),
            hub.name.as_str(),
            position,
            hub.kind.word(),
            hub.allocation_weight,
            hub.applies_allocation_policy,
            serde_json::Value::from_iter(hub.networks.iter().map(ToString::to_string)).to_string(),
            hub.is_draining,
            connection_string,
        ])?;
    }
    Ok(())
}

pub(super) fn delete_all(connection: &Connection, scope: &IdScope) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM linked_hub WHERE id_scope = ?1")?.execute([scope.folded()])?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    sealer: &Sealer,
    scope: &IdScope,
) -> Result<Vec<HubSettings>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT hub_spelling, kind, allocation_weight, applies_policy, networks, is_draining, sealed_connection_string
         FROM linked_hub WHERE id_scope = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([scope.folded()])?;
    let mut hubs = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let name: HubName = columns.parsed()?;
        hubs.push(HubSettings {
            kind: columns.word()?,
            allocation_weight: columns.value()?,
            applies_allocation_policy: columns.value()?,
            networks: read_networks(&mut columns)?,
            is_draining: columns.value()?,
            connection_string: read_connection_string(&mut columns, sealer, &row_key(scope, &name))?,
            name,
        });
    }
    Ok(hubs)
}

fn read_networks(columns: &mut Columns<'_>) -> Result<Vec<IpNet>, Fault> {
    let text: String = columns.value()?;
    let networks: Vec<String> = serde_json::from_str(&text).map_err(|why| columns.unreadable(why))?;
    networks.iter().map(|network| network.parse().map_err(|why| columns.unreadable(why))).collect()
}

fn read_connection_string(
    columns: &mut Columns<'_>,
    sealer: &Sealer,
    row_key: &str,
) -> Result<Option<ServiceConnectionString>, Fault> {
    let Some(sealed) = columns.value::<Option<Vec<u8>>>()? else { return Ok(None) };
    let opened = sealer.open(row_key, &sealed)?;
    let read = std::str::from_utf8(&opened).ok().and_then(|text| text.parse().ok());
    let unreadable = || Fault::unreadable(format!("the secret of {row_key} is no connection string"));
    read.map(Some).ok_or_else(unreadable)
}

fn row_key(scope: &IdScope, hub: &HubName) -> String {
    format!("linked-hub/{}/{}", scope.folded(), hub.folded())
}
