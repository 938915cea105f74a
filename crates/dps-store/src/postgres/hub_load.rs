//! What is at each hub, counted. Spec: DPS-REG-47.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dps_core::ports::HubLoad;
use dps_proto::ids::{HubName, IdScope};

use super::columns::Columns;
use super::fault::Fault;
use super::transaction::{Work, query};
use crate::hub_loads::HubLoads;

/// Where devices live, and where they go: a target is there in state assigning alone.
pub(super) const COUNT_RECORDS: &str =
    "SELECT hub, target_hub, count(*) FROM registration WHERE id_scope = $1 GROUP BY hub, target_hub";

pub(super) const COUNT_CLEAN_UPS: &str =
    "SELECT min(hub_spelling), count(*) FROM clean_up WHERE id_scope = $1 GROUP BY hub";

/// Steps through all records of the instance once.
pub(super) struct Count<'r> {
    pub(super) scope: &'r IdScope,
}

#[async_trait]
impl Work for Count<'_> {
    type Outcome = Vec<HubLoad>;

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Vec<HubLoad>, Fault> {
        let scope = self.scope.folded();
        let mut loads = HubLoads::default();
        for row in query(transaction, COUNT_RECORDS, &[&scope]).await? {
            let mut columns = Columns::of(&row);
            let (lives, goes): (Option<HubName>, Option<HubName>) =
                (columns.optional()?, columns.optional()?);
            let count: u64 = columns.number()?;
            lives.into_iter().for_each(|hub| loads.of(&hub).devices += count);
            goes.into_iter().for_each(|hub| loads.of(&hub).assigning += count);
        }
        for row in query(transaction, COUNT_CLEAN_UPS, &[&scope]).await? {
            let mut columns = Columns::of(&row);
            let hub: HubName = columns.parsed()?;
            loads.of(&hub).clean_ups += columns.number::<u64>()?;
        }
        Ok(loads.into_list())
    }
}
