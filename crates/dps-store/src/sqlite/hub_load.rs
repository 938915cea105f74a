//! What is at each hub, counted. Spec: DPS-REG-47.

use dps_core::ports::HubLoad;
use dps_proto::ids::{HubName, IdScope};
use rusqlite::Connection;

use super::columns::Columns;
use super::fault::Fault;
use crate::hub_loads::HubLoads;

/// Where devices live, and where they go: a target is there in state assigning alone.
pub(super) const COUNT_RECORDS: &str =
    "SELECT hub, target_hub, count(*) FROM registration WHERE id_scope = ?1 GROUP BY hub, target_hub";

pub(super) const COUNT_CLEAN_UPS: &str =
    "SELECT min(hub_spelling), count(*) FROM clean_up WHERE id_scope = ?1 GROUP BY hub";

/// Steps through all records of the instance once.
pub(super) fn list(connection: &Connection, scope: &IdScope) -> Result<Vec<HubLoad>, Fault> {
    let mut loads = HubLoads::default();
    let mut statement = connection.prepare_cached(COUNT_RECORDS)?;
    let mut rows = statement.query([scope.folded()])?;
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let (lives, goes): (Option<HubName>, Option<HubName>) = (columns.optional()?, columns.optional()?);
        let count = count(&mut columns)?;
        lives.into_iter().for_each(|hub| loads.of(&hub).devices += count);
        goes.into_iter().for_each(|hub| loads.of(&hub).assigning += count);
    }
    let mut statement = connection.prepare_cached(COUNT_CLEAN_UPS)?;
    let mut rows = statement.query([scope.folded()])?;
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let hub: HubName = columns.parsed()?;
        loads.of(&hub).clean_ups += count(&mut columns)?;
    }
    Ok(loads.into_list())
}

fn count(columns: &mut Columns<'_>) -> Result<u64, Fault> {
    Ok(columns.value::<i64>()?.unsigned_abs())
}
