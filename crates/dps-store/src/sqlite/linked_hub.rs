//! Rows of `linked_hub`. Spec: DPS-INST-2.

use dps_core::instance::HubKind;
use dps_core::instance_settings::HubSettings;
use dps_proto::ids::IdScope;
use ipnet::IpNet;
use rusqlite::{Connection, params};

use super::columns::{Columns, Word};
use super::fault::Fault;

impl Word for HubKind {
    const ALL: &'static [Self] = &HubKind::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// Makes them those of the instance, in this order.
pub(super) fn replace(connection: &Connection, scope: &IdScope, hubs: &[HubSettings]) -> Result<(), Fault> {
    delete_all(connection, scope)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO linked_hub (
             id_scope, hub, hub_spelling, position, kind, allocation_weight, applies_policy, networks)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (position, hub) in (0_u32..).zip(hubs) {
        insert.execute(params![
            scope.folded(),
            hub.name.folded(),
            hub.name.as_str(),
            position,
            hub.kind.word(),
            hub.allocation_weight,
            hub.applies_allocation_policy,
            serde_json::Value::from_iter(hub.networks.iter().map(ToString::to_string)).to_string(),
        ])?;
    }
    Ok(())
}

pub(super) fn delete_all(connection: &Connection, scope: &IdScope) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM linked_hub WHERE id_scope = ?1")?.execute([scope.folded()])?;
    Ok(())
}

pub(super) fn list(connection: &Connection, scope: &IdScope) -> Result<Vec<HubSettings>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT hub_spelling, kind, allocation_weight, applies_policy, networks FROM linked_hub
         WHERE id_scope = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([scope.folded()])?;
    let mut hubs = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        hubs.push(HubSettings {
            name: columns.parsed()?,
            kind: columns.word()?,
            allocation_weight: columns.value()?,
            applies_allocation_policy: columns.value()?,
            networks: read_networks(&mut columns)?,
        });
    }
    Ok(hubs)
}

fn read_networks(columns: &mut Columns<'_>) -> Result<Vec<IpNet>, Fault> {
    let text: String = columns.value()?;
    let networks: Vec<String> = serde_json::from_str(&text).map_err(|why| columns.unreadable(why))?;
    networks.iter().map(|network| network.parse().map_err(|why| columns.unreadable(why))).collect()
}
